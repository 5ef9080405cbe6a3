"""`import_original` and `export_original`: the weights are the same on both sides, and the run directory is one like any other."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onceforall.accuracy import AccuracyPredictor
from onceforall.common.files import read_json, read_lines
from onceforall.common.progress import Progress
from onceforall.errors import CheckpointError, DataError, DeviceError, FileError, TrainingError
from onceforall.pipeline import Budget, Run, evaluate, export_original, predict, profile, report, search, specialise, train
from onceforall.published import NAMES, load_supernet
from onceforall.train.checkpoint import digest_of
from tiny_original import CLASSES, NAME, bring, old_names, original_weights, profiled

IMAGES = {"train": 16, "held-out": 4, "test": 4}


def read(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def quietly(call: Callable[[], Any]) -> Any:
    """The result of the call, which is tried again when the machine was too busy to measure latency."""
    for attempt in range(3):
        try:
            return call()
        except DeviceError:
            if attempt == 2:
                raise
    return None


# -- in and out ------------------------------------------------------------------------------------------------------------


def test_the_run_directory(imported: Path, checkpoint: Path, photos: Path) -> None:
    names = {path.name for path in imported.iterdir()} - {"latency"}
    assert names == {".lock", "accuracy", "images.parquet", "problems.jsonl", "run.json", "supernet.safetensors"}
    info = Run.open(imported).info
    assert info.imported is not None
    assert info.imported.file == checkpoint.name
    assert info.imported.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert info.imported.name == NAME
    assert info.data is not None
    assert (info.data.source, info.data.size) == (str(photos), 256)
    assert info.classes == tuple(f"class {i}" for i in range(CLASSES))
    assert info.images == IMAGES
    assert (info.augment, info.preset) == (None, None)
    assert {"time", "command", "packages"} <= info.environment.keys()


def test_the_weights_are_those_of_the_file(imported: Path, checkpoint: Path, tmp_path: Path) -> None:
    supernet, direct = Run.open(imported).supernet(), load_supernet(checkpoint, NAME)
    assert same(supernet.state_dict(), direct.state_dict())
    assert not supernet.training
    done = export_original(imported, out=tmp_path / "again.pth")
    assert (done.path, done.images) == (tmp_path / "again.pth", None)
    assert same(read(done.path), read(checkpoint))
    bring(done.path, tmp_path / "run")
    assert digest_of(tmp_path / "run" / "supernet.safetensors") == digest_of(imported / "supernet.safetensors")


@pytest.mark.parametrize("name", [name for name in NAMES if name != NAME])
def test_every_network_with_old_names(tmp_path: Path, name: str) -> None:
    weights = original_weights(name, 2)
    torch.save(old_names(weights), tmp_path / "net.pth")  # without "state_dict" around them
    run = bring(tmp_path / "net.pth", tmp_path / "run", name=name.replace("_0", ".0").replace("_2", ".2").replace("_3", ".3"))
    assert run.num_classes == 2
    (tmp_path / "net.pth").unlink()
    assert same(read(export_original(run.folder).path), weights)
    assert Run.open(tmp_path / "run").space == run.space


def test_export_does_not_overwrite(imported_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_text("mine")
    with pytest.raises(FileError, match=r"mine\.pth: already there, and not overwritten: choose another --out, or remove it"):
        export_original(imported_copy, out=tmp_path / "mine.pth")
    assert (tmp_path / "mine.pth").read_text() == "mine"
    assert export_original(imported_copy).path == imported_copy / "original.pth"
    with pytest.raises(FileError, match="no such file or folder"):
        export_original(imported_copy, out=tmp_path / "missing" / "net.pth")


def test_export_of_what_was_trained_here(trained: Path, tmp_path: Path) -> None:
    done = export_original(trained, out=tmp_path / "net.pth")
    run = Run.open(trained)
    assert done.images == run.info.images["train"]
    state, own = read(done.path), run.supernet().state_dict()
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert len(state) == len(own) + sum(name.endswith("running_var") for name in own)  # the original counts batches too
    assert torch.equal(state["blocks.1.conv.depth_conv.conv.5to3_matrix"], own["stages.0.0.depthwise.conv.5to3_matrix"])
    assert torch.equal(state["classifier.linear.bias"], own["head.classifier.bias"])
    batches = run.calibration_batches(run.splits(), run.space.resolutions[-1])
    outputs = torch.cat([F.conv2d(x, state["first_conv.conv.weight"], padding=1) for x in batches]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(state["first_conv.bn.running_mean"], outputs.mean(1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(state["first_conv.bn.running_var"], outputs.var(1), rtol=1e-2, atol=1e-3)


# -- the other commands ----------------------------------------------------------------------------------------------------


def test_evaluate(imported_copy: Path) -> None:
    (result,) = evaluate(imported_copy, arch="smallest")
    assert result.accuracy.images == IMAGES["held-out"]
    assert read_lines(imported_copy / "evaluations.jsonl")[0]["top1"] == result.accuracy.top1


def test_search_and_specialise_with_the_predictor(imported_copy: Path) -> None:
    run = Run.open(imported_copy)
    limit = Budget(macs=1.2 * run.space.lower(run.space.smallest(), CLASSES).macs)
    (found,) = quietly(lambda: search(imported_copy, limit, finalists=1))
    assert found.predicted_top1 == pytest.approx(0.8, abs=0.3)
    (network,) = quietly(lambda: specialise(imported_copy, [limit], finalists=1))
    assert network.test.images == IMAGES["test"]
    card = (network.folder / "README.md").read_text()
    assert f" within {limit} on " in card
    assert "The supernet's weights were imported: ofa" in card
    page = report(imported_copy).read_text()
    assert network.folder.name in page
    assert "Accuracy is predicted by the Once-for-All authors" in page


def test_the_predictor_belongs_to_the_weights(imported_copy: Path, predictor: Path) -> None:
    run, place = Run.open(imported_copy), imported_copy / "accuracy" / "predictor.safetensors"
    own = AccuracyPredictor.load(place, run.space, weights_hash=run.weights_hash())
    archs = [run.space.smallest(), run.space.largest()]
    assert own.predict(archs).tolist() == AccuracyPredictor.from_published(predictor, run.space).predict(archs).tolist()
    with pytest.raises(CheckpointError, match="made for the supernet with weights"):
        AccuracyPredictor.load(place, run.space, weights_hash="another")


def test_predict_measures(imported_copy: Path) -> None:
    def stop(done: int, total: int, note: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(imported_copy, subnets=16, progress=Progress(count=stop))
    assert len(list((imported_copy / "accuracy").glob("*.parquet"))) == 1


def test_without_images(checkpoint: Path, tmp_path: Path) -> None:
    run = bring(checkpoint, tmp_path / "run")
    assert (run.info.data, run.info.images, run.info.classes[-1]) == (None, {}, f"class {CLASSES - 1}")
    profiled(run)
    commands: list[Callable[[], Any]] = [
        lambda: evaluate(run.folder),
        lambda: predict(run.folder),
        lambda: search(run.folder, Budget()),
        lambda: specialise(run.folder, [Budget()]),
    ]
    for command in commands:
        with pytest.raises(DataError) as refused:
            command()
        advice = f"ofa import ofa_net.pth --name {NAME} --data DATA --out NEW"
        assert str(refused.value) == f"{run.folder} was imported without images, which this command needs: {advice}"
    seen: list[str] = []

    def stop(done: int, total: int, note: str) -> None:
        seen.append(note)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(run.folder, quick=True, again=True, progress=Progress(count=stop))
    assert seen
    page = report(run.folder).read_text()
    assert "Nothing was trained in this run. The weights were imported: ofa_mbv3" in page
    assert "This needs images, and the run was imported without" in page
    assert "no images" in page
    assert "ofa predict" not in page
    assert export_original(run.folder).images is None


def test_training_goes_not_on(imported: Path, photos: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"holds imported weights \(ofa_mbv3.*\), which are not trained in place: to train from them"
    ):
        train(str(photos), out=imported, resume=True)
    with pytest.raises(FileError, match="already there and not empty"):
        train(str(photos), out=imported)
    run = Run.open(imported)
    with pytest.raises(TrainingError, match="nothing to train"):
        run.train_batches(run.splits(), 4)


def test_the_weights_are_gone(imported_copy: Path) -> None:
    (imported_copy / "supernet.safetensors").unlink()
    with pytest.raises(FileError, match=r"the weights are gone: import them again with ofa import ofa_net\.pth --name ofa_mbv3"):
        evaluate(imported_copy)


def test_images_that_changed(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    run = bring(checkpoint, tmp_path / "run", data=str(data))
    (data / "class 0" / "00.jpg").unlink()
    with pytest.raises(DataError, match=r"not those that .* was imported with .*: restore them, .* or import again"):
        evaluate(run.folder)


def test_run_json_of_before_there_were_imports(trained: Path, tmp_path: Path) -> None:
    old = read_json(trained / "run.json")
    del old["imported"]
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert Run.open(tmp_path).info == Run.open(trained).info
    for name in ("data", "augment"):  # only an import may go without
        (tmp_path / "run.json").write_text(json.dumps({**old, name: None}))
        with pytest.raises(FileError, match="damaged or edited"):
            Run.open(tmp_path)
