"""Forward pass of a multilayer perceptron with relu between its layers, in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .model import Array

__all__ = ["Perceptron"]

NEGLIGIBLE = 1e-30  # weights that training decayed to almost nothing; products with them are denormal and very slow


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Layers in the order of the data: weights (inputs, outputs) and biases (outputs,), float32. Made by `of`."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @classmethod
    def of(cls, weights: Sequence[Array], biases: Sequence[Array]) -> "Perceptron":
        """The same function with negligible weights as zeros and without the hidden units that do nothing.

        Args:
            weights: one for each layer (inputs, outputs).
            biases: one for each layer (outputs,).

        Raises:
            ValueError: their shapes do not make a chain that ends in one number.
        """
        sizes = [len(weights[0]), *(w.shape[1] for w in weights)]
        if [w.shape for w in weights] != list(pairwise(sizes)) or [b.shape for b in biases] != [(n,) for n in sizes[1:]]:
            raise ValueError("the layers do not make a chain")
        if sizes[-1] != 1:
            raise ValueError(f"the last layer gives {sizes[-1]} numbers, not one")
        found, offsets = [_flushed(w) for w in weights], [_flushed(b) for b in biases]
        for i in range(len(found) - 1):
            constant = ~found[i].any(0)  # no input reaches these units: what they add moves into the next biases
            added = np.maximum(offsets[i][constant], 0).astype(np.float64) @ found[i + 1][constant]
            offsets[i + 1] = (offsets[i + 1] + added).astype(np.float32)
            found[i], offsets[i], found[i + 1] = found[i][:, ~constant], offsets[i][~constant], found[i + 1][~constant]
        for i in reversed(range(len(found) - 1)):
            used = found[i + 1].any(1)
            found[i], offsets[i], found[i + 1] = found[i][:, used], offsets[i][used], found[i + 1][used]
        return cls(tuple(np.ascontiguousarray(w) for w in found), tuple(offsets))

    def __call__(self, x: Array) -> Array:
        """(n, inputs) float32 -> (n,) float32."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i:
                np.maximum(x, 0, out=x)
            x = x @ weight
            x += bias
        return x[:, 0]


def _flushed(array: Array) -> Array:
    return np.where(np.abs(array) < NEGLIGIBLE, 0, array).astype(np.float32)
