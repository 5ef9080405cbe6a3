"""`AccuracyPredictor`: predicts the accuracy of every network of a space.

It is either fitted to a few dozen to a few thousand measured networks, with the kind of model that does best in cross-validation
(`choose.py`), or a published one. Prediction is vectorized and only needs numpy.
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
LEAST = 8  # minimum number of measured networks
GONE = ("trees", "perceptrons")  # kinds that earlier versions could fit; cross-validation never chose them

MODELS: dict[str, Callable[[Space, Mapping[str, Any], Mapping[str, Any]], Model]] = {
    "process": ProcessModel.read,
    "published": PublishedModel.read,
}


@dataclass(frozen=True)
class PredictorErrors:
    """Errors on held-out networks.

    Args:
        rmse: root mean square error, as a fraction (0.01 is one point of accuracy).
        kendall_tau: rank correlation (tau-b); 1 for the same order.
        coverage90: share of networks within the error bars that should contain 90 %.
    """

    rmse: float
    kendall_tau: float
    coverage90: float
    n: int


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """Predicts top-1 accuracy in [0, 1], or the run's metric. Made by `fit`, `load` or `from_published`.

    Args:
        space: the space of the networks; gene matrices must belong to it.
        weights_hash: hash of the supernet whose sub-networks were measured.
        calibration: calibration of the error bars.
        candidates: cross-validated root mean square error against measurements, for each kind of model that was tried.
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
            losses: mean loss of each network on the same images; used if that helps in cross-validation.
            noise: standard deviation of one measurement, if known, to better separate noise from errors of the prediction.
            kinds: kinds of models to try, out of "linear", "pairwise", "smooth"; by default all.

        Raises:
            DataError: fewer than 8 networks, another number of accuracies or losses, an accuracy outside [0, 1] (a percentage?), a
                loss that is not finite, or an unknown kind.
            ArchError: a network lies outside the space.
        """
        genes, y = space.rows(archs), np.asarray(accuracies, np.float64)
        _check_accuracies(genes, y)
        if len(y) < LEAST:
            raise DataError(f"{len(y)} measured networks are too few for a predictor: measure at least {LEAST}")
        loss = None if losses is None else np.asarray(losses, np.float64)
        if loss is not None and (loss.shape != y.shape or not np.isfinite(loss).all()):
            raise DataError(f"{len(genes)} networks need {len(genes)} losses, all finite")
        kinds = list(LEARNERS if kinds is None else kinds)
        if not kinds or not set(kinds) <= set(LEARNERS):
            raise DataError(f"kinds of models {', '.join(kinds) or '(none)'}: choose from {', '.join(LEARNERS)}")
        return cls(space, weights_hash, *choose(space, genes, y, losses=loss, noise=noise, kinds=kinds, seed=seed))

    @classmethod
    def from_published(cls, path: Path | str, space: Space, *, weights_hash: str = "") -> "AccuracyPredictor":
        """Read a predictor that the Once-for-All authors published (acc_predictor.pth or ofa_resnet50_acc_predictor.pth).

        Args:
            path: the published file.
            space: `space("mobilenet_v3", width=1.2)` or `space("resnet50d")`, or a part of it.
            weights_hash: hash of the supernet to use it with.

        Raises:
            CheckpointError: unreadable, or not a published predictor.
            ArchError: it is not for this space. Resolutions are only checked on prediction.
        """
        return cls(space, weights_hash, PublishedModel.from_file(path, space))

    @property
    def kind(self) -> str:
        """Readable name of the kind of model."""
        return self.model.kind

    @property
    def n(self) -> int:
        """Number of measured networks that it was fitted to; 0 if unknown."""
        return self.model.n

    def predict(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Predict accuracies in [0, 1], float64 (n,).

        Raises:
            ArchError: a network lies outside the space, or has a resolution unknown to the model.
        """
        return np.clip(self.score(archs), 0, 1)

    def score(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Like `predict`, but not clipped to [0, 1], so that a search can still distinguish networks there.

        Raises:
            ArchError: see `predict`.
        """
        return self.model.mean(self.space.rows(archs))

    def score_with_error(self, archs: Sequence[Arch] | Genes) -> tuple[Floats, Floats]:
        """`score`, and the standard deviations of the predictions themselves, for lower confidence bounds; each float64 (n,).

        Raises:
            ArchError: see `predict`.
        """
        mean, std = self.model.mean_and_std(self.space.rows(archs))
        return mean, self.calibration(std, measured=False)

    def predict_with_error(self, archs: Sequence[Arch] | Genes, *, measured: bool = True) -> tuple[Floats, Floats]:
        """Predict accuracies and their standard deviations, each float64 (n,).

        Args:
            measured: return standard deviations of measurements around the prediction; otherwise those of the prediction itself,
                without measurement noise.

        Raises:
            ArchError: see `predict`.
        """
        mean, std = self.model.mean_and_std(self.space.rows(archs))
        return np.clip(mean, 0, 1), self.calibration(std, measured=measured)

    def structure(self) -> Quadratic | None:
        """A function equal to `score` if that is quadratic in the one-hot choices, so that searches can prove optima; else None."""
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
        write_bytes(Path(path), safetensors.numpy.save(contiguous, metadata))  # save_file makes files that only the owner can read

    @classmethod
    def load(cls, path: Path | str, space: Space, *, weights_hash: str | None = None) -> "AccuracyPredictor":
        """Read a predictor written by `save`.

        Args:
            space: the space that it was made for.
            weights_hash: hash of the supernet to use it with; None skips the check.

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
            raise CheckpointError(f"{path}: this predictor was made for another space: fit one for this space")
        made_for = str(description.get("weights_hash", ""))
        if weights_hash is not None and made_for != weights_hash:
            raise CheckpointError(
                f"{path}: this predictor was made for the supernet with weights {made_for or 'unknown'}, not {weights_hash}: "
                "measure sub-networks of this supernet and fit again"
            )
        if description.get("model") in GONE:
            raise CheckpointError(
                f"{path}: made by an earlier version with {description['model']}, which are no longer a kind of predictor: "
                "fit it again to the same measurements with ofa accuracy fit RUN"
            )
        try:
            model = MODELS[description["model"]](space, description, arrays)
            calibration = Calibration(**{name: _finite(value) for name, value in description["calibration"].items()})
            candidates = {str(kind): _finite(rmse) for kind, rmse in description["candidates"].items()}
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise CheckpointError(f"{path}: damaged: fit or import the predictor again") from None
        return cls(space, made_for, model, calibration, candidates)


def assess(predictor: AccuracyPredictor, archs: Sequence[Arch] | Genes, accuracies: Sequence[float] | Floats) -> PredictorErrors:
    """Errors of a predictor on measured networks that were not used for fitting.

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
        raise ValueError(f"{value} is not a valid error")
    return float(value)


def _signature(space: Space) -> dict[str, Any]:
    """JSON values that are equal for spaces with the same gene matrices and networks."""
    described = {"space": space.to_json(), "resolutions": space.resolutions, "stages": [asdict(s) for s in space.stages]}
    result: dict[str, Any] = json.loads(json.dumps(described))
    return result


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the description and the arrays, checking that all numbers are finite."""
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
