"""`AccuracyPredictor`: accuracy of every network of a space.

Fitted to a few dozen to a few thousand measured networks, by the kind of model that predicts measured networks best from others
(`choose.py`); or a published one. Prediction is numpy only and vectorised.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..arch import Arch
from ..common.files import reading_or_writing, regular_file, write_bytes
from ..common.places import plain_path
from ..common.statistics import kendall_tau
from ..errors import CheckpointError, DataError
from ..genes import Genes
from ..space import Space
from ..structure import Quadratic
from .choose import LEARNERS, NORMAL_90, Calibration, choose
from .model import Floats, Model
from .process_model import ProcessModel
from .published import PublishedModel

FORMAT = "onceforall.predictor/2"
LEAST = 8  # measured networks
GONE = ("trees", "perceptrons")  # kinds that earlier versions could fit; cross-validation never chose them

MODELS: dict[str, Callable[[Space, Mapping[str, Any], Mapping[str, Any]], Model]] = {
    "process": ProcessModel.read,
    "published": PublishedModel.read,
}


@dataclass(frozen=True)
class PredictorErrors:
    """Errors on networks that were not used for fitting.

    Args:
        rmse: root mean square error, as a fraction (0.01 is one point of accuracy).
        kendall_tau: rank correlation (tau-b), 1 for the right order.
        coverage90: fraction of networks within the error bars that should hold 90 %.
    """

    rmse: float
    kendall_tau: float
    coverage90: float
    n: int


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """Predicts top-1 accuracy in [0, 1]. Made by `fit`, `load` or `from_published`.

    Args:
        space: the networks that it knows; gene matrices must be of this space.
        weights_hash: of the supernet whose sub-networks were measured.
        calibration: of its error bars.
        candidates: cross-validated root mean square error of each kind of model that was tried, against measurements.
    """

    space: Space
    weights_hash: str
    model: Model
    calibration: Calibration = field(default_factory=Calibration)
    candidates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        space: Space,
        archs: Sequence[Arch] | Genes,
        accuracies: Sequence[float] | Floats,
        *,
        losses: Sequence[float] | Floats | None = None,
        noise: float | None = None,
        kinds: Sequence[str] | None = None,
        weights_hash: str = "",
        seed: int = 0,
    ) -> "AccuracyPredictor":
        """Fit to measured networks: a list of `Arch` or a gene matrix, and their accuracies in [0, 1].

        Args:
            accuracies: measured top-1.
            losses: mean loss of each on the same images; used if cross-validation says that they help.
            noise: standard deviation of one measurement, if known; it separates the error of the prediction itself better.
            kinds: of models to try, some of "linear", "pairwise", "smooth"; by default all.

        Raises:
            DataError: fewer than 8 networks, another number of accuracies or losses, an accuracy outside [0, 1] (a percentage?), a
                loss that is no finite number, or an unknown kind.
            ArchError: a network lies outside the space.
        """
        genes, y = space.rows(archs), np.asarray(accuracies, np.float64)
        _check_accuracies(genes, y)
        if len(y) < LEAST:
            raise DataError(f"{len(y)} measured networks are too few for a predictor: measure at least {LEAST}")
        loss = None if losses is None else np.asarray(losses, np.float64)
        if loss is not None and (loss.shape != y.shape or not np.isfinite(loss).all()):
            raise DataError(f"{len(genes)} networks need {len(genes)} losses, all of them finite numbers")
        kinds = list(LEARNERS if kinds is None else kinds)
        if not kinds or not set(kinds) <= set(LEARNERS):
            raise DataError(f"kinds of models {', '.join(kinds) or '(none)'}: choose from {', '.join(LEARNERS)}")
        return cls(space, weights_hash, *choose(space, genes, y, losses=loss, noise=noise, kinds=kinds, seed=seed))

    @classmethod
    def from_published(cls, path: Path | str, space: Space, *, weights_hash: str = "") -> "AccuracyPredictor":
        """Read a predictor that the Once-for-All authors published (acc_predictor.pth or ofa_resnet50_acc_predictor.pth).

        Args:
            path: the file, as published.
            space: `space("mobilenet_v3", width=1.2)` or `space("resnet50d")`, or a part of it.
            weights_hash: of the supernet that it will be used with.

        Raises:
            CheckpointError: unreadable, or not a published predictor.
            ArchError: it is not for this space. Resolutions are checked when they are predicted.
        """
        return cls(space, weights_hash, PublishedModel.from_file(path, space))

    @property
    def kind(self) -> str:
        """What predicts, in a word or two."""
        return self.model.kind

    @property
    def n(self) -> int:
        """Number of measured networks that it was fitted to; 0 where that is not known."""
        return self.model.n

    def predict(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Accuracies in [0, 1], float64 (n,).

        Raises:
            ArchError: a network lies outside the space, or the model cannot tell about its resolution.
        """
        return np.clip(self.score(archs), 0, 1)

    def score(self, archs: Sequence[Arch] | Genes) -> Floats:
        """As `predict`, but not cut off at 0 and 1, so that a search can still tell networks apart there.

        Raises:
            ArchError: as `predict`.
        """
        return self.model.mean(self.space.rows(archs))

    def predict_with_error(self, archs: Sequence[Arch] | Genes, *, measured: bool = True) -> tuple[Floats, Floats]:
        """Accuracies and standard deviations, each float64 (n,).

        Args:
            measured: standard deviations of what a measurement would give around the prediction; else of the prediction
                itself, without the chance of measuring, for lower confidence bounds.

        Raises:
            ArchError: as `predict`.
        """
        mean, std = self.model.mean_and_std(self.space.rows(archs))
        return np.clip(mean, 0, 1), self.calibration(std, measured=measured)

    def structure(self) -> Quadratic | None:
        """What gives the same as `score`, where that is a quadratic function of one-hot choices: searches prove optima with it."""
        return self.model.structure()

    def save(self, path: Path | str) -> None:
        """Write one safetensors file; the description is JSON in its metadata.

        Raises:
            FileError: the file cannot be written.
        """
        described = {
            "format": FORMAT,
            "space": _signature(self.space),
            "weights_hash": self.weights_hash,
            "calibration": asdict(self.calibration),
            "candidates": dict(self.candidates),
        }
        metadata = {"onceforall": json.dumps(described | self.model.description())}
        contiguous = {name: np.ascontiguousarray(array) for name, array in self.model.arrays().items()}
        write_bytes(Path(path), safetensors.numpy.save(contiguous, metadata))  # its save_file makes files for their owner only

    @classmethod
    def load(cls, path: Path | str, space: Space, *, weights_hash: str | None = None) -> "AccuracyPredictor":
        """Read what `save` wrote.

        Args:
            space: the space that it was made for.
            weights_hash: of the supernet that it will be used with; None to take it as it is.

        Raises:
            CheckpointError: damaged, or made for another space or other weights.
            FileError: unreadable.
        """
        description, arrays = _read(Path(path))
        if description.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: unknown predictor format {description.get('format')!r}, not {FORMAT!r}: fit or import it again"
            )
        if description.get("space") != _signature(space):
            raise CheckpointError(f"{path}: this predictor was made for another space: measure and fit one for this space")
        made_for = str(description.get("weights_hash", ""))
        if weights_hash is not None and made_for != weights_hash:
            raise CheckpointError(
                f"{path}: this predictor was made for the supernet with weights {made_for or 'unknown'}, not {weights_hash}: "
                "measure sub-networks of this supernet and fit again"
            )
        if description.get("model") in GONE:
            raise CheckpointError(
                f"{path}: {description['model']}, made by an earlier version, are no longer a kind of predictor: "
                "fit it again to the same measurements: ofa accuracy fit RUN"
            )
        try:
            model = MODELS[description["model"]](space, description, arrays)
            calibration = Calibration(**{name: _finite(value) for name, value in description["calibration"].items()})
            candidates = {str(kind): _finite(rmse) for kind, rmse in description["candidates"].items()}
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise CheckpointError(f"{path}: damaged: fit or import the predictor again") from None
        return cls(space, made_for, model, calibration, candidates)


