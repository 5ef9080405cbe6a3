"""`AccuracyPredictor`: accuracy of every network of a space from a few dozen to a few thousand measured ones.

A Gaussian process; its kernel (linear, pairwise, smooth) is the one that predicts each measured network best from all
others. Prediction is numpy only and vectorised.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..arch import Arch
from ..errors import CheckpointError, DataError
from ..files import reading_or_writing, replace_file
from ..genes import Genes, check
from ..space import Space
from ..statistics import kendall_tau
from .features import Features
from .gaussian import KINDS, Kernel, Process, fit_process

__all__ = ["AccuracyPredictor", "PredictorErrors", "assess"]

FORMAT = "onceforall.predictor/1"
LEAST = 8  # measured networks
CHUNK = 8192  # rows predicted at a time: the kernel matrix stays in the cache
NORMAL_90 = 1.6448536  # 90 % of a normal distribution lie within so many standard deviations

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class PredictorErrors:
    """Errors on networks that were not used for fitting.

    Args:
        rmse: root mean square error, as a fraction (0.01 is one point of accuracy).
        kendall_tau: rank correlation (tau-b), 1 for the right order.
        coverage90: fraction of networks within the error bars that should hold 90 %.
        n: networks.
    """

    rmse: float
    kendall_tau: float
    coverage90: float
    n: int


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """Predicts top-1 accuracy in [0, 1]. Made by `fit` or `load`.

    Args:
        space: the networks that it knows; gene matrices must be of this space.
        weights_hash: of the supernet whose sub-networks were measured.
        process: the fitted model.
        center: mean of each feature over the measured networks.
        scale: their standard deviation.
    """

    space: Space
    weights_hash: str
    process: Process
    center: np.ndarray[tuple[int], np.dtype[np.float32]]
    scale: np.ndarray[tuple[int], np.dtype[np.float32]]

    @classmethod
    def fit(
        cls,
        space: Space,
        archs: Sequence[Arch] | Genes,
        accuracies: Sequence[float] | Floats,
        *,
        weights_hash: str = "",
        seed: int = 0,
    ) -> "AccuracyPredictor":
        """Fit to measured networks: a list of `Arch` or a gene matrix, and their accuracies in [0, 1].

        Raises:
            DataError: fewer than 8 networks, another number of accuracies, or one outside [0, 1] (a percentage?).
            ArchError: a network lies outside the space.
        """
        genes, y = _genes(space, archs), np.asarray(accuracies, np.float64)
        _check_accuracies(genes, y)
        if len(y) < LEAST:
            raise DataError(f"{len(y)} measured networks are too few for a predictor: measure at least {LEAST}")
        features = Features(space)
        raw = features(genes).astype(np.float64)
        center, scale = raw.mean(0), np.maximum(raw.std(0), 1e-2)
        standard = (raw - center) / scale
        found = fit_process(standard, y, kinds=KINDS, summary=features.summary_size, rng=np.random.default_rng(seed))
        return cls(space, weights_hash, found[0], center.astype(np.float32), scale.astype(np.float32))

    @property
    def kind(self) -> str:
        """Which kernel predicted best: "linear", "pairwise", "smooth" or "smooth-summary"."""
        return self.process.kernel.kind

    @property
    def n(self) -> int:
        """Number of measured networks."""
        return len(self.process.points)

    def predict(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Accuracies in [0, 1], float64 (n,).

        Raises:
            ArchError: a network lies outside the space.
        """
        return np.clip(self.score(archs), 0, 1)

    def score(self, archs: Sequence[Arch] | Genes) -> Floats:
        """As `predict`, but not cut off at 0 and 1, so that a search can still tell networks apart there.

        Raises:
            ArchError: a network lies outside the space.
        """
        genes = _genes(self.space, archs)
        result = np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            points = self._scaled(genes[at : at + CHUNK])
            if self._slope is not None:
                result[at : at + CHUNK] = points @ self._slope
            else:
                result[at : at + CHUNK] = self.process.kernel(points, self.process.points) @ self.process.weights
        return result + self.process.mean

    def predict_with_error(self, archs: Sequence[Arch] | Genes) -> tuple[Floats, Floats]:
        """Accuracies and the standard deviations of what a measurement would give around them, each float64 (n,)."""
        genes, process = _genes(self.space, archs), self.process
        mean, std = np.zeros(len(genes)), np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            points = self._scaled(genes[at : at + CHUNK])
            covariance = process.kernel(points, process.points)
            mean[at : at + CHUNK] = covariance @ process.weights
            explained = ((covariance @ process.root) ** 2).sum(1)
            prior = _diagonal(process.kernel, points)
            std[at : at + CHUNK] = np.sqrt(process.variance * (np.maximum(prior - explained, 0) + process.noise))
        return np.clip(mean + process.mean, 0, 1), std

    def save(self, path: Path) -> None:
        """Write one safetensors file; the description is JSON in its metadata.

        Raises:
            FileError: the file cannot be written.
        """
        process = self.process
        arrays = {
            "center": self.center,
            "points": process.points,
            "root": process.root,
            "scale": self.scale,
            "weights": process.weights,
        }
        description = {
            "format": FORMAT,
            "space": _signature(self.space),
            "weights_hash": self.weights_hash,
            "kernel": asdict(process.kernel),
            "numbers": {name: value for name, value in vars(process).items() if isinstance(value, float)},
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        metadata = {"onceforall": json.dumps(description)}
        replace_file(path, lambda temporary: safetensors.numpy.save_file(contiguous, temporary, metadata))

    @classmethod
    def load(cls, path: Path, space: Space, *, weights_hash: str | None = None) -> "AccuracyPredictor":
        """Read what `save` wrote.

        Args:
            path: the file.
            space: the space that it was made for.
            weights_hash: of the supernet that it will be used with; None to take it as it is.

        Raises:
            CheckpointError: damaged, or made for another space or other weights.
            FileError: unreadable.
        """
        description, arrays = _read(path)
        if description.get("format") != FORMAT:
            raise CheckpointError(f"{path}: unknown predictor format {description.get('format')!r}, this version reads {FORMAT!r}")
        if description["space"] != _signature(space):
            raise CheckpointError(f"{path}: this predictor was made for another space: measure and fit one for this space")
        made_for = description["weights_hash"]
        if weights_hash is not None and made_for != weights_hash:
            raise CheckpointError(
                f"{path}: this predictor was made for the supernet with weights {made_for or 'unknown'}, not {weights_hash}: "
                "measure sub-networks of this supernet and fit anew"
            )
        try:
            numbers = {name: float(value) for name, value in description["numbers"].items()}
            center, scale = arrays.pop("center"), arrays.pop("scale")
            process = Process(kernel=Kernel(**description["kernel"]), **arrays, **numbers)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{path}: damaged: fit the predictor anew") from None
        return cls(space, made_for, process, center, scale)

    @cached_property
    def _features(self) -> Features:
        return Features(self.space)

    def _scaled(self, genes: Genes) -> np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]:
        return self.process.kernel.scaled((self._features(genes) - self.center) / self.scale)

    @cached_property
    def _slope(self) -> Floats | None:
        """Weight of each feature where the model is linear, which is quicker than going over the measured networks."""
        if self.process.kernel.kind != "linear":
            return None
        slope: Floats = self.process.points.T.astype(np.float64) @ self.process.weights
        return slope


