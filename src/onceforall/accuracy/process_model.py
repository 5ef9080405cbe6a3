"""Gaussian processes on networks, of three kinds; each kind includes all parts of the previous one.

linear: each choice has an effect. pairwise: each pair of choices has one, too. smooth: also any smooth function of the choices, or
of MACs, parameters and resolution. The means of the first two are quadratic functions of one-hot choices, whose maximum a search
can prove.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..genes import Genes
from ..space import Space
from ..structure import Quadratic
from .features import Features, Matrix
from .gaussian import Single, solve, weigh
from .model import Floats, Learnt

Kind = Literal["linear", "pairwise", "smooth"]
Form = Literal["product", "square", "bell"]
CHUNK = 4096  # rows predicted at a time, so that the covariances stay in the cache
NAMES = ("scales", "weights", "points", "solved", "root")
MOST_POINTS = 500  # to choose the weights on


@dataclass(frozen=True)
class Kernel:
    """One part of the covariance of two networks: the product of their features, its square, or a bell curve of their distance.

    Args:
        features: name in `Features.maps`, or "summary".
        form: "product", "square" or "bell".
    """

    features: str
    form: Form

    def __call__(self, a: Matrix, b: Matrix) -> Matrix:
        """(n, m) covariances of features a (n, d) and b (m, d)."""
        inner: Matrix = a @ b.T
        if self.form == "square":
            inner *= inner
        elif self.form == "bell":
            inner *= 2
            inner -= (a * a).sum(1)[:, None]
            inner -= (b * b).sum(1)
            inner *= 0.5
            np.exp(inner, out=inner)
        return inner

    def diagonal(self, a: Matrix) -> Floats:
        """(n,) variances: the covariance of each network with itself."""
        if self.form == "bell":
            return np.ones(len(a))
        inner: Floats = (a * a).sum(1)
        return inner * inner if self.form == "square" else inner


_LINEAR = [Kernel(name, "product") for name in ("resolution", "width", "depth", "kernel", "expand_ratio", "value", "sums", "size")]
_PAIRWISE = [*_LINEAR, *(Kernel(name, "square") for name in ("size", "sums", "choices"))]
KINDS: dict[Kind, list[Kernel]] = {
    "linear": _LINEAR,
    "pairwise": _PAIRWISE,
    "smooth": [*_PAIRWISE, *(Kernel(name, "bell") for name in ("summary", "choices"))],
}


@dataclass(frozen=True, eq=False)
class ProcessModel:
    """A Gaussian process fitted to measured networks, made by `learn` or `read`.

    Args:
        kind: determines the parts of the covariance.
        features: features of networks.
        scales: (parts,) factors of each part's features.
        weights: (parts,) variance of each part, in units of `spread` squared.
        middle: mean of the measured accuracies.
        spread: their standard deviation.
        points: gene rows of the measured networks (n, columns).
        solved: (n,) weights of the mean, see `gaussian.Solved`.
        root: (n, rank) root of the explained variance, see `gaussian.Solved`.
    """

    kind: Kind
    features: Features
    scales: Floats
    weights: Floats
    middle: float
    spread: float
    points: Genes
    solved: Floats
    root: Single

    @classmethod
    def learn(cls, kind: Kind, features: Features, genes: Genes, labels: Matrix, folds: Any, rng: np.random.Generator) -> Learnt:
        """Fit to measured gene rows; see `choose.LEARNERS` for the arguments."""
        middle, spread = float(labels[:, -1].mean()), max(float(labels[:, -1].std()), 1e-6)
        standard = (labels - middle) / spread
        parts = KINDS[kind]
        choices = features.choices(genes)
        inputs = [_inputs(features, part, genes, choices) for part in parts]
        scales = np.array([1 / max(np.sqrt((a * a).sum(1).mean()), 1e-9) if a.size else 0.0 for a in inputs])
        inputs = [a * scale for a, scale in zip(inputs, scales, strict=True)]
        few = np.sort(rng.permutation(len(genes))[:MOST_POINTS])
        weights, noise = weigh(np.stack([part(a[few], a[few]) for part, a in zip(parts, inputs, strict=True)]), standard[few, -1])
        covariance = np.ones((len(genes), len(genes)))
        for part, weight, a in zip(parts, weights, inputs, strict=True):
            covariance += weight * part(a, a)
        solved = solve(covariance, noise, standard, folds)
        model = cls(kind, features, scales, weights, middle, spread, genes, solved.weights, solved.root)
        return Learnt(model, middle + spread * solved.held_mean, spread * solved.held_std, len(parts) + 1)

    @classmethod
    def read(cls, space: Space, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> "ProcessModel":
        """Restore a model from its description and arrays; it predicts the smallest and the largest network to detect damage.

        Raises:
            ArithmeticError, AttributeError, LookupError, TypeError, ValueError: they do not fit together.
        """
        numbers: dict[str, Any] = {name: float(description[name]) for name in ("middle", "spread")}
        model = cls(description["kind"], Features.read(space, arrays), **numbers, **{name: arrays[name] for name in NAMES})
        n, parts, rank = model.n, len(KINDS[model.kind]), description["rank"]
        shapes = model.points.shape, model.scales.shape, model.weights.shape, model.solved.shape, model.root.shape
        if shapes != ((n, len(space.columns)), (parts,), (parts,), (n,), (n, rank)) or not model.spread > 0 or not n:
            raise ValueError("arrays that do not belong together")
        space.rows(model.points)  # an ArchError is a ValueError
        with np.errstate(all="ignore"):
            if not np.isfinite(model.mean_and_std(space.genes([space.smallest(), space.largest()]))).all():
                raise ValueError("it cannot predict")
        return model

    @property
    def n(self) -> int:
        """Number of measured networks."""
        return len(self.points)

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        result = self._quadratic(genes)
        bells = [(part, a, weight) for part, a, weight in self._known if part.form == "bell"]
        for at in range(0, len(genes) if bells else 0, CHUNK):
            rows = genes[at : at + CHUNK]
            for part, known, weight in bells:
                scale = self.scales[KINDS[self.kind].index(part)]
                new = (_inputs(self.features, part, rows) * scale).astype(np.float32)
                result[at : at + CHUNK] += self.spread * (part(new, known) @ (weight * self.solved))
        return result

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and their posterior standard deviations, each (n,)."""
        std, constants = np.zeros(len(genes)), self.root.sum(0)  # the covariance has a constant part of 1
        for at in range(0, len(genes), CHUNK):
            rows = genes[at : at + CHUNK]
            choices = self.features.choices(rows)
            explained, prior = choices.astype(np.float32) @ self._products + constants, np.ones(len(rows))
            covariance = np.zeros((len(rows), self.n), np.float32)
            for (part, known, weight), scale in zip(self._known, self.scales, strict=True):
                new = _inputs(self.features, part, rows, choices) * scale
                prior += weight * part.diagonal(new)
                if part.form != "product":
                    covariance += np.float32(weight) * part(new.astype(np.float32), known)
            if self.kind != "linear":
                explained += covariance @ self.root
            left = prior - (explained * explained).sum(1)
            std[at : at + CHUNK] = self.spread * np.sqrt(np.maximum(left, 1e-6 * prior))
        return self.mean(genes), std

    def structure(self) -> Quadratic | None:
        """The mean as a quadratic function; None for the smooth kind."""
        return None if self.kind == "smooth" else self._quadratic

    def description(self) -> dict[str, Any]:
        """Kind and scalars as JSON values."""
        numbers = {"middle": self.middle, "spread": self.spread, "rank": self.root.shape[1]}
        return {"model": "process", "kind": self.kind, **numbers}

    def arrays(self) -> dict[str, Any]:
        """The measured networks, the arrays for mean and variance, and those of the features."""
        return {**{name: getattr(self, name) for name in NAMES}, **self.features.arrays()}

    @cached_property
    def _known(self) -> list[tuple[Kernel, Matrix, float]]:
        """Each part with its scaled features of the measured networks and its weight."""
        return [
            (part, (_inputs(self.features, part, self.points) * scale).astype(np.float32), float(weight))
            for part, scale, weight in zip(KINDS[self.kind], self.scales, self.weights, strict=True)
        ]

    @cached_property
    def _products(self) -> Matrix:
        """(f, rank): choices @ this equals the covariance of all product parts @ root, independent of the measured networks."""
        total: Matrix = np.zeros((len(self.features.center), self.root.shape[1]))
        for (part, known, weight), scale in zip(self._known, self.scales, strict=True):
            if part.form == "product" and known.size:
                total += weight * scale * (self.features.maps[part.features] @ (known.T @ self.root))
        return total.astype(np.float32)

    @cached_property
    def _quadratic(self) -> Quadratic:
        """The mean of all parts without bell curves."""
        size = len(self.features.center)
        linear, square, points = np.zeros(size), np.zeros((size, size)), self.features.choices(self.points)
        for part, scale, weight in zip(KINDS[self.kind], self.scales, self.weights, strict=True):
            if part.form == "bell" or part.features not in self.features.maps:
                continue
            to = self.features.maps[part.features] * scale
            known = points @ to
            if part.form == "product":
                linear += weight * (to @ (known.T @ self.solved))
            else:
                square += weight * (to @ ((known.T * self.solved) @ known) @ to.T)
        center = self.features.center  # convert from functions of choices - center to functions of choices
        constant = self.solved.sum() - linear @ center + center @ square @ center
        linear = linear - 2 * square @ center
        scaled = self.spread * constant + self.middle, self.spread * linear
        return Quadratic(self.features.space, float(scaled[0]), scaled[1], 2 * self.spread * square if square.any() else None)


def _inputs(features: Features, part: Kernel, genes: Genes, choices: Matrix | None = None) -> Matrix:
    """A part's features (n, d), with d = 0 if the space has no such choice; pass `choices` if already computed."""
    if part.features == "summary":
        return features.summary(genes)
    if part.features not in features.maps:
        return np.zeros((len(genes), 0))
    choices = features.choices(genes) if choices is None else choices
    return choices if part.features == "choices" else choices @ features.maps[part.features]