def assess(predictor: AccuracyPredictor, archs: Sequence[Arch] | Genes, accuracies: Sequence[float] | Floats) -> PredictorErrors:
    """Errors of a predictor on networks that were measured but not used for fitting.

    Raises:
        DataError: fewer than 2 networks, another number of accuracies, or one outside [0, 1].
    """
    genes, y = predictor.space.rows(archs), np.asarray(accuracies, np.float64)
    _check_accuracies(genes, y)
    if len(y) < 2:
        raise DataError(f"{len(y)} networks are too few to assess a predictor: give at least 2, not used for fitting")
    mean, std = predictor.predict_with_error(genes)
    inside = np.abs(mean - y) <= NORMAL_90 * std
    return PredictorErrors(float(np.sqrt(np.mean((mean - y) ** 2))), kendall_tau(mean, y), float(inside.mean()), len(y))


def _check_accuracies(genes: Genes, y: Floats) -> None:
    if y.shape != (len(genes),):
        raise DataError(f"{len(genes)} networks need {len(genes)} accuracies, shape ({len(genes)},), not {y.shape}")
    wrong = ~((y >= 0) & (y <= 1))
    if wrong.any():
        raise DataError(f"accuracy {y[wrong][0]:g} is not in [0, 1]: give fractions, not percentages")


def _finite(value: float) -> float:
    if not 0 <= value < np.inf:
        raise ValueError(f"{value} is no size of an error")
    return float(value)


def _signature(space: Space) -> dict[str, Any]:
    """What must be equal for two spaces to have the same gene matrices and networks, as JSON values."""
    described = {"space": space.to_json(), "resolutions": space.resolutions, "stages": [asdict(s) for s in space.stages]}
    result: dict[str, Any] = json.loads(json.dumps(described))
    return result


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description and arrays; each of these is of finite numbers."""
    regular_file(path)
    with reading_or_writing(path):
        path.open("rb").close()  # gives the operating system's error, safetensors gives its own
        try:
            with plain_path(path) as plain, safetensors.safe_open(plain, framework="numpy") as file:
                description = json.loads((file.metadata() or {})["onceforall"])
                arrays = {name: file.get_tensor(name) for name in list(file.keys())}
            if not isinstance(description, dict) or not all(np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("no description, or an array that is not finite")
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            raise CheckpointError(f"{path}: not a predictor, or damaged: fit it again") from None
    return description, arrays
