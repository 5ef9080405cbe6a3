"""The predictor: right on what it was not fitted to, honest error bars, pinned to its supernet and space."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

from onceforall import space
from onceforall.accuracy import AccuracyPredictor, assess
from onceforall.accuracy.gaussian import KINDS, Kernel, fit_process
from onceforall.costs import macs_table, segment_table
from onceforall.errors import ArchError, CheckpointError, DataError, FileError
from onceforall.statistics import kendall_tau

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
    assert predictor.kind in KINDS
    assert predictor.n == 150


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
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(loaded.predict(genes), predictor.predict(genes))
    assert (loaded.weights_hash, loaded.kind, loaded.n) == ("abc", predictor.kind, 150)
    assert AccuracyPredictor.load(path, SPACE).weights_hash == "abc"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pinned_to_weights_and_space(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    with pytest.raises(CheckpointError, match="with weights abc, not xyz: measure sub-networks of this supernet and fit anew"):
        AccuracyPredictor.load(path, SPACE, weights_hash="xyz")
    for other in (space("mobilenet_v3"), SPACE.restrict(kernels=(3, 5))):
        with pytest.raises(CheckpointError, match="made for another space"):
            AccuracyPredictor.load(path, other)


def test_files_from_before_there_were_several_kinds_of_models(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    predictor.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["onceforall"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    assert description.pop("model") == "process"
    assert set(description) == {"format", "space", "weights_hash", "kernel", "numbers"}
    safetensors.numpy.save_file(arrays, path, {"onceforall": json.dumps(description)})
    genes, _ = measured(50, 3)
    np.testing.assert_array_equal(AccuracyPredictor.load(path, SPACE).predict(genes), predictor.predict(genes))
    for broken in (
        {"model": "other"},
        {"model": "published"},
        {"model": "published", "layout": "resnet50d"},
        {"model": ["process"]},
    ):
        safetensors.numpy.save_file(arrays, path, {"onceforall": json.dumps(description | broken)})
        with pytest.raises(CheckpointError, match="damaged: fit or import the predictor anew"):
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
        ("numbers", {**described["numbers"], "mean": float("nan")}),
        ("numbers", {**described["numbers"], "mean": 10**400}),
        ("numbers", []),
        ("kernel", {**described["kernel"], "kind": "other"}),
        ("kernel", {**described["kernel"], "share": -1.0}),
        ("kernel", {**described["kernel"], "summary": "x"}),
        ("kernel", []),
        ("weights_hash", []),
        ("space", None),
    ):
        others.append(described | {key: value})
    texts = [*map(json.dumps, others), "[" * 100_000, "{", ""]
    wrong: list[tuple[str, dict[str, np.ndarray]]] = [(text, arrays) for text in texts]
    for name, array in arrays.items():
        for value in (np.nan, np.inf):
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
    fitted = AccuracyPredictor.fit(SPACE, genes, y)
    with pytest.raises(DataError, match="too few to assess"):
        assess(fitted, genes[:1], y[:1])
    with pytest.raises(ArchError):
        fitted.predict([space("mobilenet_v3").largest()])
    with pytest.raises(ArchError, match="has shape"):
        fitted.predict(genes[:, 1:])


def test_linear_kernel_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)), rng.standard_normal(40)
    process = fit_process(x, y, kinds=("linear",), summary=2, rng=rng)[0]
    scaled, new = process.kernel.scaled(x), process.kernel.scaled(rng.standard_normal((10, 6)))
    kernel = ConstantKernel(1.0, "fixed") * DotProduct(0.0, "fixed")
    reference = GaussianProcessRegressor(kernel, alpha=process.noise, optimizer=None).fit(scaled, y - y.mean())
    mean = process.kernel(new, process.points) @ process.weights
    np.testing.assert_allclose(mean, reference.predict(new), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_leave_one_out_is_leaving_one_out(kind: str) -> None:
    """The closed form against really leaving each point out (the mean stays, as in the closed form)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 5))
    y = x @ rng.standard_normal(5) + 0.1 * rng.standard_normal(12)
    process = fit_process(x, y, kinds=(kind,), summary=2, rng=rng)[0]  # type: ignore[arg-type]
    points = process.kernel.scaled(x)
    covariance = process.kernel(points, points) + process.noise * np.eye(12)
    errors = []
    for i in range(12):
        rest = np.arange(12) != i
        solved = np.linalg.solve(covariance[np.ix_(rest, rest)], y[rest] - y.mean())
        errors.append(y[i] - y.mean() - covariance[i, rest] @ solved)
    assert process.rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_positive_and_symmetric(kind: str) -> None:
    kernel = Kernel(kind, summary=3, share=0.5, mixture=0.3, length=1.0)  # type: ignore[arg-type]
    points = kernel.scaled(np.random.default_rng(0).standard_normal((30, 8)))
    matrix = kernel(points, points)
    np.testing.assert_allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_kendall_tau() -> None:
    a = np.array([1.0, 2, 3, 4])
    assert kendall_tau(a, a) == 1
    assert kendall_tau(a, -a) == -1
    assert kendall_tau(a, np.zeros(4)) == 0
    assert kendall_tau(a, np.array([1.0, 3, 2, 4])) == pytest.approx(4 / 6)
    assert kendall_tau(a, np.array([1.0, 1, 2, 3])) == pytest.approx(5 / np.sqrt(30))  # tau-b: ties count half
