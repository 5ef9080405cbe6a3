"""Networks of one's own in run directories: trained, imported, gone on with, and used without their code afterwards."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from onceforall.calibrate import recalibrate
from onceforall.common.files import read_json, sha256
from onceforall.common.progress import Progress
from onceforall.data import Preprocessing, open_data
from onceforall.errors import DataError, FileError, ModelError, SpaceError, TrainingError
from onceforall.pipeline import Budget, Run, elastic, evaluate, import_own, predict, search, status, train
from onceforall.pipeline.specialising.export_inputs import input_steps, trained_on
from onceforall.pipeline.training.own import bring_own
from onceforall.preprocess import fit, normalise, prepare
from onceforall.spaces.graph import classifier_weights
from tiny_own import OWN, TRAINING, TRANSFORMER, source, trained_model

SIZES = {"resolutions": (16, 24)}


def own(folder: Path, classes: int = 10) -> tuple[str, Path, nn.Module]:
    """The text of a network, a file of weights, and the network with these."""
    named = source(folder)
    model = trained_model(named, classes)
    torch.save(model.state_dict(), folder / "w.pth")
    return named, folder / "w.pth", model


def go(folder: Path, named: str, **changes: Any) -> Run:
    return train("digits", out=folder / "run", from_run=named, **{**TRAINING, "space": SIZES, **changes})


@pytest.fixture(scope="module")
def begun(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A run of a network with weights for 7 classes, whose files are gone, and that network."""
    folder = tmp_path_factory.mktemp("own")
    named, weights, model = own(folder, 7)
    go(folder, named, weights=weights)
    (folder / "own.py").unlink()
    weights.rename(folder / "elsewhere.pth")
    return folder / "run", model


def test_it_starts_from_the_weights_with_a_new_classifier(begun: tuple[Path, nn.Module]) -> None:
    run, model = Run.open(begun[0]), begun[1]
    start, given = run.start(), model.state_dict()
    new = classifier_weights(run.space)
    assert new == {"head.weight", "head.bias"}
    for name, value in given.items():
        if name not in new and name in start:
            torch.testing.assert_close(start[name].flatten().sort().values, value.flatten().sort().values, rtol=0, atol=0)
    assert start["head.weight"].shape == (10, 8)
    info = read_json(begun[0] / "run.json")
    assert info["brought"] == {
        "source": "own.py:Net",
        "weights": "w.pth",
        "sha256": sha256(begun[0].parent / "elsewhere.pth"),
        "license": None,
        "classifier": False,
        "address": None,
    }
    assert run.info.notes == (f"The supernet's training started from {run.info.brought}.",)
    assert not run.trained_on()[1]  # what the weights have seen is not known
    assert not trained_on(run).complete


def test_the_better_classifier_is_kept(own_cache: None, tmp_path: Path) -> None:
    """Where nothing is trained: what someone brought may be untrained, or fitted already. No batch is made of the images."""
    told: list[dict[str, Any]] = []
    named = source(tmp_path)
    run = go(tmp_path, named, epochs=0, batch_size=1000, progress=Progress(event=told.append))
    assert run.info.brought is not None
    assert not run.info.brought.classifier
    (line,) = (event["text"] for event in told if event.get("text", "").startswith("the fitted classifier is kept"))
    assert re.search(r"held-out images, top-1 [\d.]+ % with the network's own, [\d.]+ % with the fitted one", line)
    weights = run.supernet().state_dict()  # than whose classifier one that is fitted anew is no better
    file = {name: tensor.nan_to_num(1.0) for name, tensor in weights.items() if not name.endswith("_matrix")}
    torch.save(file, tmp_path / "w.pth")
    again = train("digits", out=tmp_path / "again", from_run=named, weights=tmp_path / "w.pth", epochs=0, space=SIZES, limit=120)
    assert again.info.brought is not None
    assert again.info.brought.classifier
    assert torch.equal(again.supernet().state_dict()["head.weight"], weights["head.weight"])


