"""Functions of networks that are sums of terms, each depending on a few choices.

A search uses this structure to prove how far its result is from the optimum. An object that estimates the score or a limited cost
declares its structure with a method `structure`; see `Structured`.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .genes import Genes
from .space import Space

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Factor:
    """One term: a number for every combination of choices of some gene columns.

    Args:
        columns: columns of the gene matrix.
        values: one axis per column, one longer than its choices: index 0 means that the block is absent, 1 the first choice.
    """

    columns: tuple[int, ...]
    values: Floats

    def __call__(self, genes: Genes) -> Floats:
        """The term of each row (n,)."""
        result: Floats = self.values[tuple(genes[:, c] + 1 for c in self.columns)]
        return result


@dataclass(frozen=True, eq=False)
class Terms:
    """The constant plus the sum (or, for memory, the maximum) of the factors."""

    factors: tuple[Factor, ...]
    constant: float = 0.0
    largest: bool = False

    def __call__(self, genes: Genes) -> Floats:
        """The value of each row (n,)."""
        terms = np.array([factor(genes) for factor in self.factors]).reshape(len(self.factors), len(genes))
        total: Floats = self.constant + (terms.max(0) if self.largest else terms.sum(0))
        return total


@runtime_checkable
class Structured(Protocol):
    """An object that declares the structure of its estimates."""

    def structure(self) -> "Terms | Quadratic | None":
        """Terms that equal its estimates up to rounding; None if there are no such terms."""
        ...


@dataclass(frozen=True, eq=False)
class Quadratic:
    """constant + x · linear + x · pairs · x / 2, where x are the one-hot choices of a network (`Space.encode`).

    Args:
        constant: added for every network.
        linear: one number per choice, of the columns with more than one choice (f,).
        pairs: symmetric (f, f), or None. Between choices of the same column only the diagonal counts.
    """

    space: Space
    constant: float
    linear: Floats
    pairs: Floats | None = None

    def __call__(self, genes: Genes) -> Floats:
        """The value of each row (n,)."""
        x = self.space.encode(genes).astype(np.float64)
        result: Floats = self.constant + x @ self.linear
        return result if self.pairs is None else result + 0.5 * ((x @ self.pairs) * x).sum(1)

    @cached_property
    def terms(self) -> Terms:
        """The same function as one factor per column and one per pair of columns."""
        at, begin = {}, 0
        for c, column in enumerate(self.space.columns):
            if len(column.choices) > 1:
                at[c] = slice(begin, begin + len(column.choices))
                begin += len(column.choices)
        linear = self.linear if self.pairs is None else self.linear + 0.5 * np.diag(self.pairs)
        factors = [Factor((c,), np.concatenate([[0.0], linear[part]])) for c, part in at.items()]
        if self.pairs is not None:
            for c, d in combinations(at, 2):
                between = self.pairs[at[c], at[d]]
                if between.any():
                    factors.append(Factor((c, d), np.pad(between, ((1, 0), (1, 0)))))
        return Terms(tuple(factors), self.constant)
