"""Labels of tied entries: each entry along a dimension of a weight gets a label, and operations tie labels together.

A value has *factors*: arrays of labels that are broadcast against its shape, with size 1 along dimensions that they do not
distinguish. An entry of the value is kept if all of its labels are. A dimension without labels (batch, pixels, tokens) can never
become narrower.

numpy's reshape, transpose and indexing move labels exactly as torch's move numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.int64]]
Factors = list[Array]


@dataclass(frozen=True)
class Reason:
    """Why labels are fixed: the operation, and the module that calls it."""

    step: str
    module: str
    text: str


@dataclass
class Labels:
    """Labels of all tensors and values, and the constraints on them.

    Args:
        count: number of labels so far.
        ties: pairs of arrays of labels that can only be removed together.
        fixed: labels that cannot be removed, and why.
        heads: labels of attention heads.
        values: factors of each step's results, by name of the step, in a list with one entry per result.
        weights: factors of each tensor.
        shapes: shapes of each result, and of each tensor as "own NAME".
        indexed: steps with two results (values and their indices) whose second one is used.
        copies: labels of entries made by expansion. They are removed with the entries that they are tied to, and fixed if those
            are not rows of a weight, as for gray images that are expanded to three channels.
    """

    count: int = 0
    ties: list[tuple[Array, Array]] = field(default_factory=list)
    fixed: list[tuple[Array, Reason]] = field(default_factory=list)
    heads: list[Array] = field(default_factory=list)
    values: dict[str, list[Factors]] = field(default_factory=dict)
    weights: dict[str, Factors] = field(default_factory=dict)
    shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    indexed: set[str] = field(default_factory=set)
    copies: list[Array] = field(default_factory=list)

    def fresh(self, shape: Sequence[int]) -> Factors:
        """New labels along each dimension with more than one entry."""
        factors = []
        for dim, size in enumerate(shape):
            if size > 1:
                labels = np.arange(self.count, self.count + size).reshape([size if d == dim else 1 for d in range(len(shape))])
                factors.append(labels)
                self.count += size
        return factors

    def tie(self, first: Array, second: Array) -> None:
        """Tie entries at the same position of two broadcast arrays."""
        a, b = np.broadcast_arrays(first, second)
        self.ties.append((a.ravel(), b.ravel()))

    def tie_along(self, labels: Array, axes: Sequence[int]) -> Array:
        """Tie all labels along some axes; return the first ones, with size 1 along these axes."""
        first = labels
        for axis in axes:
            first = first.take([0], axis)
        if first.shape != labels.shape:
            self.tie(labels, first)
        return first

    def fix(self, factors: Factors, reason: Reason) -> None:
        """Fix all labels of the factors."""
        self.fixed += [(labels.ravel(), reason) for labels in factors]

    def components(self) -> Array:
        """The index of each label's component of tied labels."""
        if not self.ties:
            return np.arange(self.count)
        from scipy.sparse import coo_array  # slow to load, and needed only here
        from scipy.sparse.csgraph import connected_components

        rows = np.concatenate([a for a, _ in self.ties])
        columns = np.concatenate([b for _, b in self.ties])
        graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.count, self.count))
        found: Array = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
        return found


def collapsed(labels: Array) -> Array:
    """The same labels, with size 1 along axes on which they do not change."""
    for axis, size in enumerate(labels.shape):
        if size > 1:
            first = labels.take([0], axis)
            if (labels == first).all():
                labels = first
    return labels