def test_the_space_is_in_the_run(begun: tuple[Path, nn.Module]) -> None:
    run = Run.open(begun[0])
    assert (run.space.family, run.family, run.space.resolutions) == ("graph", "own.py:Net", (16, 24))
    found = evaluate(begun[0], arch="smallest")[0]
    assert 0 <= found.accuracy.top1 <= 1
    assert any("own.py:Net" in part.text for part in status(begun[0]).parts)
    assert next(p for p in status(begun[0]).parts if p.name == "training").state == "done"


def test_it_trains(begun: tuple[Path, nn.Module]) -> None:
    run = Run.open(begun[0])
    trained, start = run.supernet().state_dict(), run.start()
    assert all(not torch.equal(trained[name], start[name]) for name in ("stem.0.weight", "blocks.0.body.0.weight", "head.weight"))


def test_a_stopped_training_goes_on_to_the_same_weights(own_cache: None, begun: tuple[Path, nn.Module], tmp_path: Path) -> None:
    named, weights, _ = own(tmp_path, 7)
    steps = iter(range(4))
    with pytest.raises(TrainingError):
        go(tmp_path, named, weights=weights, progress=Progress(stopped=lambda: next(steps, 3) == 2))
    with pytest.raises(TrainingError, match="was started with weights"):
        go(tmp_path, named, weights=tmp_path / "other.pth", resume=True)
    weights.unlink()
    (tmp_path / "own.py").unlink()  # not needed any more
    again = train("digits", out=tmp_path / "run", resume=True)
    assert again.weights_hash() == Run.open(begun[0]).weights_hash()


