"""The predictor: right on what it was not fitted to, honest error bars, pinned to its supernet and space."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import space
from onceforall.accuracy import AccuracyPredictor, assess
from onceforall.accuracy.choose import LEARNERS, Calibration
from onceforall.common.statistics import kendall_tau
from onceforall.costs import macs_table, segment_table
from onceforall.errors import ArchError, CheckpointError, DataError, FileError

SPACE = space("mobilenet_v3", width=0.5, depths=(1, 2, 3), kernels=(3, 5, 7), expand_ratios=(3, 4, 6), resolutions=(64, 80, 96))
MACS = macs_table(segment_table(SPACE, 10))
NOISE = 0.003


def truth(genes: np.ndarray) -> np.ndarray:
    """Like supernets: saturating in size, every choice with an effect of its own."""
    rng = np.random.default_rng(7)
    effects = 0.002 * rng.standard_normal(SPACE.encode(genes[:1]).shape[1])
    size = np.log(MACS.estimate(genes) / MACS.estimate([SPACE.smallest()])[0])
    return 0.8 - 0.12 * np.exp(-1.5 * size) + SPACE.encode(genes) @ effects


def measured(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    genes = SPACE.sample_genes(rng, n)
    return genes, np.clip(truth(genes) + NOISE * rng.standard_normal(n), 0, 1)


@pytest.fixture(scope="module")
def predictor() -> AccuracyPredictor:
    return AccuracyPredictor.fit(SPACE, *measured(150, 0), weights_hash="abc", seed=0)


def test_predicts_networks_it_has_not_seen(predictor: AccuracyPredictor) -> None:
    genes, y = measured(400, 1)
    errors = assess(predictor, genes, y)
    assert errors.rmse < 2 * NOISE
    assert errors.kendall_tau > 0.65
    assert 0.82 <= errors.coverage90 <= 0.97
    assert errors.n == 400
    assert np.sqrt(np.mean((predictor.predict(genes) - truth(genes)) ** 2)) < 1.5 * NOISE
    assert predictor.kind in ("linear", "pairwise")  # the truth is nearly linear: no reason to give proofs up
    assert predictor.n == 150
    assert set(predictor.candidates) == set(LEARNERS)
    assert min(predictor.candidates.values()) > 0.8 * NOISE


@pytest.mark.parametrize("kind", LEARNERS)
def test_every_kind_predicts_and_is_saved(kind: str, tmp_path: Path) -> None:
    genes, y = measured(150, 0)
    fitted = AccuracyPredictor.fit(SPACE, genes, y, kinds=[kind])
    others, new = measured(300, 1)
    errors = assess(fitted, others, new)
    assert fitted.kind == kind
    assert fitted.n == 150
    assert errors.rmse < 0.6 * new.std()
    assert 0.8 <= errors.coverage90 <= 0.98
    fitted.save(tmp_path / "predictor.safetensors")
    loaded = AccuracyPredictor.load(tmp_path / "predictor.safetensors", SPACE)
    for a, b in zip(loaded.predict_with_error(others), fitted.predict_with_error(others), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert (loaded.kind, loaded.n, loaded.calibration) == (kind, 150, fitted.calibration)
    quadratic = fitted.structure()
    assert (quadratic is not None) == (kind in ("linear", "pairwise"))
    if quadratic is not None:
        np.testing.assert_allclose(quadratic(others), fitted.score(others), atol=1e-9)


def test_losses_take_noise_out_of_accuracies() -> None:
    """Losses that tell the accuracy exactly leave no noise to speak of; those that tell nothing do no harm."""
    genes, y = measured(120, 0)
    others = SPACE.sample_genes(np.random.default_rng(1), 300)
    rng = np.random.default_rng(2)

    def off(losses: np.ndarray | None) -> float:
        fitted = AccuracyPredictor.fit(SPACE, genes, y, losses=losses, kinds=["pairwise"])
        return float(np.sqrt(np.mean((fitted.score(others) - truth(others)) ** 2)))

    alone = off(None)
    assert off(-3 * np.log(truth(genes))) < 0.7 * alone
    assert off(rng.random(120)) < 1.1 * alone


def test_the_errors_of_the_prediction_itself_are_smaller(predictor: AccuracyPredictor) -> None:
    genes, _ = measured(400, 1)
    mean, std = predictor.predict_with_error(genes, measured=False)
    _, wider = predictor.predict_with_error(genes)
    np.testing.assert_allclose(wider**2 - std**2, predictor.calibration.noise**2, rtol=1e-6)
    assert 0.7 * NOISE < predictor.calibration.noise < 1.3 * NOISE
    assert 0.75 <= np.mean(np.abs(mean - truth(genes)) < 1.645 * std) <= 1


def test_what_is_known_of_the_noise_tells_misfit_apart() -> None:
    genes, y = measured(200, 0)
    for noise, misfit in ((None, 0.0), (1.0, 0.0)):
        assert AccuracyPredictor.fit(SPACE, genes, y, noise=noise, kinds=["linear"]).calibration.misfit == misfit
    known = AccuracyPredictor.fit(SPACE, genes, y, noise=0.1 * NOISE, kinds=["linear"]).calibration
    assert known.misfit > 5 * known.noise
    assert Calibration(2.0, 3.0, 6.0)(np.array([1.0]), measured=True) == pytest.approx(7.0)
    assert Calibration(2.0, 3.0, 6.0)(np.array([1.0]), measured=False) == pytest.approx(np.sqrt(13))


def test_archs_and_genes_give_the_same(predictor: AccuracyPredictor) -> None:
    genes, y = measured(20, 2)
    archs = SPACE.archs(genes)
    np.testing.assert_array_equal(predictor.predict(archs), predictor.predict(genes))
    mean, std = predictor.predict_with_error(archs)
    np.testing.assert_allclose(mean, predictor.predict(genes), atol=1e-6)
    assert (std > 0).all()
    assert assess(predictor, archs, list(y)) == assess(predictor, genes, y)
    assert predictor.predict(genes[:0]).shape == (0,)


def test_the_order_and_number_of_rows_do_not_matter(predictor: AccuracyPredictor) -> None:
    genes = SPACE.sample_genes(np.random.default_rng(0), 9000)
    np.testing.assert_allclose(predictor.predict(genes)[::-1], predictor.predict(genes[::-1]), atol=1e-6)


def test_error_bars_grow_away_from_the_measured_networks() -> None:
    genes = SPACE.sample_genes(np.random.default_rng(0), 600)
    y = np.clip(truth(genes), 0, 1)
    order = np.argsort(MACS.estimate(genes))
    fitted = AccuracyPredictor.fit(SPACE, genes[order[:100]], y[order[:100]])
    near, far = (fitted.predict_with_error(genes[part])[1].mean() for part in (order[:100], order[-100:]))
    assert far > near


def test_same_seed_same_predictor(predictor: AccuracyPredictor) -> None:
    again = AccuracyPredictor.fit(SPACE, *measured(150, 0), seed=0)
    genes, _ = measured(50, 3)
    np.testing.assert_array_equal(again.predict(genes), predictor.predict(genes))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 30))
def test_few_constant_or_wild_data_do_no_harm(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    genes = SPACE.sample_genes(rng, n)
    for y in (np.full(n, 0.5), rng.random(n), np.ones(n)):
        fitted = AccuracyPredictor.fit(SPACE, genes, y)
        mean, std = fitted.predict_with_error(SPACE.sample_genes(rng, 50))
        assert ((mean >= 0) & (mean <= 1)).all()
        assert np.isfinite(std).all()


def test_save_and_load(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    loaded = AccuracyPredictor.load(path, SPACE, weights_hash="abc")
    genes, _ = measured(50, 3)
    for a, b in zip(loaded.predict_with_error(genes), predictor.predict_with_error(genes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)  # BLAS adds up in an order that depends on where arrays lie in memory
    np.testing.assert_allclose(loaded.predict(genes), predictor.predict(genes), rtol=1e-12)
    assert (loaded.weights_hash, loaded.kind, loaded.n) == ("abc", predictor.kind, 150)
    assert AccuracyPredictor.load(path, SPACE).weights_hash == "abc"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pinned_to_weights_and_space(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    with pytest.raises(CheckpointError, match="with weights abc, not xyz: measure sub-networks of this supernet and fit again"):
        AccuracyPredictor.load(path, SPACE, weights_hash="xyz")
    for other in (space("mobilenet_v3"), SPACE.restrict(kernels=(3, 5))):
        with pytest.raises(CheckpointError, match="made for another space"):
            AccuracyPredictor.load(path, other)


def rewritten(path: Path, **changes: object) -> None:
    with safetensors.safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["onceforall"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    safetensors.numpy.save_file(arrays, path, {"onceforall": json.dumps(description | changes)})


def test_other_formats_and_models(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    rewritten(path, format="onceforall.predictor/1")
    with pytest.raises(CheckpointError, match=r"unknown predictor format 'onceforall.predictor/1', not .*/2': fit or import"):
        AccuracyPredictor.load(path, SPACE)
    for model in ("other", "published", ["process"]):
        predictor.save(path)
        rewritten(path, model=model)
        with pytest.raises(CheckpointError, match="damaged: fit or import the predictor again"):
            AccuracyPredictor.load(path, SPACE)
    for model in ("trees", "perceptrons"):
        predictor.save(path)
        rewritten(path, model=model)
        with pytest.raises(CheckpointError, match=f"by an earlier version with {model}, .* with ofa accuracy fit RUN"):
            AccuracyPredictor.load(path, SPACE)


def test_descriptions_and_numbers_that_are_none(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        described = json.loads(file.metadata()["onceforall"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    assert json.loads(json.dumps(described)) == described
    others: list[object] = [[], [described], None, 3, "x", {}, {"format": described["format"]}]
    for key, value in (
        ("rank", 3),
        ("middle", float("nan")),
        ("middle", 10**400),
        ("spread", 0.0),
        ("kind", "other"),
        ("kind", "smooth"),
        ("kind", []),
        ("calibration", {"scale": -1.0, "misfit": 0.0, "noise": 0.0}),
        ("calibration", {"width": 1.0}),
        ("calibration", []),
        ("candidates", None),
        ("weights_hash", []),
        ("space", None),
    ):
        others.append(described | {key: value})
    texts = [*map(json.dumps, others), "[" * 100_000, "{", ""]
    wrong: list[tuple[str, dict[str, np.ndarray]]] = [(text, arrays) for text in texts]
    for name, array in arrays.items():
        for value in (np.nan, np.inf) if array.dtype.kind == "f" else (-2, 99):
            changed = array.copy()
            changed.flat[-1] = value
            wrong.append((json.dumps(described), arrays | {name: changed}))
        wrong.append((json.dumps(described), arrays | {name: array[..., :-1]}))
        wrong.append((json.dumps(described), {n: a for n, a in arrays.items() if n != name}))
    for text, content in wrong:
        safetensors.numpy.save_file({n: np.ascontiguousarray(a) for n, a in content.items()}, path, {"onceforall": text})
        with pytest.raises(CheckpointError, match=r"predictor") as caught:
            AccuracyPredictor.load(path, SPACE, weights_hash="abc")
        assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "this is a pipe or device"), ("", "this is a folder, a file is needed")):
        with pytest.raises(FileError, match=message):
            AccuracyPredictor.load(tmp_path / name, SPACE)


def test_damaged_files(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    with pytest.raises(FileError, match="no such file"):
        AccuracyPredictor.load(path, SPACE)
    predictor.save(path)
    content = path.read_bytes()
    for broken in (content[:100], content[: len(content) // 2], b"", b"not a predictor" * 100):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            AccuracyPredictor.load(path, SPACE)


def test_bad_data() -> None:
    genes, y = measured(20, 0)
    with pytest.raises(DataError, match=r"not in \[0, 1\]: give fractions, not percentages"):
        AccuracyPredictor.fit(SPACE, genes, 100 * y)
    with pytest.raises(DataError, match="nan is not in"):
        AccuracyPredictor.fit(SPACE, genes, np.where(np.arange(20) == 3, np.nan, y))
    with pytest.raises(DataError, match="20 networks need 20 accuracies"):
        AccuracyPredictor.fit(SPACE, genes, y[:19])
    with pytest.raises(DataError, match="7 measured networks are too few"):
        AccuracyPredictor.fit(SPACE, genes[:7], y[:7])
    for losses in (y[:19], np.full(20, np.inf)):
        with pytest.raises(DataError, match="20 networks need 20 losses, all finite"):
            AccuracyPredictor.fit(SPACE, genes, y, losses=losses)
    for kinds in ([], ["linear", "forest"]):
        with pytest.raises(DataError, match=r"kinds of models .*: choose from linear, pairwise, smooth"):
            AccuracyPredictor.fit(SPACE, genes, y, kinds=kinds)
    fitted = AccuracyPredictor.fit(SPACE, genes, y)
    with pytest.raises(DataError, match="too few to assess"):
        assess(fitted, genes[:1], y[:1])
    with pytest.raises(ArchError):
        fitted.predict([space("mobilenet_v3").largest()])
    with pytest.raises(ArchError, match="has shape"):
        fitted.predict(genes[:, 1:])


def test_kendall_tau() -> None:
    a = np.array([1.0, 2, 3, 4])
    assert kendall_tau(a, a) == 1
    assert kendall_tau(a, -a) == -1
    assert kendall_tau(a, np.zeros(4)) == 0
    assert kendall_tau(a, np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)
    assert kendall_tau(a, np.array([1.0, 1, 2, 3])) == pytest.approx(5 / np.sqrt(30))  # tau-b: ties count half
