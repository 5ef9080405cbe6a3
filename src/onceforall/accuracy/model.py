"""What every kind of accuracy model does, so that `AccuracyPredictor` can hold any of them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..genes import Genes
from ..structure import Quadratic

Array = np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


class Model(Protocol):
    """Maps gene rows (n, columns) of the space that it was made for to accuracies, not cut off at 0 and 1.

    A new kind also gets a function that reads it back, in `MODELS` of `predictor.py`.
    """

    @property
    def kind(self) -> str:
        """In a word or two, for people."""
        ...

    @property
    def n(self) -> int:
        """Number of measured networks that it was fitted to; 0 where that is not known."""
        ...

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        ...

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and how far off they may be (standard deviations, not calibrated), each (n,)."""
        ...

    def structure(self) -> Quadratic | None:
        """The same as `mean`, where that is a quadratic function of one-hot choices."""
        ...

    def description(self) -> dict[str, Any]:
        """JSON values that, with the arrays, are enough to make it again. "model" is its name in `MODELS`."""
        ...

    def arrays(self) -> dict[str, Any]:
        """Its arrays by name."""
        ...


@dataclass(frozen=True, eq=False)
class Learnt:
    """A fitted model, and what models without each fold say about the networks of that fold.

    Args:
        model: fitted to all networks.
        mean: (n,) predicted without the network's fold.
        std: (n,) standard deviations of these, not calibrated.
        chosen: how many numbers, such as weights of parts, were chosen on all networks, those of the fold included.
    """

    model: Model
    mean: Floats
    std: Floats
    chosen: int = 0
