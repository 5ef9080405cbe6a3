"""The Gaussian process on features of networks, fitted to measured ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Features
from .gaussian import KINDS, Kernel, Process, fit_process
from .model import Array, Floats

__all__ = ["ProcessModel"]

CHUNK = 8192  # rows predicted at a time: the kernel matrix stays in the cache


@dataclass(frozen=True, eq=False)
class ProcessModel:
    """Made by `fit` or `read`.

    Args:
        space: the networks that it knows.
        process: the fitted process.
        center: mean of each feature over the measured networks.
        scale: their standard deviation.
    """

    space: Space
    process: Process
    center: Array
    scale: Array

    @classmethod
    def fit(cls, space: Space, genes: Genes, accuracies: Floats, *, seed: int) -> "ProcessModel":
        """Fit to measured gene rows; `seed` picks the points for choosing hyperparameters where there are very many."""
        features = Features(space)
        raw = features(genes).astype(np.float64)
        center, scale = raw.mean(0), np.maximum(raw.std(0), 1e-2)
        standard = (raw - center) / scale
        found = fit_process(standard, accuracies, kinds=KINDS, summary=features.summary_size, rng=np.random.default_rng(seed))
        return cls(space, found[0], center.astype(np.float32), scale.astype(np.float32))

    @classmethod
    def read(cls, space: Space, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> "ProcessModel":
        """From what `description` and `arrays` gave. The smallest and largest network are predicted, which finds most damages.

        Raises:
            ArithmeticError, AttributeError, LookupError, TypeError, ValueError: they do not belong together.
        """
        numbers = {name: float(value) for name, value in description["numbers"].items()}
        own = {name: array for name, array in arrays.items() if name not in ("center", "scale")}
        process = Process(kernel=Kernel(**description["kernel"]), **own, **numbers)  # type: ignore[arg-type]
        model = cls(space, process, arrays["center"], arrays["scale"])
        with np.errstate(all="ignore"):
            tried = model.mean_and_std(space.genes([space.smallest(), space.largest()]))
        if process.kernel.kind not in KINDS or process.root.shape != (model.n, model.n) or not np.isfinite(tried).all():
            raise ValueError("it cannot predict")
        return model

    @property
    def kind(self) -> str:
        """Which kernel predicted best: "linear", "pairwise", "smooth" or "smooth-summary"."""
        return self.process.kernel.kind

    @property
    def n(self) -> int:
        """Number of measured networks."""
        return len(self.process.points)

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        result = np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            points = self._scaled(genes[at : at + CHUNK])
            if self._slope is not None:
                result[at : at + CHUNK] = points @ self._slope
            else:
                result[at : at + CHUNK] = self.process.kernel(points, self.process.points) @ self.process.weights
        return result + self.process.mean

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and the standard deviations of what a measurement would give around them, each (n,)."""
        process, mean, std = self.process, np.zeros(len(genes)), np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            points = self._scaled(genes[at : at + CHUNK])
            covariance = process.kernel(points, process.points)
            mean[at : at + CHUNK] = covariance @ process.weights
            explained = ((covariance @ process.root) ** 2).sum(1)
            prior = _diagonal(process.kernel, points)
            std[at : at + CHUNK] = np.sqrt(process.variance * (np.maximum(prior - explained, 0) + process.noise))
        return mean + process.mean, std

    def description(self) -> dict[str, Any]:
        """The kernel and the numbers of the process."""
        numbers = {name: value for name, value in vars(self.process).items() if isinstance(value, float)}
        return {"model": "process", "kernel": asdict(self.process.kernel), "numbers": numbers}

    def arrays(self) -> dict[str, Array]:
        """The arrays of the process and of the features' standardisation."""
        own = {name: value for name, value in vars(self.process).items() if isinstance(value, np.ndarray)}
        return {**own, "center": self.center, "scale": self.scale}

    @cached_property
    def _features(self) -> Features:
        return Features(self.space)

    def _scaled(self, genes: Genes) -> Array:
        return self.process.kernel.scaled((self._features(genes) - self.center) / self.scale)

    @cached_property
    def _slope(self) -> Floats | None:
        """Weight of each feature where the model is linear, which is quicker than going over the measured networks."""
        if self.process.kernel.kind != "linear":
            return None
        slope: Floats = self.process.points.T.astype(np.float64) @ self.process.weights
        return slope


def _diagonal(kernel: Kernel, points: Array) -> Floats:
    """kernel(x, x) of each row."""
    linear: Floats = (points * points).sum(1).astype(np.float64)
    if kernel.kind == "linear":
        return linear
    curved: Floats = linear * linear if kernel.kind == "pairwise" else np.ones_like(linear)
    total: Floats = (1 - kernel.mixture) * linear + kernel.mixture * curved
    return total
