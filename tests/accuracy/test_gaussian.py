"""Gaussian processes, folds and what is learnt without a fold, against doing it the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

from onceforall import space
from onceforall.accuracy.choose import FOLDS, as_measured, assign_folds, denoised, relatives
from onceforall.accuracy.features import Features
from onceforall.accuracy.gaussian import solve, weigh
from onceforall.accuracy.process_model import KINDS, Kernel, ProcessModel
from onceforall.costs import macs_table, segment_table

SPACE = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48))
FEATURES = Features.of(SPACE)


def test_mean_and_variance_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y, new = rng.standard_normal((40, 6)), rng.standard_normal(40), rng.standard_normal((10, 6))
    found = solve(x @ x.T, 0.3, as_measured(y, np.arange(40) % 4), np.arange(40) % 4)
    kernel = ConstantKernel(1.0, "fixed") * DotProduct(0.0, "fixed")
    reference = GaussianProcessRegressor(kernel, alpha=0.3, optimizer=None).fit(x, y)
    mean, std = reference.predict(new, return_std=True)
    np.testing.assert_allclose(new @ x.T @ found.weights, mean, atol=1e-9)
    explained = ((new @ x.T @ found.root) ** 2).sum(1)
    np.testing.assert_allclose((new * new).sum(1) - explained, std**2, rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_out_is_what_a_fit_without_it_says(kind: str) -> None:
    rng = np.random.default_rng(0)
    genes = SPACE.sample_genes(rng, 30)
    folds = rng.integers(0, 5, 30)
    labels = rng.standard_normal((30, 6))
    model = ProcessModel.learn(kind, FEATURES, genes, labels, folds, rng).model  # type: ignore[arg-type]
    assert isinstance(model, ProcessModel)
    parts = zip(KINDS[kind], model._known, model.weights, strict=True)  # type: ignore[index]
    covariance = 1 + sum(weight * part(known, known).astype(float) for part, (_, known, _), weight in parts)
    found = solve(covariance, 0.2, labels, folds)
    for fold in range(5):
        at = folds == fold
        rest = covariance[np.ix_(~at, ~at)] + 0.2 * np.eye((~at).sum())
        across = covariance[np.ix_(at, ~at)]
        np.testing.assert_allclose(found.held_mean[at], across @ np.linalg.solve(rest, labels[~at, fold]), atol=1e-6)
        left = covariance[np.ix_(at, at)] - across @ np.linalg.solve(rest, across.T)
        np.testing.assert_allclose(found.held_std[at], np.sqrt(np.diag(left)), atol=1e-5)


def test_weights_maximise_what_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the loss, and the signal of one of two parts is found."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 80, 3))
    y = a @ np.array([1.0, -1, 0.5]) + 0.3 * rng.standard_normal(80)
    y = (y - y.mean()) / y.std()
    seen = []

    def watch(loss, start, **arguments):  # type: ignore[no-untyped-def]
        seen.append(check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], start))
        return original(loss, start, **arguments)

    original = optimize.minimize
    monkeypatch.setattr(optimize, "minimize", watch)
    weights, noise = weigh(np.stack([a @ a.T / 3, b @ b.T / 3]), y)
    assert seen[0] < 1e-3
    assert weights[0] > 10 * weights[1]
    assert 0.02 < noise < 0.15


@pytest.mark.parametrize("form", ["product", "square", "bell"])
def test_parts_are_positive_and_symmetric(form: str) -> None:
    part = Kernel("choices", form)  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal((30, 8))
    matrix = part(x, x)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), part.diagonal(x))
    assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_features_are_what_they_say() -> None:
    genes = SPACE.sample_genes(np.random.default_rng(3), 4000)
    choices, summary = FEATURES.choices(genes), FEATURES.summary(genes)
    assert np.abs(choices.mean(0)).max() < 0.04  # centered for uniform choices
    np.testing.assert_allclose(summary.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(summary.std(0), 1, atol=0.1)
    macs = macs_table(segment_table(SPACE, 10)).estimate(genes)
    size = choices @ FEATURES.maps["size"]
    assert np.corrcoef(np.log(macs), size[:, 0])[0, 1] > 0.97
    arch = SPACE.archs(genes[:1])[0]
    sums = SPACE.encode(genes[:1]) @ FEATURES.maps["sums"]
    names = list(dict.fromkeys((c.kind, c.stage) for c in SPACE.columns if len(c.choices) > 1))
    assert sums[0, names.index(("kernel", 2))] == pytest.approx(sum(block.kernel for block in arch.stages[2].blocks) / 5)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_folds_keep_groups_together(groups: list[int], seed: int) -> None:
    folds = assign_folds(np.array(groups), np.random.default_rng(seed))
    if len(set(groups)) == 1:  # one family: no fold would be left to learn from
        groups = list(range(len(groups)))
    assert set(folds.tolist()) == set(range(min(FOLDS, len(set(groups)))))
    for group in set(groups):
        assert len(set(folds[np.array(groups) == group].tolist())) == 1
    largest = max(groups.count(group) for group in set(groups))
    counts = np.bincount(folds)
    assert counts.max() - counts.min() <= largest


def test_families_begin_alike() -> None:
    genes = SPACE.sample_genes(np.random.default_rng(0), 500)
    family = relatives(SPACE, genes)
    archs = SPACE.archs(genes)
    for i, j in np.random.default_rng(1).integers(0, 500, (3000, 2)):
        alike = archs[i].resolution == archs[j].resolution and archs[i].stages[:2] == archs[j].stages[:2]
        assert (family[i] == family[j]) == alike


def test_labels_of_a_fold_know_nothing_of_it() -> None:
    rng = np.random.default_rng(0)
    genes, folds = SPACE.sample_genes(rng, 60), np.arange(60) % 4
    losses = rng.random(60)
    y = 0.8 - 0.1 * losses + 0.01 * rng.standard_normal(60)
    labels = denoised(FEATURES, genes, y, losses, folds)
    other = np.where(folds == 2, rng.random(60), y)
    changed = denoised(FEATURES, genes, other, losses, folds)
    np.testing.assert_allclose(changed[:, 2], labels[:, 2])
    assert np.abs(changed[:, [0, 1, 3, 4]] - labels[:, [0, 1, 3, 4]]).max(0).min() > 0.01
    assert np.std(labels[:, 4] - (0.8 - 0.1 * losses)) < 0.005  # most of the noise is gone
    np.testing.assert_array_equal(as_measured(y, folds), np.repeat(y[:, None], 5, 1))
