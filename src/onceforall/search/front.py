"""`Front`: networks that do not dominate each other (a Pareto front)."""

from dataclasses import dataclass

import numpy as np

from ..genes import Genes
from .moves import keys

Values = np.ndarray[tuple[int, int], np.dtype[np.float64]]  # (n, objectives), more is better
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Front:
    """Networks that do not dominate each other, with their objectives (n, objectives), higher is better; sorted by the first."""

    genes: Genes
    values: Values

    def __len__(self) -> int:
        return len(self.genes)

    def merged(self, genes: Genes, values: Values, most: int) -> "Front":
        """The front of these and other networks, thinned to `most`."""
        new = ~_dominated(values, self.values)
        if not new.any():
            return self
        genes, values = np.concatenate([self.genes, genes[new]]), np.concatenate([self.values, values[new]])
        keep = nondominated(values, genes)
        return Front(genes[keep], values[keep]).thinned(most)

    def thinned(self, most: int) -> "Front":
        """The `most` members that are farthest from their neighbors; the extremes are kept."""
        if len(self) <= most:
            return self
        keep = np.sort(np.argsort(-crowding(self.values), kind="stable")[:most])
        return Front(self.genes[keep], self.values[keep])


def nondominated(values: Values, genes: Genes) -> Ints:
    """Indices of rows that no other row dominates, sorted by the first objective; of equal rows, the first by genes."""
    order = np.lexsort((keys(genes), *(-values).T[::-1]))
    ranked = values[order]
    repeated = np.concatenate([[False], (ranked[1:] == ranked[:-1]).all(1)])
    order, ranked = order[~repeated], ranked[~repeated]
    if values.shape[1] == 2:  # sorted by the first: a row that beats all earlier ones in the second is on the front
        before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked[:-1, 1])]) if len(ranked) else ranked[:, 1]
        return np.asarray(order[ranked[:, 1] > before][::-1])
    kept: list[int] = []
    for i in range(len(ranked)):
        if not (ranked[kept] >= ranked[i]).all(1).any():
            kept.append(i)
    return np.asarray(order[kept][::-1])


def crowding(values: Values) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Distance between each row's neighbors, summed over the objectives, as in NSGA-II (Deb et al. 2002); inf at extremes."""
    total = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        width = column[order[-1]] - column[order[0]]
        total[order[[0, -1]]] = np.inf
        total[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / (width or 1.0)
    return total


def _dominated(values: Values, by: Values) -> Bools:
    """Which rows are no better in any objective than some row of `by`."""
    if values.shape[1] == 2:  # a front ascends in the first objective and descends in the second
        at = np.searchsorted(by[:, 0], values[:, 0])
        return np.asarray(np.append(by[:, 1], -np.inf)[at] >= values[:, 1])
    result: Bools = np.zeros(len(values), np.bool_)
    for begin in range(0, len(values), 1024):
        rows = slice(begin, begin + 1024)
        result[rows] = np.any(np.all(by[None] >= values[rows, None], 2), 1)
    return result
