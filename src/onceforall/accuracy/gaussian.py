"""Gaussian processes on a few dozen to a few thousand points, with a covariance that is a weighted sum of parts.

Weights and noise maximize the marginal likelihood of the data times a weak prior. Rasmussen & Williams, Gaussian Processes for
Machine Learning, sections 2.2, 2.3 and 5.4.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Single = np.ndarray[Any, np.dtype[np.float32]]
WEIGHT, NOISE = np.log(0.02), np.log(0.2)  # prior means of log weight and log noise, relative to the variance of the data
SPREAD = 2.0  # standard deviation of these priors, nats
LEAST, MOST = -14.0, 5.0  # bounds of a log weight
NOISES = (-9.0, 2.0)  # bounds of the log noise
STEPS = 60
TOLERATED = 0.01  # share of the variance at the points that dropped directions may add


def weigh(parts: Array, y: Array) -> tuple[Array, float]:
    """Fit the weights of the parts and the variance of the noise.

    Args:
        parts: (parts, n, n) covariances, each about 1 on the diagonal.
        y: (n,) values, with mean about 0 and standard deviation about 1.
    """
    from scipy.linalg import cho_factor, cho_solve  # SciPy is slow to load, and needed only here
    from scipy.optimize import minimize

    middle = np.array([*[WEIGHT] * len(parts), NOISE])
    eye = np.eye(len(y))

    def loss(logs: Array) -> tuple[float, Array]:
        weights = np.exp(logs)
        factor = cho_factor(np.tensordot(weights[:-1], parts, 1) + weights[-1] * eye + 1, lower=True, check_finite=False)
        solved, inverse = cho_solve(factor, y), cho_solve(factor, eye)
        change = inverse - np.outer(solved, solved)
        slopes = [*(parts.reshape(len(parts), -1) @ change.ravel()), np.trace(change)]
        away = logs - middle
        value = 0.5 * y @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * (away**2).sum() / SPREAD**2
        return float(value), 0.5 * weights * np.array(slopes) + away / SPREAD**2

    start = middle + np.array([*[1.5] * len(parts), 0.0])
    bounds = [*[(LEAST, MOST)] * len(parts), NOISES]
    weights = np.exp(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}).x)
    return weights[:-1], float(weights[-1])


@dataclass(frozen=True, eq=False)
class Solved:
    """A process with known covariance, conditioned on values.

    Args:
        weights: (n,) weights of the mean: the mean is the covariances with the points @ weights.
        root: (n, rank) the variance that the points explain is the sum of squares of the covariances @ root.
        held_mean: (n,) held-out mean at each point, from the other folds.
        held_std: (n,) standard deviation of the held-out mean, without noise.
    """

    weights: Array
    root: Single
    held_mean: Array
    held_std: Array


def solve(covariance: Array, noise: float, labels: Array, folds: np.ndarray[Any, np.dtype[np.int64]]) -> Solved:
    """Condition on the labels.

    Args:
        covariance: (n, n) covariance of the points, without noise.
        noise: variance of the noise.
        labels: (n, folds + 1): column k is for the model without fold k, the last one for the model of all points.
        folds: (n,) fold of each point, from 0.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(covariance, check_finite=False, driver="evd")
    values = np.maximum(values, 0)
    inverse = (vectors / (values + noise)) @ vectors.T
    solved = inverse @ labels
    mean, variance = np.zeros(len(folds)), np.zeros(len(folds))
    for fold in np.unique(folds):
        at = folds == fold
        left_out = np.linalg.inv(inverse[np.ix_(at, at)])  # covariance of the fold given the others, with noise
        mean[at] = labels[at, fold] - left_out @ solved[at, fold]
        variance[at] = np.diag(left_out) - noise
    left = values * noise / (values + noise)  # remaining variance at the points, by direction
    dropped = np.cumsum(values**2 / (values + noise)) <= TOLERATED * left.sum()  # smallest first
    root = np.ascontiguousarray(vectors[:, ~dropped] / np.sqrt(values[~dropped] + noise), np.float32)
    return Solved(solved[:, -1], root, mean, np.sqrt(np.maximum(variance, 0)))
