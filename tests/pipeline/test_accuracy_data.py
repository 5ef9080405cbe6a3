"""`ofa accuracy measure`: rows that are neither lost nor doubled, however often what measures them is killed."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from onceforall import Arch
from onceforall.accuracy import AccuracyRow, read_rows
from onceforall.cli import run as ofa
from onceforall.errors import ArchError, DeviceError, MissingExtraError, SpaceError, TrainingError
from onceforall.pipeline import measure_accuracy
from onceforall.pipeline.evaluate import accuracy_of
from onceforall.pipeline.run_directory.run import Run
from warm import Ofa, two_processes_of

SUBNETS = 150
LIMIT_S = 200


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[AccuracyRow]:
    """What an undisturbed process measures."""
    return measure_accuracy(Path(shutil.copytree(trained, tmp_path_factory.mktemp("whole") / "run")), subnets=SUBNETS)


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def values(rows: list[AccuracyRow]) -> dict[Arch, tuple[object, ...]]:
    return {row.arch: (row.top1, pytest.approx(row.loss, rel=1e-5), row.images, row.top1_half) for row in rows}


def check_all_once(run: Path, whole: list[AccuracyRow]) -> None:
    """In the files, not only after reading, which drops doubles."""
    written = [text for part in (run / "accuracy").glob("part-*.parquet") for text in pq.read_table(part)["arch"].to_pylist()]
    assert Counter(written) == Counter(row.arch.to_json() for row in whole)
    assert values(read_rows(run / "accuracy", Run.open(run).space)) == values(whole)


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def parts(run: Path) -> int:
    return len(list((run / "accuracy").glob("part-*.parquet")))


def wait_for(process: subprocess.Popen[str] | Ofa, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while process.poll() is None and not condition() and time.monotonic() < end:
        time.sleep(0.005)


def below(pid: int) -> dict[int, str]:
    """Processes that a process started, and those that they started, with their command lines."""
    found: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            child = int(stat.parent.name)
            found |= {child: command} | below(child)
    return found


def test_killed_and_given_again(own: Path, whole: list[AccuracyRow]) -> None:
    command = ["measure-accuracy", str(own), "--subnets", str(SUBNETS)]
    rng = np.random.default_rng(0)
    for _ in range(2):
        before = parts(own)
        process = Ofa(command)
        wait_for(process, lambda before=before: parts(own) > before)  # type: ignore[misc]
        time.sleep(float(rng.uniform(0, 0.2)))
        process.send_signal(signal.SIGKILL)
        process.communicate(LIMIT_S)
        assert process.returncode == -signal.SIGKILL, "it was killed before it was done"
    kept = read_rows(own / "accuracy", Run.open(own).space)
    assert 0 < len(kept) < SUBNETS
    process = Ofa([*command, "--json"])
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert [Arch.from_json(json.dumps(row["arch"])) for row in json.loads(out)] == [row.arch for row in whole]
    check_all_once(own, whole)
    assert not (own / "test_openings.jsonl").exists(), "test images stay closed"


def test_a_process_of_several_is_killed(own: Path, whole: list[AccuracyRow]) -> None:
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "onceforall", "measure-accuracy", str(own)]
    command += ["--subnets", str(SUBNETS)]
    with start(*command) as process:
        wait_for(process, lambda: parts(own) > 1)
        victim = max(pid for pid, text in below(process.pid).items() if "measure-accuracy" in text)
        os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert 0 < len(read_rows(own / "accuracy", Run.open(own).space)) < SUBNETS
    ended = two_processes_of(command[command.index("measure-accuracy") :])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{SUBNETS} sub-networks on ")
    check_all_once(own, whole)
    assert {path.stem.count("-") for path in (own / "accuracy").glob("part-*")} == {1, 2}, "both processes measured"


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray: pip install 'onceforall[cluster]'")


@needs_ray
def test_a_worker_of_a_cluster_is_killed(own: Path, whole: list[AccuracyRow]) -> None:
    with start("onceforall", "measure-accuracy", str(own), "--subnets", str(SUBNETS), "--ray", "local") as process:
        wait_for(process, lambda: parts(own) > 1)
        workers = [pid for pid, text in below(process.pid).items() if text.startswith("ray::_by_worker")]
        os.kill(workers[0], signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert out.startswith(f"{SUBNETS} sub-networks on ")
    check_all_once(own, whole)


@needs_ray
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "nothing answers there .*: start a cluster with ray start, or use local"),
        ("nowhere", "give host:port of a cluster's head, auto, or local"),
    ],
)
def test_a_cluster_that_is_not_there(address: str, message: str, own: Path) -> None:
    with pytest.raises(DeviceError, match=f"--ray {address}: {message}"):
        measure_accuracy(own, subnets=4, ray=address)


def test_without_ray(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"the package 'ray', which is not installed: pip install 'onceforall\[cluster\]'"):
        measure_accuracy(own, subnets=4, ray="local")


def test_given_networks_as_evaluate_measures_them(own: Path) -> None:
    run = Run.open(own)
    archs = run.space.archs(run.space.sample_genes(np.random.default_rng(0), 3))
    rows = measure_accuracy(own, archs=[*archs, archs[0]])
    assert [row.arch for row in rows] == archs
    supernet, splits = run.supernet(), run.splits()
    for row in rows:
        found = accuracy_of(run, supernet, row.arch, splits, splits.held_out)
        assert (row.top1, row.images) == (found.top1, len(splits.held_out))
        assert row.loss == pytest.approx(found.loss, rel=1e-5)
    (own / "archs.jsonl").write_text("\n".join(arch.to_json() for arch in archs[:2]) + "\n\n")
    assert ofa(["measure-accuracy", str(own), "--archs", str(own / "archs.jsonl")]) == 0
    assert len(read_rows(own / "accuracy", run.space)) == 3, "nothing is measured twice"
    with pytest.raises(ArchError):
        measure_accuracy(own, archs=[Arch(17, archs[0].stages)])


@pytest.mark.parametrize(
    ("text", "message"),
    [("\n", "it has no architecture"), ("{}\n", "line 1: "), ("3 rubbish", "line 1: not an architecture")],
)
def test_files_of_networks_that_are_none(own: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "archs.jsonl").write_text(text)
    assert ofa(["measure-accuracy", str(own), "--archs", str(own / "archs.jsonl")]) == 2
    assert message in capsys.readouterr().err


def test_interpolated_between_resolutions(tmp_path: Path, trained: Path) -> None:
    """The space of the tiny run has two resolutions; this one has three of the same weights."""
    own = Path(shutil.copytree(trained, tmp_path / "run"))
    with pytest.raises(SpaceError, match="leaves no resolution out of 16, 24"):
        measure_accuracy(own, subnets=8, every=8)
    described = json.loads((own / "run.json").read_text())
    described["space"]["choices"]["resolutions"] = described["space"]["arguments"]["resolutions"] = [16, 20, 24]
    (own / "run.json").write_text(json.dumps(described))
    rows = measure_accuracy(own, subnets=8, every=8)
    measured = [row for row in rows if not row.interpolated]
    assert len(measured) == 8
    assert {row.arch.resolution for row in measured} == {16, 24}
    between = [row for row in rows if row.interpolated]
    assert [row.arch.resolution for row in between] == [20] * 4
    for row in between:
        low, high = sorted(r.top1 for r in measured if r.arch.stages == row.arch.stages)
        assert low <= row.top1 <= high
    assert ofa(["measure-accuracy", str(own), "--subnets", "8", "--every", "8"]) == 0


def test_ray_under_torchrun_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onceforall.train.World.join", classmethod(lambda cls, device="cpu": cls(0, 2)))
    monkeypatch.setattr("onceforall.train.World.leave", lambda self: None)
    with pytest.raises(TrainingError, match="--ray local does not work under torchrun: use one of the two"):
        measure_accuracy(own, subnets=4, ray="local")
