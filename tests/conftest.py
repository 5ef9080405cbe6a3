"""Shared by all tests: one thread, repeatable property tests, a fixture for the spaces of `small_spaces.py`."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import fresh
from file_server import FileServer, forget_library, serving_files
from onceforall import Space
from small_spaces import SMALL, SPACES

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes share few cores; set before torch is loaded
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="onceforall-tests-")  # decoded images, not among the user's own
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored, also by what tests start

LONG = ("app", "cli", "export", "latency", "pipeline", "train")  # folders

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck))
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What tests print of paths that are not UTF-8 cannot be sent from one process of pytest-xdist to another."""
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    if report.longrepr is not None and not isinstance(report.longrepr, tuple) and _sendable(text := str(report.longrepr)) != text:
        report.longrepr = _sendable(text)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space, the full-size one too: for tests that compute little."""
    return SPACES[request.param]


@pytest.fixture(params=SMALL)
def small_space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space whose networks run in milliseconds."""
    return SPACES[request.param]


@pytest.fixture(autouse=True)
def _shared_runs_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test does to a run that others use too must not change what these see: they may come in any order."""
    runs = [request.getfixturevalue(name) for name in ("trained", "measured") if name in request.fixturenames]
    before = _contents(runs)
    yield
    assert _contents(runs) == before, "this test changed a run that it shares with others: let it take run_copy"


@pytest.fixture(autouse=True)
def _forked_programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of exported folders start at once, but in `tests/export` and in the demo, where they are the product's own."""
    part = request.path.relative_to(Path(__file__).parent).parts[0]
    if part in ("app", "cli", "pipeline", "test_docs.py") and request.path.name != "test_demo.py":
        monkeypatch.setattr("onceforall.export.program.subprocess", fresh.FORKED)


def _contents(runs: list[object]) -> dict[Path, tuple[int, int]]:
    """Sizes and times of files, in which `measured` may stand for something else in other folders."""
    files = [path for run in runs if isinstance(run, Path) for path in run.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def hub_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A Hugging Face Hub on loopback, and an empty cache."""
    with serving_files() as server:
        settings = {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        forget_library()
        yield server
        forget_library()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """What ONCEFORALL_MIRROR names, and an empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving_files() as server:
        monkeypatch.setenv("ONCEFORALL_MIRROR", server.address)
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-skipped", type=Path, metavar="FILE", help="write the tests that are skipped, each with a tab and why")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--write-skipped")
    if file is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Skipped(file))


class Skipped:
    """Writes what was skipped, one by one, for `.ci/run` to run it where more is installed; pytest's own summary has no names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_text("", encoding="utf-8")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):  # else an expected failure
            reason = " ".join(report.longrepr[2].removeprefix("Skipped: ").split())
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\t{reason}\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of many seconds first: what processes of pytest-xdist take from each other at the end is short then."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in LONG)


def pytest_collection_finish() -> None:
    """Torch and all the tests are hundreds of thousands of objects that stay; collections of garbage need not go over them.

    Nor need they begin after every 700 new objects, of which a model that is read makes many: that was a tenth of all the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
