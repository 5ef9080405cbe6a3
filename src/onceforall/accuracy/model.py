"""What every kind of accuracy model does, so that `AccuracyPredictor` can hold any of them."""

from typing import Any, Protocol

import numpy as np

from ..genes import Genes

__all__ = ["Array", "Floats", "Model"]

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
        """Predicted accuracies and the standard deviations of what a measurement would give around them, each (n,)."""
        ...

    def description(self) -> dict[str, Any]:
        """JSON values that, with the arrays, are enough to make it again. "model" is its name in `MODELS`."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Its arrays by name."""
        ...
