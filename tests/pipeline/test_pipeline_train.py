"""`ofa train` as a function: the run directory it leaves, whatever interrupts it, and what it refuses."""

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall.errors import DataError, FileError, OnceForAllError, StoppedError, TrainingError
from onceforall.files import read_json, read_lines
from onceforall.pipeline import Run, train
from onceforall.train import Schedule, Settings
from onceforall.train import train as follow
from onceforall.train.checkpoint import digest_of, load_tensors
from tiny_run import SPACE, TRAINING

PHASES = ["largest", "kernel", "depth", "expand"]


def go(out: Path, **changes: Any) -> Run:
    return train("digits", out=out, **{**TRAINING, **changes})


def steps_of(out: Path) -> list[int]:
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
    given = {"preset": "digits", "space": {**SPACE, "depths": (1,), "kernels": (3,), "expand_ratios": (2,)}, "epochs": 2.0}
    return train(data, out=out, **{**given, "batch_size": 4, **changes})


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


# -- interruptions ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


def crash(monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, after: bool) -> None:
    """End the process, as it were, before or after the number-th file of that name takes its place."""
    replace, count = os.replace, 0

    def crashing(source: Any, target: Any) -> None:
        nonlocal count
        hit = name in str(target)
        count += hit
        if hit and count == number and not after:
            raise Killed
        replace(source, target)
        if hit and count == number and after:
            raise Killed

    monkeypatch.setattr(os, "replace", crashing)


