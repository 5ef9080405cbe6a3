"""Published predictors: the inputs and layers against a torch network on features that are built from settings, one by one."""

import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_networks import BOTH, SPACES, a_file, arch_of, random_tensors, reference, sizes_of, some_settings

from onceforall import space
from onceforall.accuracy import AccuracyPredictor, assess
from onceforall.errors import ArchError, CheckpointError
from onceforall.search import maximise

DOCS = Path(__file__).parents[2] / "docs" / "published.md"


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
