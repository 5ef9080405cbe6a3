"""The noise of measured accuracies, and the best that a predictor can reach given this noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..common.statistics import kendall_tau
from .model import Floats
from .rows import AccuracyRow

DRAWS = 50


def measurement_noise(rows: Sequence[AccuracyRow]) -> float | None:
    """Standard deviation of measured top-1 around its value on infinitely many images, without errors shared by all networks.

    It is estimated from the spread, over networks, of the difference between top-1 on two halves of the images. As all networks see
    the same images, it is below the binomial standard deviation of one network. The estimate also holds for other scores, whose two
    halves deviate about equally, unless many classes have so few images that a half has one or none of them. None if a row has no
    `top1_half` or there are fewer than 8 rows.
    """
    known = [row for row in rows if row.top1_half is not None and row.images > 1]
    if len(known) < max(len(rows), 8):
        return None
    first, second = centered(np.array(halves(known)), known)
    return float(np.sqrt(noise_share(known) * np.var(first - second, ddof=1)))


def noise_share(rows: Sequence[AccuracyRow]) -> float:
    """The share of the variance of the difference between halves that is the variance of a score on all images; about 1/4."""
    images = np.array([row.images for row in rows])
    return float(np.mean(np.ceil(images / 2) * (images // 2) / images**2))


def centered(scores: NDArray[np.float64], rows: Sequence[AccuracyRow]) -> NDArray[np.float64]:
    """Scores (…, n) minus their means over the rows of older files, whose halves are of other images, and over the other rows."""
    older, found = np.array([row.top1_rest is None for row in rows]), scores.copy()
    for group in (older, ~older):
        if group.any():
            found[..., group] -= found[..., group].mean(-1, keepdims=True)
    return found


def halves(rows: Sequence[AccuracyRow], *, soft: bool = False) -> tuple[Floats, Floats]:
    """Values, or soft scores, (n,) on either half of the images.

    In rows of older files the second follows from the first and the whole; for scores other than top-1 only roughly.
    """
    scores = [(row.soft, row.soft_half, row.soft_rest) if soft else (row.value, row.top1_half, row.top1_rest) for row in rows]
    whole, first, second = np.array(scores, np.float64).reshape(-1, 3).T  # None becomes NaN
    images = np.array([row.images for row in rows], np.float64)
    in_first = np.ceil(images / 2)
    return first, np.where(np.isnan(second), (images * whole - in_first * first) / (images - in_first), second)


def kendall_ceiling(predicted: Floats, measured: Floats, noise: float, seed: int = 0) -> float:
    """Kendall tau of an ideal predictor, which knows each network's accuracy on infinitely many images.

    These accuracies are unknown: they are assumed to be distributed like the predicted ones, with the variance of the measured
    accuracies minus that of the noise.

    Args:
        predicted: predicted accuracies (n,).
        measured: measured accuracies (n,).
        noise: standard deviation of a measurement.
    """
    rng, spread = np.random.default_rng(seed), float(np.std(predicted))
    true = np.zeros(len(predicted))
    if spread > 0:
        true = (predicted - predicted.mean()) / spread * np.sqrt(max(float(np.var(measured)) - noise**2, 0.0))
    return float(np.mean([kendall_tau(true, true + noise * rng.standard_normal(len(true))) for _ in range(DRAWS)]))