def test_from_a_run_of_it(begun: tuple[Path, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has its own space: leave --space out"):
        go(tmp_path, str(begun[0]))
    run = go(tmp_path, str(begun[0]), space=None)
    assert run.info.brought == Run.open(begun[0]).info.brought
    assert run.info.start is not None
    assert run.info.start.startswith("run (trained on digits;")
    assert "before that from own.py:Net" in run.info.start
    weights = Run.open(begun[0]).supernet().state_dict()
    torch.testing.assert_close(run.start(), weights, rtol=0, atol=0, equal_nan=True)  # no statistics after a training


def test_search_knows_heads(own_cache: None, tmp_path: Path) -> None:
    run = go(tmp_path, source(tmp_path, TRANSFORMER), space=None)
    assert (run.info.mean, run.info.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert run.preprocessing.mean == (0.5, 0.4, 0.3)
    assert run.space.resolutions == (24,)
    assert "heads" in {column.kind for column in run.space.columns}
    predict(run.folder, subnets=16)
    macs = run.space.lower(run.space.smallest(), 10).macs
    found = search(run.folder, Budget(macs=2 * macs), finalists=1, device="pytorch")
    assert run.space.lower(found[0].arch, 10).macs <= 2 * macs


def test_preprocessing_follows_the_weights(own_cache: None, tmp_path: Path) -> None:
    """In training and importing, evaluation and exports; a preset that is named keeps its crop."""
    text = TRANSFORMER.replace('"input_size"', '"crop_pct": 0.75, "interpolation": "bicubic", "input_size"')
    trained = go(tmp_path, source(tmp_path, text), space=None)
    assert (trained.info.crop_share, trained.info.interpolation) == (0.75, "bicubic")
    network = source(tmp_path, text + "\ndef ten(): return Net(10)\n", "ten")
    run = import_own(network, out=tmp_path / "imported", data="digits", limit=120)
    assert run.preprocessing == trained.preprocessing == Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 0.75, "bicubic")
    assert Run.open(run.folder).preprocessing == run.preprocessing
    images = run.splits().held_out
    x, _ = next(run.eval_batches(images, 24))
    wanted = [np.asarray(fit(Image.open(path), 24, 0.75, "bicubic").convert("RGB")) for path in images.files(tmp_path)]
    np.testing.assert_allclose(x, normalise(np.stack(wanted), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), atol=1e-5)
    steps = input_steps(run, 24)
    assert (steps.crop_share, steps.interpolation) == (0.75, "bicubic")
    assert "ceil(resolution / 0.75), bicubic with antialias" in steps.resize
    prepared = prepare(images.files(tmp_path)[0], asdict(steps))
    np.testing.assert_allclose(prepared[0], x[0], atol=1e-5)
    named = go(tmp_path / "named", source(tmp_path, text), space={"resolutions": (24,)}, preset="digits")
    assert named.info.crop_share == 1.0


def test_import(own_cache: None, tmp_path: Path) -> None:
    named, weights, model = own(tmp_path)
    run = import_own(named, out=tmp_path / "run", data="digits", weights=weights, space=SIZES, limit=120)
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = run.supernet()(images, run.space.largest()) - model(images)
    assert difference.abs().max() < 1e-5 * model(images).std()
    splits = open_data("digits", size=28, holdout=0.1, seed=0, limit=120)
    ready = recalibrate(model, run.calibration_batches(splits, 24))
    batches = list(run.eval_batches(splits.held_out, 24))
    with torch.no_grad():
        right = torch.cat([ready.network(x).argmax(1) == labels for x, labels in batches])
    assert evaluate(run.folder)[0].accuracy.top1 == pytest.approx(right.double().mean().item())
    assert run.info.notes == (f"The supernet's weights were imported: {run.info.brought}.",)
    (run.folder / "supernet.safetensors").unlink()
    with pytest.raises(FileError, match=r"ofa import own.py:Net --weights w.pth --out NEW"):
        run.supernet()


def test_imports_that_are_refused(own_cache: None, tmp_path: Path) -> None:
    named, weights, _ = own(tmp_path, 7)
    with pytest.raises(DataError, match=r"digits has 10 classes, the weights in w.pth have 7"):
        import_own(named, out=tmp_path / "run", data="digits", weights=weights, space=SIZES)
    with pytest.raises(ModelError, match="has random weights, and importing does not train"):
        import_own("torchvision:squeezenet1_1", weights=Path("random"), out=tmp_path / "run", space={"resolutions": (64,)})
    with pytest.raises(DataError, match="--limit 3 applies to images"):
        import_own(named, out=tmp_path / "run", weights=weights, limit=3)
    ten = source(tmp_path, OWN + "\ndef ten(): return Net()\n", "ten")
    with pytest.raises(ModelError, match=r"another number of classes: head.weight is 7×8 there and 10×8 here"):
        import_own(ten, out=tmp_path / "run", weights=weights, space=SIZES)
    assert not (tmp_path / "run").exists()


BODIES = {
    "two inputs": ("forward(self, x, y)", "return x + y", "missing a required argument"),
    "control flow": ("forward(self, x)", "return self.a(x.mean((2, 3))) if x.sum() > 0 else x", "torch.export cannot read Odd"),
    "wrong size": ("forward(self, x)", "return self.a(x.flatten(1))", "cannot read Odd with images of (16|24) pixels"),
    "several results": (
        "forward(self, x)",
        "y = self.a(x.mean((2, 3)))\n        return {'a': y, 'b': 2 * y}",
        "returns several results",
    ),
    "no logits": ("forward(self, x)", "return x.relu()", "returns no logits"),
}


@pytest.mark.parametrize("case", BODIES)
def test_networks_that_are_no_classifiers(own_cache: None, capfd: pytest.CaptureFixture[str], tmp_path: Path, case: str) -> None:
    head, body, message = BODIES[case]
    text = "from torch import nn\nclass Odd(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += f"        self.a = nn.Linear(3, 10)\n    def {head}:\n        {body}\n"
    with pytest.raises(ModelError, match=message) as raised:
        go(tmp_path, source(tmp_path, text, "Odd"))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"width": 0.5}, "has no 'width': choose from resolutions, widths, heads, depths, kernels"),
        ({"family": "mobilenet_v3"}, "has no 'family'"),
        ({"widths": (1.5,)}, "widths holds 1.5"),
        ({"widths": (0,)}, "widths holds 0"),
        ({"depths": (0,)}, "depths holds 0"),
        ({"kernels": (4,)}, "kernels holds 4"),
        ({"resolutions": (0,)}, "resolutions holds 0"),
    ],
)
def test_spaces_that_there_are_none_of(tmp_path: Path, space: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        elastic(source(tmp_path), space={**SIZES, **space})


def test_weights_need_a_network(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--weights FILE needs the network that it belongs to"):
        train("digits", out=tmp_path / "run", weights=tmp_path / "w.pth")


def test_elastic_without_data(tmp_path: Path) -> None:
    named = source(tmp_path)
    found = elastic(named, space={**SIZES, "widths": (0.5,), "kernels": (3,)})
    assert (found.resolutions, found.classes, found.largest.resolution, found.smallest.resolution) == ((16, 24), 10, 24, 16)
    assert found.networks == 2 * (4 + 4**2)  # resolutions; one or two blocks of two kernels and two widths
    model = trained_model(named)
    assert found.largest.params == sum(p.numel() for p in model.parameters())
    assert found.smallest.macs < found.largest.macs


def test_older_runs_open(begun: tuple[Path, nn.Module], trained: Path, tmp_path: Path) -> None:
    """run.json of before there were networks of one's own."""
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    info = read_json(folder / "run.json")
    for name in ("brought", "mean", "std"):
        del info[name]
    (folder / "run.json").write_text(json.dumps(info))
    run = Run.open(folder)
    assert run.info.brought is None
    assert run.preprocessing.mean == (0.485, 0.456, 0.406)
    assert run.info.notes == ()


def test_positions_are_interpolated_only_where_asked_for(tmp_path: Path) -> None:
    named, notes = source(tmp_path, TRANSFORMER), []
    for preset in ((16, 32), (16, 24)):
        assert bring_own(named, resolutions=preset, progress=Progress(event=notes.append)).supernet.space.resolutions == (24,)
        sizes = ", ".join(map(str, preset))
        text = f"own.py:Net does not take images of {sizes} pixels unchanged: the space has only the 24 pixels that it was made for"
        assert notes.pop() == {"event": "note", "text": text}
    asked = bring_own(named, choices={"resolutions": (16, 24)}, progress=Progress(event=notes.append)).supernet.space
    assert (asked.resolutions, asked.interpolated, notes) == ((16, 24), {16: ("position",)}, [])
    unsaid = TRANSFORMER.replace("self.default_cfg = ", "cfg = ")
    with pytest.raises(ModelError, match="has position embeddings of another size: set it in default_cfg; or give --resolutions"):
        bring_own(source(tmp_path, unsaid, file="unsaid.py"), resolutions=(16, 24))


def test_the_size_that_modules_tell_counts_more_than_that_of_the_weights(tmp_path: Path) -> None:
    """timm.create_model(…, img_size=96) leaves 224 in default_cfg."""
    text = TRANSFORMER.replace('"input_size": (3, 24, 24)', '"input_size": (3, 48, 48)')
    text = text.replace("        self.default_cfg", "        self.img_size = (24, 24)\n        self.default_cfg")
    notes: list[str] = []
    own = bring_own(
        source(tmp_path, text), resolutions=(32, 40), progress=Progress(event=lambda event: notes.append(event.get("text", "")))
    )
    assert own.supernet.space.resolutions == (24,)
    assert any(
        "does not take images of 32, 40 pixels unchanged: the space has only the 24 pixels that it was made for" in note
        for note in notes
    )
    assert bring_own(source(tmp_path, text)).supernet.space.resolutions == (24,)
