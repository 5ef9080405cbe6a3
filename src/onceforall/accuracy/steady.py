"""Scores of measured networks with less noise than a count of right images has.

On few held-out images, top-1 is a coarse count: a network that is barely right on an image counts as much as one that is sure. The
mean probability of the right class ("soft") orders networks by much the same ability, and varies less by chance. How much either is
worth is measured on the images themselves, by what half of them say of the other half. Results: docs/results/predictor.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..space import Space
from .chance import centered, halves, measurement_noise, noise_share
from .model import Floats
from .predictor import AccuracyPredictor
from .rows import AccuracyRow

LEAST = 40  # networks: with 16, a meaningless soft score cost up to 0.5 of Kendall's tau in simulations, with 60 at most 0.03
Steady = Callable[[Sequence[AccuracyRow]], list[AccuracyRow]]


def steadying(rows: Sequence[AccuracyRow]) -> Steady:
    """A function that replaces the scores of rows by steadier ones, learnt from these rows.

    A score becomes a + b (β value + γ soft). β and γ are the weights, not negative, of the best linear prediction of the value on
    infinitely many images; a and b keep the mean and the scale of the measured values. All rows stay as they are if fewer than
    `LEAST` are given, one lacks a soft score, or soft does not covary with the value.
    """
    known = [row for row in rows if _complete(row)]
    if len(known) < max(LEAST, len(rows)):
        return list
    value, soft = np.array([row.value for row in known]), np.array([row.soft for row in known], np.float64)
    parts = centered(np.array([halves(known), halves(known, soft=True)]), known)
    weights = _weights(parts, noise_share(known))
    along = np.stack([value, soft], 1) @ weights
    if not weights[1] > 0 or not np.var(along) > 0:
        return list
    slope = float(np.cov(along, value, ddof=0)[0, 1] / np.var(along))
    start = float(value.mean() - slope * along.mean())

    def steadied(value: float, soft: float) -> float:
        return float(np.clip(start + slope * (weights[0] * value + weights[1] * soft), 0, 1))

    def steady(row: AccuracyRow) -> AccuracyRow:
        if row.soft is None or not _complete(row):
            return row
        new = steadied(row.value, row.soft)
        first, rest = (list(map(steadied, *parts)) for parts in zip(halves([row]), halves([row], soft=True), strict=True))
        row = replace(row, top1_half=first[0], top1_rest=rest[0])
        return replace(row, top1=new) if row.score is None else replace(row, score=new)

    return lambda rows: [steady(row) for row in rows]


def fit_rows(
    space: Space, rows: Sequence[AccuracyRow], *, weights_hash: str, kinds: Sequence[str] | None = None, seed: int = 0
) -> AccuracyPredictor:
    """A predictor fitted to the steadied scores of measured networks; its errors and error bars are for measurements as they are.

    Raises:
        DataError: see `AccuracyPredictor.fit`.
    """
    steady = steadying(rows)(rows)
    values, measured = (np.array([row.value for row in part]) for part in (steady, rows))
    losses, noise = [row.loss for row in rows], measurement_noise(steady)
    archs = [row.arch for row in rows]
    predictor = AccuracyPredictor.fit(
        space, archs, values, losses=losses, noise=noise, kinds=kinds, weights_hash=weights_hash, seed=seed
    )
    removed = float(np.sqrt(np.mean((values - measured) ** 2)))
    if not removed:
        return predictor
    noise = max(math.hypot(predictor.calibration.noise, removed), measurement_noise(rows) or 0.0)
    candidates = {kind: math.hypot(rmse, removed) for kind, rmse in predictor.candidates.items()}
    return replace(predictor, calibration=replace(predictor.calibration, noise=noise), candidates=candidates)


def _complete(row: AccuracyRow) -> bool:
    """Whether both scores are known on either half."""
    needed = (row.top1_half, row.soft, row.soft_half, *(() if row.score is None else (row.top1_rest, row.soft_rest)))
    return row.images > 1 and None not in needed


def _weights(parts: NDArray[np.float64], share: float) -> Floats:
    """Weights of value and soft, not negative, in the best linear prediction of the true value.

    Covariances between halves hold no noise, as no image is in both; noise is what the halves differ by.

    Args:
        parts: (2, 2, n) value and soft, on either half of the images; centered.
        share: see `chance.noise_share`.
    """
    (first, second), (soft_first, soft_second) = parts
    true = float(np.mean(first * second))
    common = float(np.mean(soft_first * second) + np.mean(soft_second * first)) / 2
    if not (true > 0 and common > 0):
        return np.array([1.0, 0.0])
    of_soft = max(float(np.mean(soft_first * soft_second)), common**2 / true)
    noise = share * np.cov(first - second, soft_first - soft_second)
    found = np.linalg.lstsq(np.array([[true, common], [common, of_soft]]) + noise, np.array([true, common]), rcond=None)[0]
    return np.array([1.0, 0.0]) if found[1] <= 0 else np.array([0.0, 1.0]) if found[0] < 0 else found
