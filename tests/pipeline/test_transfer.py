"""`ofa train --from`: what is taken over, what is new, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall import Space, Supernet
from onceforall.cli import run as ofa
from onceforall.common.files import read_json
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, DataError, FileError, OnceForAllError, StoppedError, TrainingError
from onceforall.pipeline import PRESETS, Run, import_original, report, status, train
from onceforall.pipeline.specialising.export_inputs import trained_on
from onceforall.pipeline.training.transfer import DEFAULT, RATE_SHARE, transferred, unseen, without_sorting
from onceforall.train import SCHEMES, Schedule
from onceforall.train.checkpoint import digest_of
from tiny_original import NAME
from tiny_run import SPACE, SPACE_TEXT

HEAD = "head.classifier."
CLASSES = 3


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of small pictures of three classes, told apart by colour."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for c in range(CLASSES):
        (root / f"colour {c}").mkdir()
        for i in range(14):
            pixels = rng.integers(0, 100, (26, 30, 3), dtype=np.uint8)
            pixels[..., c] += 100
            Image.fromarray(pixels).save(root / f"colour {c}" / f"{i:02}.jpg")
    return str(root)


def go(data: str, out: Path, origin: Path | None, **changes: Any) -> Run:
    return train(data, out=out, from_run=origin, **{"epochs": 2.0, "batch_size": 8, **changes})


def schedule_of(run: Run) -> Schedule:
    return Schedule.from_json((run.folder / "schedule.json").read_text())


# -- the weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
def test_all_but_the_classifier(small_space: Space, classes: int) -> None:
    """With the old classifier's rows in the new one, every sub-network says of them what it said before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        old, new = Supernet(small_space, 4), Supernet(small_space, classes)
    taken = transferred(old, new, classifier=False)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    new.load_state_dict(taken)
    differ = {name for name, value in old.state_dict().items() if value.shape != taken[name].shape}
    assert differ == {name for name in fresh if torch.equal(fresh[name], taken[name]) and "classifier" in name}
    shared = min(4, classes)
    with torch.no_grad():
        for name in differ:
            new.get_parameter(name)[:shared] = old.get_parameter(name)[:shared]
    for arch in (small_space.largest(), small_space.sample(np.random.default_rng(classes))):
        images = torch.randn(4, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(old.train()(images, arch)[:, :shared], new.train()(images, arch)[:, :shared])
    kept = transferred(old, Supernet(small_space, 4), classifier=True)
    assert all(torch.equal(value, kept[name]) for name, value in old.state_dict().items() if value.isfinite().all())


def test_another_class_count(trained: Path, shapes: str, tmp_path: Path) -> None:
    run = go(shapes, tmp_path / "run", trained)
    origin = Run.open(trained)
    before, start = origin.supernet().state_dict(), run.start()
    assert start[f"{HEAD}weight"].shape[0] == CLASSES
    for name, value in start.items():
        if not name.startswith(HEAD):
            assert torch.equal(value.nan_to_num(7), before[name].nan_to_num(7)), name
    assert run.supernet().num_classes == CLASSES
    assert run.space == origin.space
    assert run.info.crop_share == origin.info.crop_share
    assert run.info.preset == origin.info.preset == "digits"
    (phase,) = schedule_of(run).phases
    assert phase.rate == RATE_SHARE * PRESETS["digits"].rate
    weights, told = digest_of(trained / "supernet.safetensors"), run.info.origin
    assert told is not None
    assert (told.folder, told.weights, told.classifier) == (str(trained), weights, False)
    assert str(told) == f"{trained.name} (trained on digits; weights {weights[:12]}), with a new classifier"
    assert run.info.notes == (f"The supernet's training started from {told}.",)
    assert any(f"started from {told}" in part.text for part in status(run.folder).parts)
    assert "started from" in report(run.folder).read_text()


def test_the_same_classes(trained: Path, tmp_path: Path) -> None:
    """The classifier is taken too, and what was learnt is there at once."""
    with pytest.raises(StoppedError):
        go("digits", tmp_path / "run", trained, limit=120, progress=Progress(stopped=lambda: True))
    run = Run.open(tmp_path / "run")
    before = Run.open(trained).supernet().state_dict()
    assert all(torch.equal(value.nan_to_num(7), before[name].nan_to_num(7)) for name, value in run.start().items())
    assert run.info.origin is not None
    assert run.info.origin.classifier
    assert str(run.info.origin).endswith("with its classifier")


def test_training_starts_from_them(trained: Path, shapes: str, tmp_path: Path) -> None:
    """One tiny step: the weights are those of the origin but for that step."""
    run = go(shapes, tmp_path / "run", trained, epochs=0.3, rate=1e-9)
    start, end = run.start(), run.supernet().state_dict()
    for name, value in end.items():
        if "running" not in name:
            torch.testing.assert_close(value, start[name], rtol=1e-5, atol=1e-7)


# -- images that the origin has seen -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"seed": 1}, {"holdout": 0.3}, {"limit": None}])
def test_held_out_images_that_were_trained_on(trained: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Another division of the same images is refused, and the arguments of the message give one that is not."""
    same = {"limit": 120, **changes}
    with pytest.raises(DataError, match=r"trained: its weights were trained on \d+ held-out .*--seed 0 --holdout 0\.1 --limit 120"):
        go("digits", tmp_path / "run", trained, **same)
    assert not (tmp_path / "run").exists()


def test_the_advised_division_holds_out_the_same(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go("digits", tmp_path / "run", trained, seed=0, holdout=0.1, limit=120, progress=Progress(stopped=lambda: True))
    before, after = Run.open(trained).splits(), Run.open(tmp_path / "run").splits()
    assert set(before.held_out.digests.tolist()) == set(after.held_out.digests.tolist())
    assert after.among(before.train.digests) == {"held-out": 0, "test": 0}
    assert after.among(after.held_out.digests) == {"held-out": len(after.held_out), "test": 0}


def test_what_the_origin_started_from_counts_too(trained: Path, shapes: str, tmp_path: Path) -> None:
    """Also when that run is no longer there."""
    origin = Path(shutil.copytree(trained, tmp_path / "origin"))
    between = go(shapes, tmp_path / "between", origin, epochs=0.3)
    shutil.rmtree(origin)
    with pytest.raises(DataError, match=r"--from .*between: its weights were trained on"):
        go("digits", tmp_path / "run", between.folder, limit=120, seed=1)


def test_exports_say_whether_they_know_all_of_it(trained: Path, shapes: str, tmp_path: Path) -> None:
    """Pixels of images that were read in another way are others, also where an origin of the origin did so."""
    assert trained_on(Run.open(trained)).complete
    between = go(shapes, tmp_path / "between", trained, epochs=0.3)
    origin, splits, data = between.info.origin, between.splits(), between.require_images()
    assert origin is not None
    for known in (True, False):
        run = replace(between, info=replace(between.info, origin=replace(origin, unseen=known)))
        assert trained_on(run).complete == known
        assert trained_on(run).images == len(np.unique(between.trained_on()[0]))
        assert unseen(run, splits, data) == known
    whole = replace(between, info=replace(between.info, origin=replace(origin, unseen=True)))
    assert not unseen(whole, splits, replace(data, size=data.size + 1))
    assert not unseen(whole, splits, replace(data, range=(0.0, 4095.0)))


def test_a_folder_that_has_grown(shapes: str, tmp_path: Path) -> None:
    """More images are divided in another way; the earlier ones need not be there any more."""
    source, rng = Path(shutil.copytree(shapes, tmp_path / "source")), np.random.default_rng(1)
    origin = train(str(source), out=tmp_path / "origin", space=SPACE, epochs=0.3, batch_size=8)
    for c in range(CLASSES):
        Image.fromarray(rng.integers(0, 255, (26, 30, 3), dtype=np.uint8)).save(source / f"colour {c}" / "new.jpg")
    with pytest.raises(DataError, match=r"its weights were trained on \d+ (held-out|test)"):
        go(str(source), tmp_path / "run", origin.folder)


def test_what_was_trained_on_is_damaged(trained: Path, shapes: str, tmp_path: Path) -> None:
    origin = Path(shutil.copytree(trained, tmp_path / "origin"))
    (origin / "trained_on.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"trained_on\.safetensors"):
        go(shapes, tmp_path / "run", origin)
    (origin / "trained_on.safetensors").unlink()  # as of an earlier version: not known
    events: list[dict[str, Any]] = []
    run = go(shapes, tmp_path / "run", origin, epochs=0.3, progress=Progress(event=events.append))
    assert any(event.get("text", "").startswith(f"it is not known whether {origin} was trained on") for event in events)
    assert "whether it had seen held-out or test images is not known" in run.info.notes[0]
    after = go("digits", tmp_path / "after", run.folder, limit=120, seed=1, epochs=0.3)
    assert after.info.origin is not None
    assert not after.info.origin.unseen


# -- interruptions ---------------------------------------------------------------------------------------------------------


def test_resumed_without_the_origin(trained: Path, shapes: str, tmp_path: Path) -> None:
    go(shapes, tmp_path / "whole", trained)
    origin = Path(shutil.copytree(trained, tmp_path / "origin"))
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        go(shapes, out, origin, progress=Progress(stopped=lambda: True))
    shutil.rmtree(out / "checkpoints")  # as if killed right before the first one
    shutil.rmtree(origin)
    run = train(shapes, out=out, resume=True)
    assert digest_of(out / "supernet.safetensors") == digest_of(tmp_path / "whole" / "supernet.safetensors")
    assert run.info.origin is not None
    assert train(shapes, out=out, from_run=origin, resume=True).folder == out
    with pytest.raises(TrainingError, match=r"was started with from .*origin, not .*trained: resume without it, or choose another"):
        train(shapes, out=out, from_run=trained, resume=True)
    with pytest.raises(TrainingError, match=r"was started with from None, not .*origin: resume without it"):
        train("digits", out=trained, from_run=origin, resume=True)


def test_killed_before_run_json(trained: Path, shapes: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        go(shapes, out, trained, progress=Progress(stopped=lambda: True))
    for path in out.iterdir():
        if path.name not in {"schedule.json", "problems.jsonl", "start.safetensors"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert go(shapes, out, trained).info.origin is not None


# -- imported weights ------------------------------------------------------------------------------------------------------


def test_from_imported_weights(checkpoint: Path, photos: Path, shapes: str, tmp_path: Path) -> None:
    """Without images, and for other classes than those that the weights tell apart."""
    origin = import_original(checkpoint, name=NAME, out=tmp_path / "imported")
    with pytest.raises(StoppedError):
        go(shapes, tmp_path / "run", origin.folder, progress=Progress(stopped=lambda: True))
    run = Run.open(tmp_path / "run")
    assert (run.info.preset, run.num_classes, run.space) == (DEFAULT, CLASSES, origin.space)
    before = origin.supernet().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in run.start().items() if not name.startswith(HEAD))
    assert run.info.origin is not None
    assert f"imported: {NAME} from" in str(run.info.origin)
    assert not run.info.origin.unseen
    assert run.info.imported is None
    with pytest.raises(TrainingError, match=r"holds imported weights .*: to train from them, ofa train .* --from .* --out NEW"):
        train(shapes, out=origin.folder, resume=True)


# -- the schedule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
def test_channels_stay_in_their_order(trained: Path, name: str) -> None:
    own = SCHEMES[name](Run.open(trained).space, steps=40, rate=0.1, recipe=PRESETS["digits"].recipe)
    changed = without_sorting(own)
    assert [(p.name, p.steps, p.rate) for p in changed.phases] == [(p.name, p.steps, p.rate) for p in own.phases]
    assert all(phase.sort is None for phase in changed.phases)


def test_a_rate_that_is_given_is_taken(trained: Path, shapes: str, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(shapes, tmp_path / "run", trained, rate=0.01, scheme="sandwich", progress=Progress(stopped=lambda: True))
    (phase,) = schedule_of(Run.open(tmp_path / "run")).phases
    assert (phase.rate, phase.strategy) == (0.01, "sandwich")


# -- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "imagenette-60m"}, "has its own space, and --preset or --space describes another: leave them out"),
        ({"space": {**SPACE, "width": 0.2}}, "has its own space"),
        ({"space": {"widht": 1}}, "no argument 'widht'"),
        ({"preset": "best"}, "unknown preset 'best'"),
        ({"from_run": "nowhere"}, r"not a run directory \(it does not exist\)"),
    ],
)
def test_contradictions(trained: Path, shapes: str, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    given = {"from_run": trained, "epochs": 2.0, "batch_size": 8, **changes}
    with pytest.raises(OnceForAllError, match=message) as refused:
        train(shapes, out=tmp_path / "run", **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_what_is_said_twice_is_no_contradiction(trained: Path, shapes: str, tmp_path: Path) -> None:
    arguments = ["train", shapes, "--out", str(tmp_path / "run"), "--from", str(trained), "--space", SPACE_TEXT]
    assert ofa([*arguments, "--epochs", "1", "--batch-size", "8", "--json"]) == 0
    assert Run.open(tmp_path / "run").info.origin is not None


def test_runs_that_cannot_be_started_from(trained: Path, shapes: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="--from and --out are the same folder: choose another --out"):
        go(shapes, trained, trained)
    origin = Path(shutil.copytree(trained, tmp_path / "origin"))
    weights = origin / "supernet.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"supernet\.safetensors: damaged"):
        go(shapes, tmp_path / "run", origin)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="the checksum does not match"):
        go(shapes, tmp_path / "run", origin)
    weights.unlink()
    with pytest.raises(FileError, match=r"its training has not finished: ofa train digits --out .*origin --resume"):
        go(shapes, tmp_path / "run", origin)
    data = read_json(origin / "run.json")
    (origin / "run.json").write_text(json.dumps({**data, "format": "onceforall.run/0"}))
    with pytest.raises(FileError, match=r"run\.json: written by another version of onceforall"):
        go(shapes, tmp_path / "run", origin)
    assert not (tmp_path / "run").exists()
