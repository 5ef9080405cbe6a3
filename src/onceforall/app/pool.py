"""Every network that can be the best within some limits, with its numbers as arrays, so that a slider needs one look-up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..genes import Genes
from ..search.front import nondominated
from ..search.moves import keys

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
RIVALS = 160  # networks to compare the others with when the pool is thinned
SLACK = 1e-9  # relative, as in searches


@dataclass(frozen=True)
class NetworkPool:
    """Networks by score, best first, row by row.

    Args:
        genes: (n, columns).
        scores: the values to maximize.
        top1: predicted accuracy.
        std: standard error of the prediction.
        costs: costs by name, each (n,).
    """

    genes: Genes
    scores: Floats
    top1: Floats
    std: Floats
    costs: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.genes)

    def best(self, limits: Mapping[str, float]) -> int | None:
        """Row with the highest score that meets the limits; None if none does."""
        keeping = self._keeping(limits)
        return int(keeping[0]) if len(keeping) else None

    def smallest(self, name: str, others: Mapping[str, float]) -> float | None:
        """The smallest value of a cost among networks that meet the other limits."""
        keeping = self._keeping({other: most for other, most in others.items() if other != name})
        return float(self.costs[name][keeping].min()) if len(keeping) else None

    def _keeping(self, limits: Mapping[str, float]) -> Ints:
        keeps = np.ones(len(self), np.bool_)
        for name, most in limits.items():
            keeps &= self.costs[name] <= most * (1 + SLACK)
        return np.flatnonzero(keeps)

    def front(self, name: str) -> Ints:
        """Rows that are not dominated in score and this cost, from the cheapest to the best."""
        return nondominated(np.stack([self.scores, -self.costs[name]], 1), self.genes)

    def merged(self, other: "NetworkPool") -> "NetworkPool":
        """The networks of both pools, thinned."""
        genes, scores, top1, std = (
            np.concatenate([getattr(pool, name) for pool in (self, other)]) for name in ("genes", "scores", "top1", "std")
        )
        costs = {name: np.concatenate([values, other.costs[name]]) for name, values in self.costs.items()}
        return NetworkPool(genes, scores, top1, std, costs).thinned()

    def thinned(self) -> "NetworkPool":
        """The pool without duplicates, and without networks that another one beats in everything, which are never the best."""
        first = np.unique(keys(self.genes), return_index=True)[1]
        ordered = self._rows(first[np.argsort(-self.scores[first], kind="stable")])
        return ordered._rows(ordered._useful())

    def _useful(self) -> Ints:
        """Rows not dominated by any of `RIVALS` networks spread over the scores. This never removes an answer."""
        alive = np.arange(len(self))
        values: Any = np.stack([-self.scores, *self.costs.values()], 1)
        fronts = np.unique(np.concatenate([self.front(name) for name in self.costs]))
        for rival in fronts[np.unique(np.linspace(0, len(fronts) - 1, RIVALS).astype(np.int64))] if len(fronts) else fronts:
            rows = values[alive]
            beaten = (rows >= values[rival]).all(1) & (rows > values[rival]).any(1)
            alive = alive[~beaten]
        return alive

    def _rows(self, rows: Ints) -> "NetworkPool":
        costs = {name: values[rows] for name, values in self.costs.items()}
        return NetworkPool(self.genes[rows], self.scores[rows], self.top1[rows], self.std[rows], costs)
