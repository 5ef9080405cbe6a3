"""Gaussian processes on a few hundred points, in numpy: kernels, fitting, and exact leave-one-out errors.

Rasmussen & Williams, Gaussian Processes for Machine Learning, sections 2.2, 2.3 and 5.4.2.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

__all__ = ["KINDS", "Kernel", "Process", "fit_process"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.floating]]
Kind = Literal["linear", "pairwise", "smooth", "smooth-summary"]
KINDS: tuple[Kind, ...] = ("linear", "pairwise", "smooth", "smooth-summary")

MIXTURES = (0.03, 0.1, 0.3, 0.7)  # share of the curved part of the kernel
LENGTHS = (0.7, 1.5, 3.0)  # of the smooth kernels, in root mean square distance of the features
SUMMARY_SHARES = (0.2, 0.5, 0.8)  # weight of the summary among the features, the rest is the choices
NOISES = np.geomspace(1e-4, 10, 26)  # variance of the measurement noise over that of the accuracies
TIE = 0.01  # nats per network, less than such data can tell
LEAST_VARIANCE = 1e-12  # where all accuracies are equal
MOST_POINTS = 800  # hyperparameters are chosen on at most so many


@dataclass(frozen=True)
class Kernel:
    """Covariance of two networks. Features come standardised, the first `summary` of them describe the whole network.

    Args:
        kind: "linear" in the features; plus every product of two features ("pairwise"); plus a smooth function of all
            features ("smooth") or of the summary ("smooth-summary").
        summary: number of summary features.
        share: weight of the summary features in the linear part.
        mixture: share of the part that is not linear.
        length: of the smooth part.
    """

    kind: Kind
    summary: int
    share: float
    mixture: float = 0.0
    length: float = 1.0

    def scaled(self, x: Array) -> Array:
        """Features such that the linear kernel is their dot product: about 1 for a network with itself, plus 1 for the mean."""
        n, m = self.summary, x.shape[1] - self.summary
        one = np.ones((len(x), 1), x.dtype)
        return np.concatenate([x[:, :n] * np.sqrt(self.share / n), x[:, n:] * np.sqrt((1 - self.share) / max(m, 1)), one], 1)

    def __call__(self, a: Array, b: Array) -> Array:
        """(n, m) covariances of scaled features a (n, features) and b (m, features)."""
        linear = a @ b.T
        if self.kind == "linear":
            return linear
        if self.kind == "pairwise":
            return linear * (1 - self.mixture + self.mixture * linear)
        if self.kind == "smooth-summary":
            a, b = a[:, : self.summary] / np.sqrt(self.share), b[:, : self.summary] / np.sqrt(self.share)
            inner = a @ b.T
        else:
            inner = linear.copy()
        inner *= 2
        inner -= (a * a).sum(1)[:, None]
        inner -= (b * b).sum(1)
        inner *= 0.5 / self.length**2
        np.exp(inner, out=inner)
        inner *= self.mixture
        linear *= 1 - self.mixture
        linear += inner
        return linear


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted process.

    Args:
        points: scaled features of the measured networks (n, features).
        weights: mean(x) = mean + kernel(x, points) @ weights.
        root: lower triangle with root @ root.T = (kernel(points, points) + noise)^-1.
        mean: of the measured accuracies.
        noise: variance of the measurement noise in units of `variance`.
        variance: scale of the process.
        criterion: mean negative log density of each measured accuracy given the others (less is better).
        rmse: root mean square error of each measured accuracy predicted from the others.
    """

    kernel: Kernel
    points: Array
    weights: Array
    root: Array
    mean: float
    noise: float
    variance: float
    criterion: float
    rmse: float


def fit_process(x: Array, y: Array, *, kinds: tuple[Kind, ...], summary: int, rng: np.random.Generator) -> list[Process]:
    """For each kind of kernel the process with the best leave-one-out density; first the one to use.

    That is the first of `kinds`, which go from simple to complicated, that is as good as the best up to `TIE`.

    Args:
        x: standardised features (n, features).
        y: accuracies (n,).
        kinds: kernels to compare.
        summary: how many of the first features are summary features.
        rng: picks the points for choosing hyperparameters where there are very many.
    """
    few = np.sort(rng.permutation(len(y))[:MOST_POINTS])
    best: dict[Kind, tuple[float, Kernel, float]] = {}
    for kernel in _candidates(kinds, summary):
        features = kernel.scaled(x[few]).astype(np.float64)
        values, vectors = np.linalg.eigh(kernel(features, features))
        criteria, _, _ = _leave_one_out(values, vectors, y[few], NOISES)
        at = int(criteria.argmin())
        if kernel.kind not in best or criteria[at] < best[kernel.kind][0]:
            best[kernel.kind] = (float(criteria[at]), kernel, float(NOISES[at]))
    found = [_solve(kernel, noise, x, y) for _, kernel, noise in best.values()]
    least = min(process.criterion for process in found)
    return sorted(found, key=lambda process: process.criterion > least + TIE)


def _candidates(kinds: tuple[Kind, ...], summary: int) -> list[Kernel]:
    kernels = []
    for kind, share in product(kinds, SUMMARY_SHARES):
        plain = Kernel(kind, summary, share)
        if kind == "linear":
            kernels.append(plain)
        elif kind == "pairwise":
            kernels += [replace(plain, mixture=m) for m in MIXTURES]
        else:
            kernels += [replace(plain, mixture=m, length=length) for m, length in product(MIXTURES, LENGTHS)]
    return kernels


def _leave_one_out(values: Array, vectors: Array, y: Array, noises: Array) -> tuple[Array, Array, Array]:
    """For each noise: criterion, error (rmse) and variance of predicting each value from the others.

    Args:
        values: eigenvalues of the kernel matrix of the points.
        vectors: its eigenvectors.
        y: values (n,).
        noises: (m,).
    """
    inverse = 1 / (np.maximum(values, 0)[:, None] + noises)  # (n, m)
    solved = vectors @ (inverse * (vectors.T @ (y - y.mean()))[:, None])
    diagonal = vectors**2 @ inverse
    errors = solved / diagonal
    variance = np.mean(errors**2 * diagonal, 0)  # makes the standardised errors 1 on average
    spread = np.maximum(variance / diagonal, LEAST_VARIANCE)
    criterion = np.mean(0.5 * np.log(spread) + 0.5 * errors**2 / spread, 0)
    return criterion, np.sqrt(np.mean(errors**2, 0)), variance


def _solve(kernel: Kernel, noise: float, x: Array, y: Array) -> Process:
    points = kernel.scaled(x).astype(np.float64)
    values, vectors = np.linalg.eigh(kernel(points, points))
    criterion, rmse, variance = (float(x[0]) for x in _leave_one_out(values, vectors, y, np.array([noise])))
    inverse = 1 / (np.maximum(values, 0) + noise)
    weights = vectors @ (inverse * (vectors.T @ (y - y.mean())))
    root = vectors * np.sqrt(inverse)
    return Process(
        kernel,
        points.astype(np.float32),
        weights.astype(np.float32),
        root.astype(np.float32),
        float(y.mean()),
        noise,
        max(variance, LEAST_VARIANCE),
        criterion,
        rmse,
    )