@pytest.mark.parametrize(
    ("name", "number", "after"),
    [
        ("run.json", 1, False),
        ("run.json", 1, True),
        ("teacher", 1, True),
        ("step-", 2, True),
        ("step-", 4, True),
        ("supernet", 1, False),
    ],
)
def test_killed_anywhere(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, after: bool
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        crash(patch, name, number, after=after)
        with pytest.raises(Killed):
            go(out, resume=True)
    go(out, resume=True)
    assert digest_of(out / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")
    assert steps_of(out) == steps_of(trained)
    assert [r["phase"] for r in read_lines(out / "metrics.jsonl") if r["event"] == "phase"] == PHASES


def test_an_interrupted_start_is_started_again_without_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        crash(patch, "run.json", 1, after=False)
        with pytest.raises(Killed):
            on_pictures(str(pictures(tmp_path / "data")), tmp_path / "run")
    on_pictures(str(tmp_path / "data"), tmp_path / "run")


def test_stop_and_resume(tmp_path: Path, trained: Path) -> None:
    asked = iter([False] * 4 + [True] + [False] * 3 + [True])
    for _ in range(2):
        with pytest.raises(StoppedError):
            go(tmp_path / "run", resume=True, should_stop=lambda: next(asked, False))
    go(tmp_path / "run", resume=True)
    assert digest_of(tmp_path / "run" / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")
    assert sorted(set(steps_of(tmp_path / "run"))) == steps_of(tmp_path / "run")


def test_a_finished_run_is_given_back(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    events: list[dict[str, Any]] = []
    train("digits", out=trained, resume=True, on_event=events.append)
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def unfinished(trained: Path, tmp_path: Path) -> Path:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    (out / "supernet.safetensors").unlink()
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5.0}, "started with epochs 4.0, not 5.0: resume without it, or choose another --out"),
        ({"seed": 1}, "started with seed 0, not 1"),
        ({"space": {**SPACE, "width": 0.2}}, "started with space"),
        ({"preset": "imagenet-ofa"}, "started with preset None, not imagenet-ofa"),
        ({"holdout": 0.2}, "started with holdout 0.1, not 0.2"),
        ({"precision": "bfloat16"}, "started with precision float32, not bfloat16: resume without it"),
        ({"sync_norm": True}, "started with sync_norm False, not True"),
        ({"same_networks": True}, "started with same_networks False, not True"),
    ],
)
def test_resume_with_other_arguments(trained: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        go(trained, resume=True, **change)


def test_resume_needs_no_arguments(trained: Path, tmp_path: Path) -> None:
    out = unfinished(trained, tmp_path)
    train("digits", out=out, resume=True)
    assert digest_of(out / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")


def test_resume_on_other_data(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"was trained on digits, not on .*: resume with the same data"):
        train(str(pictures(tmp_path / "data")), out=trained, resume=True)


def test_resume_follows_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision, batch norm and draws of the processes, without being told again."""
    seen: list[Settings] = []

    def spy(*args: Any, settings: Settings, **options: Any) -> None:
        seen.append(settings)
        follow(*args, settings=settings, **options)

    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.train"), "follow", spy)
    for name, given in (("a", {"sync_norm": True}), ("b", {"same_networks": False, "precision": "bfloat16"})):
        with pytest.raises(StoppedError):
            go(tmp_path / name, should_stop=lambda: True, **given)
        with pytest.raises(StoppedError):
            train("digits", out=tmp_path / name, resume=True, should_stop=lambda: True)
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert (seen[1].sync_norm, seen[1].same_archs, seen[1].precision) == (True, True, "float32")
    assert (seen[3].sync_norm, seen[3].same_archs, seen[3].precision) == (False, False, "bfloat16")


def test_a_run_of_before_settings_were_kept_follows_what_is_given(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path / "run", should_stop=lambda: True)
    edited(
        tmp_path / "run" / "run.json", lambda d: [d["arguments"].pop(key) for key in ("precision", "sync_norm", "same_networks")]
    )
    with pytest.raises(StoppedError):
        go(tmp_path / "run", resume=True, precision="bfloat16", same_networks=True, should_stop=lambda: True)


def test_resume_with_other_threads_is_noted(trained: Path, tmp_path: Path) -> None:
    out = unfinished(trained, tmp_path)
    info = read_json(out / "run.json")
    assert (info["environment"]["device"], info["environment"]["processes"]) == ("cpu", 1)
    info["environment"] |= {"threads": 64, "device": "NVIDIA H100", "processes": 8}
    (out / "run.json").write_text(json.dumps(info))
    events: list[dict[str, Any]] = []
    train("digits", out=out, resume=True, on_event=events.append)
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert [note.split(":")[0] for note in notes] == [
        f"begun with 64 threads, going on with {torch.get_num_threads()}",
        "begun on NVIDIA H100, going on on cpu",
        "begun with 8 processes, going on with 1",
    ]


def test_every_checkpoint_damaged(trained: Path, tmp_path: Path) -> None:
    out = unfinished(trained, tmp_path)
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileError, match="every checkpoint is damaged"):
        train("digits", out=out, resume=True)


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
        ({"budget_s": 60.0}, "give one of them"),
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


def test_more_time_more_steps(tmp_path: Path) -> None:
    steps = []
    for seconds in (300.0, 3000.0):
        with pytest.raises(StoppedError):
            go(tmp_path / f"{seconds}", epochs=None, budget_s=seconds, should_stop=lambda: True)
        steps.append(Schedule.from_json((tmp_path / f"{seconds}" / "schedule.json").read_text()).steps)
    assert steps[0] < steps[1]


# -- run.json --------------------------------------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


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
    with pytest.raises(FileError, match=r"no run directory \(it has no run.json\): make one with ofa train DATA --out"):
        Run.open(tmp_path)


def test_weights_of_another_class_count(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    edited(out / "run.json", lambda d: d.update(classes=["a", "b"]))
    with pytest.raises(FileError, match="the weights do not fit this space and class count"):
        Run.open(out).supernet()


def test_training_that_has_not_finished(trained: Path, tmp_path: Path) -> None:
    run = Run.open(unfinished(trained, tmp_path))
    with pytest.raises(FileError, match=r"its training has not finished: ofa train digits --out .* --resume"):
        run.supernet()


def test_the_teacher_is_kept(trained: Path) -> None:
    teacher, _ = load_tensors(trained / "teacher.safetensors")
    assert "head.classifier.weight" in teacher
