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


def measured(*images: int, seed: int, soft: bool = True) -> tuple[list[AccuracyRow], np.ndarray]:
    """Rows of networks of different ability on the same images of different difficulty, and their true accuracies.

    Args:
        images: of each class, each of a difficulty of its own; scores are balanced if there are several.
    """
    rng = np.random.default_rng(seed)
    ability = rng.normal(1.2, 0.25, NETWORKS)
    archs = [TINY.sample(rng) for _ in range(NETWORKS)]

    def outcome(n: int, harder: float) -> tuple[np.ndarray, np.ndarray]:
        margin = ability[:, None] - rng.normal(harder, 0.7, n) + rng.normal(0, 0.5, (NETWORKS, n))
        return margin > 0, expit(3 * margin) if soft else rng.random((NETWORKS, n))

    classes, truths = [], []
    for i, n in enumerate(images):
        (right, sure), (truth, _) = outcome(n, 0.3 * i), outcome(20_000, 0.3 * i)
        classes.append([scores[:, part].mean(1) for part in (np.s_[:], np.s_[::2], np.s_[1::2]) for scores in (right, sure)])
        truths.append(truth.mean(1))
    names = ("top1", "soft", "top1_half", "soft_half", "top1_rest", "soft_rest")
    effective = round(len(images) ** 2 / sum(1 / n for n in images))
    rows = [
        AccuracyRow(arch, loss=1.0, images=effective, seconds=0.1, **dict(zip(names, scores, strict=True)))
        for arch, scores in zip(archs, np.mean(classes, 0).T.tolist(), strict=True)
    ]
    return rows if len(images) == 1 else [replace(row, top1=0.0, score=row.top1) for row in rows], np.mean(truths, 0)


def values(rows: list[AccuracyRow]) -> np.ndarray:
    return np.array([row.value for row in rows])


def test_rows_of_older_files_are_steadied_alike() -> None:
    """There the other half follows from the first."""
    rows, _ = measured(121, seed=0)
    older = [replace(row, top1_rest=None, soft_rest=None) for row in rows]
    np.testing.assert_allclose(values(steadying(older)(older)), values(steadying(rows)(rows)), rtol=1e-9)
    assert measurement_noise(older) == pytest.approx(measurement_noise(rows))


def test_other_halves_in_older_files_add_no_noise() -> None:
    """Half of the rows are of before, when other images made a half, which was harder."""
    rows, _ = measured(121, seed=0)
    assert measurement_noise(rows) is not None
    harder = [replace(row, top1_half=row.top1_half - 0.05, top1_rest=None) for row in rows[::2] if row.top1_half is not None]
    mixed = [*harder, *rows[1::2]]
    assert measurement_noise(mixed) == pytest.approx(measurement_noise(rows), rel=0.05)
    assert kendalltau(values(steadying(mixed)(mixed)), values(steadying(rows)([*rows[::2], *rows[1::2]])))[0] > 0.95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("images", [(120,), (200, 30, 9)])
def test_nearer_to_the_truth_than_a_count(seed: int, images: tuple[int, ...]) -> None:
    rows, truth = measured(*images, seed=seed)
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
    rows, truth = measured(120, seed=seed, soft=False)
    assert np.std(values(steadying(rows)(rows)) - truth) < 1.1 * np.std(values(rows) - truth)


def test_as_they_are_where_soft_is_not_known() -> None:
    rows, _ = measured(120, seed=0)
    scored = [replace(row, score=row.top1, top1_rest=None) for row in rows]
    unknown = [replace(row, soft=None, soft_half=None) for row in rows]
    for given in (rows[:39], scored, [*rows, replace(rows[0], soft=None)], unknown, []):
        assert steadying(given)(given) == given


def test_the_predictor_s_error_bars_are_those_of_measurements() -> None:
    """They hold measurements of other networks about as often as they say, whatever the predictor was fitted to."""
    inside = []
    for seed in range(4):
        rows, _ = measured(150, seed=seed)
        fitted, others = rows[:45], rows[45:]
        predictor = fit_rows(TINY, fitted, weights_hash="")
        noise = measurement_noise(fitted)
        assert noise is not None
        assert predictor.calibration.noise >= noise
        mean, std = predictor.predict_with_error([row.arch for row in others])
        inside += [np.abs(mean - values(others)) < 1.645 * std]
    assert np.mean(inside) >= 0.8
