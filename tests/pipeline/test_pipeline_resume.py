"""A training that was interrupted goes on to the very same weights, or says why not."""

import importlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from onceforall.common.files import read_json, read_lines
from onceforall.common.progress import Progress
from onceforall.data import Augment
from onceforall.errors import FileError, StoppedError, TrainingError
from onceforall.options.presets import PRESETS
from onceforall.pipeline import Run, report, status, train
from onceforall.pipeline.training.follow import follow_schedule
from onceforall.train import Schedule, Settings
from onceforall.train.checkpoint import digest_of
from tiny_run import SPACE, edited, go, on_pictures, pictures, steps_of

PHASES = ["largest", "kernel", "depth", "expand"]


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
            go(tmp_path / "run", resume=True, progress=Progress(stopped=lambda: next(asked, False)))
    go(tmp_path / "run", resume=True)
    assert digest_of(tmp_path / "run" / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")
    assert sorted(set(steps_of(tmp_path / "run"))) == steps_of(tmp_path / "run")


def test_a_recipe_is_followed_from_the_first_start_on(tmp_path: Path) -> None:
    """By name, whole or in parts: what it draws is a function of the step."""
    recipe: dict[str, Any] = {
        "policy": "trivial_augment",
        "erase": 0.3,
        "mixup": 0.2,
        "cutmix": 1.0,
        "layer_decay": 0.9,
        "drop_path": 0.2,
        "ema": 0.9,
    }
    short: dict[str, Any] = {"epochs": 1.0, "scheme": "single_path", "recipe": recipe}
    whole = go(tmp_path / "whole", **short)
    asked = iter([True])
    with pytest.raises(StoppedError):
        go(tmp_path / "run", **short, progress=Progress(stopped=lambda: next(asked, False)))
    run = train("digits", out=tmp_path / "run", resume=True)
    assert run.weights_hash() == whole.weights_hash() != go(tmp_path / "plain", **{**short, "recipe": None}).weights_hash()
    assert run.augment == Augment(
        **{**asdict(PRESETS["digits"].augment), **{name: recipe[name] for name in ("policy", "erase", "mixup", "cutmix")}}
    )
    followed = Schedule.from_json((run.folder / "schedule.json").read_text()).recipe
    assert (followed.layer_decay, followed.drop_path, followed.ema) == (0.9, 0.2, 0.9)


def test_an_early_end(tmp_path: Path) -> None:
    """Of a run: its files tell when it ended, and nothing goes on afterwards."""
    events: list[dict[str, Any]] = []
    told: dict[str, Any] = {"epochs": 20.0, "scheme": "single_path", "rate": 1e-6, "recipe": {"patience": 1}}
    run = go(tmp_path / "run", **told, progress=Progress(event=events.append))
    (note,) = [event for event in events if event["event"] == "note" and "patience" in event["text"]]
    records = read_lines(run.folder / "metrics.jsonl")
    assert records[-1]["event"] == "note"
    assert {record["step"] for record in records[-4:]} == {note["step"]}
    steps = Schedule.from_json((run.folder / "schedule.json").read_text()).steps
    assert note["step"] < steps
    assert train("digits", out=run.folder, resume=True).weights_hash() == run.weights_hash()
    (training,) = [part for part in status(run.folder).parts if part.name == "training"]
    assert f"weights of step {note['kept']:,} kept (patience); held-out top-1: largest" in training.text
    report(run.folder)


def test_a_finished_run_is_given_back(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    events: list[dict[str, Any]] = []
    train("digits", out=trained, resume=True, progress=Progress(event=events.append))
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
        ({"recipe": {"mixup": 0.2}}, r"started with recipe None, not \{'mixup': 0.2\}"),
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
        follow_schedule(*args, settings=settings, **options)

    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.train"), "follow_schedule", spy)
    for name, given in (("a", {"sync_norm": True}), ("b", {"same_networks": False, "precision": "bfloat16"})):
        with pytest.raises(StoppedError):
            go(tmp_path / name, progress=Progress(stopped=lambda: True), **given)
        with pytest.raises(StoppedError):
            train("digits", out=tmp_path / name, resume=True, progress=Progress(stopped=lambda: True))
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert (seen[1].sync_norm, seen[1].same_archs, seen[1].precision) == (True, True, "float32")
    assert (seen[3].sync_norm, seen[3].same_archs, seen[3].precision) == (False, False, "bfloat16")


def test_a_run_of_before_settings_were_kept_follows_what_is_given(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path / "run", progress=Progress(stopped=lambda: True))
    edited(
        tmp_path / "run" / "run.json", lambda d: [d["arguments"].pop(key) for key in ("precision", "sync_norm", "same_networks")]
    )
    with pytest.raises(StoppedError):
        go(tmp_path / "run", resume=True, precision="bfloat16", same_networks=True, progress=Progress(stopped=lambda: True))


def test_resume_with_other_threads_is_noted(trained: Path, tmp_path: Path) -> None:
    out = unfinished(trained, tmp_path)
    info = read_json(out / "run.json")
    assert (info["environment"]["device"], info["environment"]["processes"]) == ("cpu", 1)
    info["environment"] |= {"threads": 64, "device": "NVIDIA H100", "processes": 8}
    (out / "run.json").write_text(json.dumps(info))
    events: list[dict[str, Any]] = []
    train("digits", out=out, resume=True, progress=Progress(event=events.append))
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert [note.split(":")[0] for note in notes] == [
        f"started with 64 threads, continuing with {torch.get_num_threads()}",
        "started on NVIDIA H100, continuing on cpu",
        "started with 8 processes, continuing with 1",
    ]


def test_every_checkpoint_damaged(trained: Path, tmp_path: Path) -> None:
    out = unfinished(trained, tmp_path)
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileError, match="every checkpoint is damaged"):
        train("digits", out=out, resume=True)


def test_training_that_has_not_finished(trained: Path, tmp_path: Path) -> None:
    run = Run.open(unfinished(trained, tmp_path))
    with pytest.raises(FileError, match=r"its training has not finished: ofa train digits --out .* --resume"):
        run.supernet()
