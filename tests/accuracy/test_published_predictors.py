"""Published predictors: the inputs and layers against a torch network on features that are built here, one by one, from settings.

With ONCEFORALL_PUBLISHED naming the folder of the published files, their predictions are compared with those of the original's code
(published_data/predictor_golden.json), which built the features and ran the layers itself.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from onceforall import Arch, Space, space
from onceforall.accuracy import AccuracyPredictor, assess
from onceforall.accuracy.perceptron import Perceptron
from onceforall.arch import Block, Stage
from onceforall.errors import ArchError, CheckpointError
from onceforall.search import maximise

DOCS = Path(__file__).parents[2] / "docs" / "published.md"
GOLDEN = Path(__file__).parents[1] / "published_data" / "predictor_golden.json"
SPACES = {"mobilenet_v3": space("mobilenet_v3", width=1.2), "resnet50d": space("resnet50d")}
FILES = {"mobilenet_v3": "acc_predictor.pth", "resnet50d": "ofa_resnet50_acc_predictor.pth"}
INPUTS = {"mobilenet_v3": 128, "resnet50d": 82}
RESNET_SIZES = [128, 144, 160, 176, 192, 224, 240, 256]
MOBILE_WIDTHS = (32, 48, 96, 136, 192)
WIDTHS = [(24, 24, 32), (40, 48, 64), (168, 208, 256), (336, 408, 512), (664, 816, 1024), (1328, 1640, 2048)]
BOTH = pytest.mark.parametrize("family", list(SPACES))
Settings = dict[str, Any]


def some_settings(family: str, rng: random.Random, resolution: int) -> Settings:
    if family == "mobilenet_v3":
        chosen = {"ks": rng.choices((3, 5, 7), k=20), "e": rng.choices((3, 4, 6), k=20), "d": rng.choices((2, 3, 4), k=5)}
    else:
        widths = [rng.choice((0, 2)), *rng.choices((0, 1, 2), k=5)]
        depths = [rng.choice((0, 2)), *rng.choices((0, 1, 2), k=4)]
        chosen = {"e": rng.choices((0.2, 0.25, 0.35), k=18), "d": depths, "w": widths}
    return {**chosen, "resolution": resolution}


def arch_of(family: str, s: Settings) -> Arch:
    if family == "mobilenet_v3":
        blocks = [Block(k, e) for k, e in zip(s["ks"], s["e"], strict=True)]
        stages = [Stage(w, tuple(blocks[4 * i : 4 * i + d])) for i, (w, d) in enumerate(zip(MOBILE_WIDTHS, s["d"], strict=True))]
        return Arch(s["resolution"], tuple(stages))
    widths, stem = [options[w] for options, w in zip(WIDTHS, s["w"], strict=True)], Block(3, 1)
    stages = [Stage(widths[0], (stem, stem) if s["d"][0] else (stem,)), Stage(widths[1], (stem,))]
    first = 0
    for width, most, d in zip(widths[2:], (4, 4, 6, 4), s["d"][1:], strict=True):
        stages.append(Stage(width, tuple(Block(3, e) for e in s["e"][first : first + most - 2 + d])))
        first += most
    return Arch(s["resolution"], tuple(stages))


def features_of(family: str, s: Settings) -> list[float]:
    x: list[float] = []
    if family == "mobilenet_v3":
        present = [i < d for d in s["d"] for i in range(4)]
        for name, choices in (("ks", (3, 5, 7)), ("e", (3, 4, 6))):
            for value, there in zip(s[name], present, strict=True):
                x += [float(there and value == choice) for choice in choices]
        return x + [float((s["resolution"] - 112) // 16 == i) for i in range(8)]
    known = max(size for size in RESNET_SIZES if size <= s["resolution"])
    x += [float(known == size) for size in RESNET_SIZES]
    x += [float(s["d"][0] == 0), float(s["d"][0] == 2)]
    for w in s["w"]:
        x += [float(w == i) for i in range(3)]
    present = [i < most - 2 + d for most, d in zip((4, 4, 6, 4), s["d"][1:], strict=True) for i in range(most)]
    for value, there in zip(s["e"], present, strict=True):
        x += [float(there and value == choice) for choice in (0.2, 0.25, 0.35)]
    return x


def random_tensors(family: str, seed: int = 0, units: int = 24) -> dict[str, Tensor]:
    """Weights with the published names; some negligible, as in the published files, and some units without inputs."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [INPUTS[family], units, units + 3, units + 5, 1]
    layers = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = torch.randn(outputs, inputs, generator=generator) * (2 / min(inputs, 40)) ** 0.5 * (0.2 if i == 3 else 1)
        weight[torch.rand(weight.shape, generator=generator) < 0.3] = 1e-40
        weight[: outputs // 5] = 1e-41
        layers.append((weight, 0.3 * torch.randn(outputs, generator=generator)))
    layers[-1] = (layers[-1][0], torch.tensor([0.75]))
    if family == "mobilenet_v3":
        return {f"{2 * i}.{n}": t for i, pair in enumerate(layers) for n, t in zip(("weight", "bias"), pair, strict=True)}
    named = {f"layers.{i}.0.{n}": t for i in range(3) for n, t in zip(("weight", "bias"), layers[i], strict=True)}
    return {"base_acc": layers[3][1], **named, "layers.3.weight": layers[3][0]}


def reference(family: str, tensors: dict[str, Tensor]) -> Callable[[list[Settings]], np.ndarray]:
    """The published network in torch, in float64."""
    weights = [t for name, t in tensors.items() if name.endswith("weight")]
    biases = [t for name, t in tensors.items() if name.endswith("bias")]
    biases = biases if family == "mobilenet_v3" else [*biases, tensors["base_acc"]]
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
        layer.load_state_dict({"weight": weight.double(), "bias": bias.double()})
        layers += [layer, nn.ReLU()]
    network = nn.Sequential(*layers[:-1])

    def predict(chosen: list[Settings]) -> np.ndarray:
        x = torch.tensor([features_of(family, s) for s in chosen], dtype=torch.float64)
        with torch.no_grad():
            return network(x)[:, 0].numpy()

    return predict


def a_file(family: str, folder: Path, **changed: Tensor | None) -> Path:
    tensors = {name: t for name, t in {**random_tensors(family), **changed}.items() if t is not None}
    torch.save(tensors, folder / FILES[family])
    return folder / FILES[family]


def sizes_of(part: Space, family: str) -> list[int]:
    low, high = (112, 239) if family == "mobilenet_v3" else (128, 271)
    return [r for r in part.resolutions if low <= r <= high]


@BOTH
def test_against_torch_on_features_built_one_by_one(family: str, tmp_path: Path) -> None:
    own, rng = space(family, width=SPACES[family].arguments["width"], resolutions=range(112, 272)), random.Random(0)
    predictor = AccuracyPredictor.from_published(a_file(family, tmp_path), own)
    chosen = [some_settings(family, rng, r) for r in sizes_of(own, family) for _ in range(15)]
    archs = [arch_of(family, s) for s in chosen]
    wanted = reference(family, random_tensors(family))(chosen)
    assert wanted.std() > 0.02
    np.testing.assert_allclose(predictor.score(archs), wanted, atol=1e-6)
    genes = own.genes(archs)
    np.testing.assert_array_equal(predictor.score(genes), predictor.score(archs))
    np.testing.assert_allclose(predictor.score(genes[::-1]), wanted[::-1], atol=1e-6)
    np.testing.assert_allclose(predictor.predict(archs), np.clip(wanted, 0, 1), atol=1e-6)
    mean, std = predictor.predict_with_error(archs)
    np.testing.assert_array_equal(mean, predictor.predict(archs))
    assert set(std) == {0.0021}
    assert predictor.predict(genes[:0]).shape == (0,)
    assert predictor.predict(genes).dtype == np.float64


@BOTH
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_parts_of_the_space_predict_the_same(
    family: str, data: st.DataObject, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    full = SPACES[family]
    path = a_file(family, tmp_path_factory.getbasetemp())
    part = full.restrict(resolutions=data.draw(st.lists(st.sampled_from(full.resolutions), min_size=1, unique=True)))
    for s, stage in enumerate(full.stages):
        kept = {
            name: tuple(v for v in values if v in data.draw(st.sets(st.sampled_from(values), min_size=1)))
            for name, values in vars_of(stage).items()
        }
        kept = {name: values or vars_of(stage)[name] for name, values in kept.items()}
        part = replace(part, stages=(*part.stages[:s], replace(stage, **kept), *part.stages[s + 1 :]))
    archs = part.archs(part.sample_genes(np.random.default_rng(seed), 20))
    whole, some = (AccuracyPredictor.from_published(path, own).predict(archs) for own in (full, part))
    np.testing.assert_allclose(some, whole, atol=1e-7)


def vars_of(stage: Any) -> dict[str, tuple[Any, ...]]:
    return {name: getattr(stage, name) for name in ("widths", "depths", "kernels", "expand_ratios")}


def test_spaces_made_smaller(tmp_path: Path) -> None:
    path = a_file("mobilenet_v3", tmp_path)
    small = space("mobilenet_v3", width=1.2, resolutions=(150, 230), depths=(3,), kernels=(7, 5), expand_ratios=(6,))
    arch = small.largest()
    same = replace(arch, resolution=224)
    whole = AccuracyPredictor.from_published(path, SPACES["mobilenet_v3"])
    np.testing.assert_array_equal(AccuracyPredictor.from_published(path, small).predict([arch]), whole.predict([same]))


@BOTH
def test_resolutions(family: str, tmp_path: Path) -> None:
    """A resolution between two known ones is taken for the lower; one outside is refused when it is asked for."""
    own = space(
        family, width=SPACES[family].arguments["width"], resolutions=(96, 111, 112, 127, 128, 192, 208, 223, 224, 239, 271, 272)
    )
    predictor = AccuracyPredictor.from_published(a_file(family, tmp_path), own)
    y = {r: predictor.score([own.largest(r)])[0] for r in sizes_of(own, family)}
    assert y[239] == y[224] if family == "mobilenet_v3" else y[208] == y[223] == y[192] != y[224]
    assert len(set(y.values())) == (5 if family == "mobilenet_v3" else 4)
    for r in set(own.resolutions) - set(y):
        known = "112, 128, .* 224 .*from 112 to 239" if family == "mobilenet_v3" else "128, 144, 160, .* 256 .*from 128 to 271"
        with pytest.raises(ArchError, match=f"resolution {r} is not known to this predictor: it knows {known}"):
            predictor.predict([own.largest(192), own.largest(r)])


def mobile(**arguments: Any) -> Space:
    return space("mobilenet_v3", **{"width": 1.2, **arguments})


def resnet(**arguments: Any) -> Space:
    return space("resnet50d", **arguments)


WRONG: dict[str, tuple[str, Space, str]] = {
    "family": ("mobilenet_v3", resnet(), r"for space\('mobilenet_v3', width=1.2\), not for resnet50d"),
    "other family": ("resnet50d", mobile(), r"for space\('resnet50d', width=1\), not for mobilenet_v3"),
    "proxyless": ("mobilenet_v3", space("proxyless"), "not for proxyless"),
    "width": ("mobilenet_v3", mobile(width=1), r"width 1\.2, not 1\.0, whose networks differ: load it for that space"),
    "width with the same stages": ("mobilenet_v3", mobile(width=1.19), r"width 1\.2, not 1\.19"),
    "strides": ("mobilenet_v3", mobile(strides=(1, 1, 2, 2, 2, 1, 2)), r"strides \(2, 1, 2, .* not \(1, 1"),
    "depths": ("mobilenet_v3", mobile(depths=(1, 2)), r"stage 0 offers depths \(1, 2\), this .* \(2, 3, 4\)"),
    "deep": ("mobilenet_v3", mobile(depths=(4, 5)), r"stage 0 offers depths \(4, 5\)"),
    "kernels": ("mobilenet_v3", mobile(kernels=(3, 9)), r"kernels \(3, 9\), this predictor knows \(3, 5, 7\)"),
    "ratios": ("mobilenet_v3", mobile(expand_ratios=(3, 5)), r"expand_ratios \(3, 5\), .*restrict the space"),
    "multipliers": ("resnet50d", resnet(width_multipliers=(0.5, 1)), r"stage 0 offers widths \(16, 32\)"),
    "resnet ratios": ("resnet50d", resnet(expand_ratios=(0.3,)), r"stage 2 offers expand_ratios \(0.3,\)"),
    "resnet depths": ("resnet50d", resnet(depths=(0, 3)), r"stage 2 offers depths \(2, 5\)"),
    "resnet width": ("resnet50d", resnet(width=0.5), r"width 1\.0, not 0\.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_spaces_are_refused(case: str, tmp_path: Path) -> None:
    family, other, message = WRONG[case]
    path = a_file(family, tmp_path)
    with pytest.raises(ArchError, match=message) as caught:
        AccuracyPredictor.from_published(path, other)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    own = SPACES["mobilenet_v3"]
    cases: list[tuple[dict[str, Tensor | None], str]] = [
        ({"6.bias": None}, r"holds 0.weight, 0.bias, 2.weight, …: not one of the published .* \(mobilenet_v3, resnet50d\)"),
        ({"8.bias": torch.ones(1)}, "not one of the published"),
        ({"0.weight": torch.ones(24, 124)}, r"0.weight has shape \(24, 124\): mobilenet_v3 needs \(units, 128\)"),
        ({"0.weight": torch.ones(128)}, r"0.weight has shape \(128,\)"),
        ({"2.weight": torch.ones(5, 6)}, "the layers do not make a chain: check the path"),
        ({"2.bias": torch.ones(5)}, "do not make a chain"),
        ({"2.bias": torch.tensor(1.0)}, "do not make a chain"),
        ({"4.weight": torch.ones(5)}, "not a published accuracy predictor"),
        ({"6.weight": torch.ones(2, 29), "6.bias": torch.ones(2)}, "the last layer gives 2 numbers, not one"),
        ({"6.bias": torch.tensor([float("nan")])}, "'6.bias' holds values that are not finite"),
        ({"0.weight": torch.ones(24, 128, dtype=torch.complex64)}, "'0.weight' holds complex64"),
    ]  # fmt: skip
    for changed, message in cases:
        path = a_file("mobilenet_v3", tmp_path, **changed)
        with pytest.raises(CheckpointError, match=message) as caught:
            AccuracyPredictor.from_published(path, own)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        AccuracyPredictor.from_published(tmp_path / "none", own)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        AccuracyPredictor.from_published(path, own)


@BOTH
def test_wrong_gene_matrices(family: str, tmp_path: Path) -> None:
    own = SPACES[family]
    predictor, genes = AccuracyPredictor.from_published(a_file(family, tmp_path), own), own.genes([own.smallest(), own.largest()])
    for column, value in ((0, 25), (0, -1), (3, 3), (genes.shape[1] - 1, 0)):
        wrong = genes.copy()
        wrong[0, column] = value
        with pytest.raises(ArchError, match=r"outside|beyond its stage's depth"):
            predictor.predict(wrong)
    with pytest.raises(ArchError, match="has shape"):
        predictor.predict(genes[:, 1:])
    with pytest.raises(ArchError, match=r"this .* space (allows|has)"):
        predictor.predict([space("proxyless").largest()])


@BOTH
def test_save_and_load(family: str, tmp_path: Path) -> None:
    own, path = SPACES[family].restrict(resolutions=(160, 192)), tmp_path / "predictor.safetensors"
    predictor = AccuracyPredictor.from_published(str(a_file(family, tmp_path)), own, weights_hash="abc")
    predictor.save(path)
    loaded = AccuracyPredictor.load(path, own, weights_hash="abc")
    genes = own.sample_genes(np.random.default_rng(0), 1500)
    for a, b in zip(loaded.predict_with_error(genes), predictor.predict_with_error(genes), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (
        (loaded.weights_hash, loaded.kind, loaded.n)
        == ("abc", "published", 0)
        == (predictor.weights_hash, predictor.kind, predictor.n)
    )
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(CheckpointError, match="with weights abc, not xyz"):
        AccuracyPredictor.load(path, own, weights_hash="xyz")
    with pytest.raises(CheckpointError, match="made for another space"):
        AccuracyPredictor.load(path, SPACES[family])


def test_a_search_finds_what_random_draws_do_not(tmp_path: Path) -> None:
    own = SPACES["resnet50d"].restrict(resolutions=(192, 224))
    predictor = AccuracyPredictor.from_published(a_file("resnet50d", tmp_path), own)
    found = maximise(own, predictor.score, {}, seed=0, evaluations=5000)
    genes = own.sample_genes(np.random.default_rng(0), 5000)
    assert found.score > predictor.score(genes).max()
    assert found.score == pytest.approx(predictor.score([found.best])[0], abs=1e-6)
    y = predictor.predict(genes)
    errors = assess(predictor, genes, y)
    assert (errors.rmse, errors.coverage90) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 10**6), st.floats(0, 1))
def test_idle_units_are_left_out_exactly(sizes: list[int], seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape) for shape in zip(sizes, [*sizes[1:], 1], strict=True)]
    weights = [np.where(rng.random(w.shape) < share, 1e-39, w) for w in weights]
    biases = [rng.standard_normal(w.shape[1]) for w in weights]
    x = rng.integers(0, 2, (10, sizes[0])).astype(np.float32)
    wanted = x.astype(np.float64)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        wanted = (np.maximum(wanted, 0) if i else wanted) @ weight + bias
    found = Perceptron.of(weights, biases)
    np.testing.assert_allclose(found(x.copy()), wanted[:, 0], atol=1e-4)
    for array in (*found.weights, *found.biases):
        assert not ((array != 0) & (np.abs(array) < 1e-30)).any()
    for before, after in pairwise(found.weights):
        assert before.any(0).all()
        assert after.any(1).all()


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = DOCS.read_text(encoding="utf-8").split("## Accuracy predictors")[1]
    a_file("mobilenet_v3", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```py\n(.*?)```", section, re.DOTALL)[0], names := dict[str, Any]())
    assert names["predictor"].predict([names["best"]])[0] == pytest.approx(names["top1"].max(), abs=1e-6)
    loaded = AccuracyPredictor.load("predictor.safetensors", names["space"])
    np.testing.assert_array_equal(loaded.predict(names["genes"]), names["top1"])


def test_no_torch_before_a_file_is_read() -> None:
    code = "import sys, onceforall.accuracy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@BOTH
@pytest.mark.skipif(
    "ONCEFORALL_PUBLISHED" not in os.environ, reason="ONCEFORALL_PUBLISHED does not name the published files' folder"
)
def test_the_published_files(family: str) -> None:
    """Against what the original's own code predicts with them."""
    known = json.loads(GOLDEN.read_text())[family]
    own = space(family, width=SPACES[family].arguments["width"], resolutions=sorted({s["resolution"] for s in known}))
    predictor = AccuracyPredictor.from_published(Path(os.environ["ONCEFORALL_PUBLISHED"]) / FILES[family], own)
    found = predictor.predict([arch_of(family, s) for s in known])
    np.testing.assert_allclose(found, [s["accuracy"] for s in known], atol=1e-6)
