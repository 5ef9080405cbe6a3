"""Steadier scores of measured networks, on simulated images whose infinite number is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import kendalltau

from onceforall import space
from onceforall.accuracy import AccuracyRow, fit_rows, measurement_noise, steadying

TINY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3,), resolutions=(32, 48))
NETWORKS = 60


def measured(images: int, seed: int, *, soft: bool = True) -> tuple[list[AccuracyRow], np.ndarray]:
    """Rows of networks of different ability on the same images of different difficulty, and their true accuracies."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(1.2, 0.25, NETWORKS)
    archs = [TINY.sample(rng) for _ in range(NETWORKS)]

    def outcome(n: int) -> tuple[np.ndarray, np.ndarray]:
        margin = ability[:, None] - rng.normal(0, 0.7, n) + rng.normal(0, 0.5, (NETWORKS, n))
        return margin > 0, expit(3 * margin) if soft else rng.random((NETWORKS, n))

    (right, sure), (truth, _) = outcome(images), outcome(20_000)
    rows = [
        AccuracyRow(arch, hits.mean(), 1.0, images, 0.1, hits[::2].mean(), None, p.mean(), p[::2].mean())
        for arch, hits, p in zip(archs, right, sure, strict=True)
    ]
    return rows, truth.mean(1)


def values(rows: list[AccuracyRow]) -> np.ndarray:
    return np.array([row.value for row in rows])


@pytest.mark.parametrize("seed", range(3))
def test_nearer_to_the_truth_than_a_count(seed: int) -> None:
    rows, truth = measured(120, seed)
    steady = steadying(rows)(rows)
    assert np.std(values(steady) - truth) < 0.9 * np.std(values(rows) - truth)
    assert kendalltau(values(steady), truth)[0] > kendalltau(values(rows), truth)[0]
    assert values(steady).mean() == pytest.approx(values(rows).mean(), abs=1e-3)  # some would be above 1
    before, after = measurement_noise(rows), measurement_noise(steady)
    assert before is not None
    assert after is not None
    assert after < before
    assert after == pytest.approx(np.std(values(steady) - truth), rel=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_soft_score_without_meaning_does_little_harm(seed: int) -> None:
    rows, truth = measured(120, seed, soft=False)
    assert np.std(values(steadying(rows)(rows)) - truth) < 1.1 * np.std(values(rows) - truth)


def test_as_they_are_where_soft_is_not_known() -> None:
    rows, _ = measured(120, 0)
    scored = [replace(row, score=row.top1) for row in rows]
    unknown = [replace(row, soft=None, soft_half=None) for row in rows]
    for given in (rows[:39], scored, [*rows, replace(rows[0], soft=None)], unknown, []):
        assert steadying(given)(given) == given


def test_the_predictor_s_error_bars_are_those_of_measurements() -> None:
    """They hold measurements of other networks about as often as they say, whatever the predictor was fitted to."""
    inside = []
    for seed in range(4):
        rows, _ = measured(150, seed)
        fitted, others = rows[:45], rows[45:]
        predictor = fit_rows(TINY, fitted, weights_hash="")
        noise = measurement_noise(fitted)
        assert noise is not None
        assert predictor.calibration.noise >= noise
        mean, std = predictor.predict_with_error([row.arch for row in others])
        inside += [np.abs(mean - values(others)) < 1.645 * std]
    assert np.mean(inside) >= 0.8
