"""One tiny training on the digits, shared by the tests of the pipeline and of the command line. Copy what you change."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from once import made_once
from onceforall.common.files import read_lines
from onceforall.latency import Effort, meters
from onceforall.latency.measure import Timing, time_calls
from onceforall.pipeline import Run, predict, profile, train
from onceforall.pipeline.specialising.switching import measure_switching

SPACE = {"width": 0.1, "resolutions": (16, 24), "depths": (1, 2), "kernels": (3, 5), "expand_ratios": (2, 3)}
SPACE_TEXT = "width=0.1,resolutions=16/24,depths=1/2,kernels=3/5,expand_ratios=2/3"
TRAINING: dict[str, Any] = {"space": SPACE, "scheme": "progressive_shrinking", "epochs": 4.0, "limit": 120, "batch_size": 32}
TRAINING_TEXT = [
    "--space",
    SPACE_TEXT,
    "--scheme",
    "progressive_shrinking",
    "--epochs",
    "4",
    "--limit",
    "120",
    "--batch-size",
    "32",
]
SUBNETS = 16
ROUNDS = 8
SWITCHES = 2
SCORED = 6000
FEW = Effort(resolutions=2, fit=12, test=6, passes=2, rounds=2, limit=float("inf"))


@contextmanager
def few_measurements() -> Iterator[None]:
    """Where it does not matter how well latency is known: `--quick` measures few networks, and each in few rounds.

    Beside other tests the machine is never as quiet as `time_calls` wants it, so it would try for seconds each time.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("onceforall.pipeline.profile", "onceforall.latency.checked"):  # the package's name is the function
            patch.setattr(import_module(module), "QUICK", FEW)
        patch.setattr(meters, "time_calls", _briefly)
        bundle = import_module("onceforall.pipeline.bundle")
        patch.setattr(bundle, "time_calls", _briefly)
        patch.setattr(bundle, "measure_switching", partial(measure_switching, rounds=SWITCHES))
        yield


@contextmanager
def short_searches() -> Iterator[None]:
    """Where it does not matter how good what is found is: far fewer networks are scored. `tests/search` asks how good it is."""
    searches = {"search.maximise": "FAST_", "search.pareto": "FAST_", "pipeline.front": "", "report.fronts": "FRONT_"}
    with pytest.MonkeyPatch.context() as patch:
        for module, kind in searches.items():
            patch.setattr(import_module(f"onceforall.{module}"), f"{kind}EVALUATIONS", SCORED)
        yield


def _briefly(
    functions: Sequence[Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    max_rounds: int = ROUNDS,
    limit: float = 0.0,
    **named: Any,
) -> list[Timing]:
    few = min(rounds, ROUNDS)
    return time_calls(functions, rounds=few, max_rounds=few, limit=float("inf"), **named)


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go to a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def trained(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `ofa train`."""
    return _trained(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def measured(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `ofa train`, `ofa profile` and `ofa predict`."""
    return _measured(tmp_path_factory.getbasetemp())


@pytest.fixture
def run_copy(measured: Path, tmp_path: Path) -> Path:
    """A copy of `measured`, to change."""
    return Path(shutil.copytree(measured, tmp_path / "run"))


@cache
def _trained(base: Path) -> Path:
    return _copy_of_one(base, "trained", lambda out: train("digits", out=out, **TRAINING))


@cache
def _measured(base: Path) -> Path:
    def make(out: Path) -> None:
        shutil.copytree(_trained(base), out)
        with few_measurements():
            profile(out, quick=True)
        predict(out, subnets=SUBNETS)

    return _copy_of_one(base, "measured", make)


def _copy_of_one(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """This process's copy of a run that was made once for all of them."""
    made = made_once(base, name, lambda folder: make(folder / name))
    return Path(shutil.copytree(made / name, base / name))


def go(out: Path, **changes: Any) -> Run:
    """`ofa train` as in `trained`, but for what is given."""
    return train("digits", out=out, **{**TRAINING, **changes})


def steps_of(out: Path) -> list[int]:
    """The steps that metrics.jsonl tells of."""
    return [record["step"] for record in read_lines(out / "metrics.jsonl") if record["event"] == "train"]


def pictures(root: Path, classes: int = 2, each: int = 12) -> Path:
    """A folder of JPEG images, one folder per class."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        (root / f"class {c}").mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (30, 26, 3), dtype=np.uint8)).save(root / f"class {c}" / f"{i:02}.jpg")
    return root


def on_pictures(data: str, out: Path, **changes: Any) -> Run:
    """A short training on a folder of images."""
    given = {"preset": "digits", "space": {**SPACE, "depths": (1,), "kernels": (3,), "expand_ratios": (2,)}, "epochs": 2.0}
    return train(data, out=out, **{**given, "batch_size": 4, **changes})


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A JSON file, changed in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def openings(run: Path) -> list[dict[str, Any]]:
    """What the test images of a run were opened for."""
    return read_lines(run / "test_openings.jsonl")
