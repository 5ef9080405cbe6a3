"""`ofa train` as a function: the run directory it leaves, whatever interrupts it, and what it refuses."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onceforall.common.files import read_lines
from onceforall.common.progress import Progress
from onceforall.errors import DataError, FileError, OnceForAllError, StoppedError
from onceforall.pipeline import Run, train
from onceforall.train import Schedule
from onceforall.train.checkpoint import digest_of, load_tensors
from tiny_run import SPACE, edited, go, on_pictures, pictures, steps_of

PHASES = ["largest", "kernel", "depth", "expand"]


def test_the_run_directory(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()} - {"tensorboard", ".lock"}
    assert names == {
        "run.json", "schedule.json", "problems.jsonl", "metrics.jsonl", "checkpoints", "teacher.safetensors",
        "supernet.safetensors", "trained_on.safetensors",
    }  # fmt: skip
    run = Run.open(trained)
    assert run.info.preset == "digits"
    assert run.info.environment["threads"] == torch.get_num_threads()
    assert list(run.info.images) == ["train", "held-out", "test"]
    schedule = Schedule.from_json((trained / "schedule.json").read_text())
    assert [phase.name for phase in schedule.phases] == PHASES
    records = read_lines(trained / "metrics.jsonl")
    assert [r["phase"] for r in records if r["event"] == "phase"] == PHASES
    ends = np.cumsum([phase.steps for phase in schedule.phases]).tolist()
    assert set(ends) <= set(steps_of(trained))
    assert steps_of(trained) == sorted(set(steps_of(trained)))
    validations = [(r["step"], r["subnet"]) for r in records if r["event"] == "validation"]
    assert validations == [(end, subnet) for end in ends for subnet in ("largest", "smallest", "random")]
    assert all(r["images"] == run.info.images["held-out"] for r in records if r["event"] == "validation")
    assert run.supernet().num_classes == 10


def test_the_three_splits_are_disjoint(trained: Path) -> None:
    run = Run.open(trained)
    splits = run.splits()
    parts = [{d.tobytes() for d in images.digests} for images in (splits.train, splits.held_out, splits.open_test("a test"))]
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts))
    assert [len(part) for part in parts] == list(run.info.images.values())


def test_training_never_opens_the_test_images(trained: Path) -> None:
    assert not (trained / "test_openings.jsonl").exists()


def test_same_seed_same_weights(tmp_path: Path, trained: Path) -> None:
    state = torch.random.get_rng_state()
    go(tmp_path / "again")
    assert torch.equal(state, torch.random.get_rng_state())
    assert digest_of(tmp_path / "again" / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")


# -- data ------------------------------------------------------------------------------------------------------------------


def test_a_corrupt_image_is_left_out_by_name(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    path = data / "class 1" / "05.jpg"
    path.write_bytes(path.read_bytes()[:200])
    on_pictures(str(data), tmp_path / "run")
    (problem,) = read_lines(tmp_path / "run" / "problems.jsonl")
    assert "05.jpg" in problem["name"]
    assert sum(Run.open(tmp_path / "run").info.images.values()) == 23


def test_the_working_folder_does_not_matter_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    run = on_pictures("data/", Path("run"))
    assert run.info.data.source == str(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    assert len(Run.open(tmp_path / "run").splits().classes) == 2
    train("../data", out=tmp_path / "run", resume=True)


def test_data_that_changed(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    run = on_pictures(str(data), tmp_path / "run")
    (data / "class 0" / "00.jpg").unlink()
    with pytest.raises(DataError, match=r"the images are not those that .* was trained on"):
        run.splits()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 500}, "the batch size is 500 but there are only"),
        ({"epochs": 0.05}, "0.05 epochs are less than one step"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"epochs": float("nan")}, "nan epochs: it must be a number above 0"),
        ({"epochs": float("inf")}, "inf epochs"),
        ({"budget_s": 0.01, "epochs": None}, "a budget of 0.01 s is too little"),
        ({"budget_s": 60.0}, "give only one of them"),
        ({"seed": -1}, "the seed is -1"),
        ({"seed": 2**63}, "the seed is"),
        ({"preset": "best"}, "unknown preset 'best': choose one of digits"),
        ({"space": {"widht": 1}}, "no argument 'widht'"),
        ({"space": {"family": "resnet0"}}, "unknown family 'resnet0'"),
        ({"space": {**SPACE, "resolutions": (4,)}}, "resolutions"),
        ({"limit": 10}, "the limit of 10 images"),
        ({"holdout": 0.9}, "held-out share"),
    ],
)
def test_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OnceForAllError, match=message) as refused:
        go(tmp_path / "run", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_something_else_in_it(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="already there and not empty: choose another --out"):
        go(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_out_is_a_file_or_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="this is a file, a folder is needed"):
        go(tmp_path / "file")
    with pytest.raises(FileError, match="file"):
        go(tmp_path / "file" / "run")


def test_a_run_is_not_overwritten(trained: Path) -> None:
    with pytest.raises(FileError, match="or --resume the run in it"):
        go(trained)


# -- budget ----------------------------------------------------------------------------------------------------------------


def test_less_than_an_epoch_is_noted(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    half = {"scheme": "single_path", "epochs": 0.5, "progress": Progress(event=events.append)}
    go(tmp_path / "half", **half)
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert re.match(r"\d of the \d+ steps of an epoch: networks may be little better than chance; train longer", note)


def test_more_time_more_steps(tmp_path: Path) -> None:
    steps = []
    for seconds in (300.0, 3000.0):
        with pytest.raises(StoppedError):
            go(tmp_path / f"{seconds}", epochs=None, budget_s=seconds, progress=Progress(stopped=lambda: True))
        steps.append(Schedule.from_json((tmp_path / f"{seconds}" / "schedule.json").read_text()).steps)
    assert steps[0] < steps[1]


# -- run.json --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("space"),
        lambda d: d.update(space=5),
        lambda d: d.update(extra=1),
        lambda d: d.update(format="onceforall.run/0"),
        lambda d: d.update(classes=None),
        lambda d: d["data"].pop("source"),
        lambda d: d.update(augment={}),
        lambda d: d.update(crop_share="all"),
        lambda d: d["space"].update(family="unknown"),
    ],
)
def test_damaged_run_json(trained: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    shutil.copy(trained / "run.json", tmp_path)
    edited(tmp_path / "run.json", change)
    with pytest.raises(FileError, match=r"run\.json"):
        Run.open(tmp_path)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"not a run directory \(it has no run.json\): make one with ofa train DATA --out"):
        Run.open(tmp_path)


def test_weights_of_another_class_count(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    edited(out / "run.json", lambda d: d.update(classes=["a", "b"]))
    with pytest.raises(FileError, match="the weights do not fit this space and class count"):
        Run.open(out).supernet()


def test_the_teacher_is_kept(trained: Path) -> None:
    teacher, _ = load_tensors(trained / "teacher.safetensors")
    assert "head.classifier.weight" in teacher
