"""The interface of all kinds of accuracy models in `AccuracyPredictor`."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..genes import Genes
from ..structure import Quadratic

Array = np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


class Model(Protocol):
    """Maps gene rows (n, columns) of its space to accuracies, not clipped to [0, 1].

    A new kind also needs a function that reads it back, in `MODELS` of `predictor.py`.
    """

    @property
    def kind(self) -> str:
        """Readable name of one or two words."""
        ...

    @property
    def n(self) -> int:
        """Number of measured networks that it was fitted to; 0 if unknown."""
        ...

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        ...

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and their standard deviations (not calibrated), each (n,)."""
        ...

    def structure(self) -> Quadratic | None:
        """A function equal to `mean`, if that is quadratic in the one-hot choices; else None."""
        ...

    def description(self) -> dict[str, Any]:
        """JSON values that, together with the arrays, restore the model. "model" is its name in `MODELS`."""
        ...

    def arrays(self) -> dict[str, Any]:
        """Its arrays by name."""
        ...


@dataclass(frozen=True, eq=False)
class Learnt:
    """A fitted model with held-out predictions for the networks it was fitted to.

    Args:
        model: fitted to all networks.
        mean: (n,) prediction for each network by a model fitted without its fold.
        std: (n,) their standard deviations, not calibrated.
        chosen: number of parameters, such as weights of parts, that were chosen on all networks, including the held-out fold.
    """

    model: Model
    mean: Floats
    std: Floats
    chosen: int = 0