def assess(predictor: AccuracyPredictor, archs: Sequence[Arch] | Genes, accuracies: Sequence[float] | Floats) -> PredictorErrors:
    """Errors of a predictor on networks that were measured but not used for fitting.

    Raises:
        DataError: fewer than 2 networks, another number of accuracies, or one outside [0, 1].
    """
    genes, y = _genes(predictor.space, archs), np.asarray(accuracies, np.float64)
    _check_accuracies(genes, y)
    if len(y) < 2:
        raise DataError(f"{len(y)} networks are too few to assess a predictor: give at least 2, not used for fitting")
    mean, std = predictor.predict_with_error(genes)
    inside = np.abs(mean - y) <= NORMAL_90 * std
    return PredictorErrors(float(np.sqrt(np.mean((mean - y) ** 2))), kendall_tau(mean, y), float(inside.mean()), len(y))


def _genes(space: Space, archs: Sequence[Arch] | Genes) -> Genes:
    if not isinstance(archs, np.ndarray):
        return space.genes(archs)
    if archs.ndim != 2 or archs.shape[1] != len(space.columns):
        check(space.columns, archs)
    return archs


def _check_accuracies(genes: Genes, y: Floats) -> None:
    if y.shape != (len(genes),):
        raise DataError(f"{len(genes)} networks need {len(genes)} accuracies, shape ({len(genes)},), not {y.shape}")
    wrong = ~((y >= 0) & (y <= 1))
    if wrong.any():
        raise DataError(f"accuracy {y[wrong][0]:g} is not in [0, 1]: give fractions, not percentages")


def _diagonal(kernel: Kernel, points: np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]) -> Floats:
    """kernel(x, x) of each row."""
    linear: Floats = (points * points).sum(1).astype(np.float64)
    if kernel.kind == "linear":
        return linear
    curved: Floats = linear * linear if kernel.kind == "pairwise" else np.ones_like(linear)
    total: Floats = (1 - kernel.mixture) * linear + kernel.mixture * curved
    return total


def _signature(space: Space) -> dict[str, Any]:
    """What must be equal for two spaces to have the same gene matrices and networks, as JSON values."""
    described = {"space": space.to_json(), "resolutions": space.resolutions, "stages": [asdict(s) for s in space.stages]}
    result: dict[str, Any] = json.loads(json.dumps(described))
    return result


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with reading_or_writing(path):
        path.open("rb").close()  # gives the operating system's error, safetensors gives its own
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                description = json.loads((file.metadata() or {})["onceforall"])
                names = file.keys()
                return description, {name: file.get_tensor(name) for name in names}
        except (safetensors.SafetensorError, KeyError, ValueError):
            raise CheckpointError(f"{path}: not a predictor, or damaged: fit it anew") from None
