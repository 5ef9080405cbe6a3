"""Keeps count of what was evaluated, remembers it, and keeps the best networks found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..genes import Genes
from .moves import keys
from .problem import Bools, Floats, Limit, Problem

__all__ = ["Evaluated", "Evaluator"]


@dataclass(frozen=True)
class Evaluated:
    """Networks with their scores and costs, row by row. `excess` is 0 where every limit is kept."""

    genes: Genes
    scores: Floats
    costs: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    excess: Floats

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def feasible(self) -> Bools:
        return np.asarray(self.excess == 0)

    def rows(self, index: np.ndarray[tuple[int], np.dtype[np.int64]] | Bools) -> "Evaluated":
        """Some of the networks."""
        return Evaluated(self.genes[index], self.scores[index], self.costs[index], self.excess[index])

    def joined(self, other: "Evaluated") -> "Evaluated":
        """These and the others."""
        return Evaluated(
            np.concatenate([self.genes, other.genes]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.costs, other.costs]),
            np.concatenate([self.excess, other.excess]),
        )

    def best(self, n: int) -> "Evaluated":
        """The n best different networks, best first: those that keep the limits, then by score, ties by genes."""
        different = np.unique(keys(self.genes), return_index=True)[1]
        part = self.rows(different)
        order = np.lexsort((*part.genes.T[::-1], -part.scores, part.excess))
        return part.rows(order[:n])


@dataclass
class Evaluator:
    """Evaluates networks of a problem. A network's score and costs are computed once.

    Args:
        problem: what is searched.
        budget: evaluations of the score after which `spent` is true.
        deadline: `time.monotonic()` after which `spent` is true, or None.
        keep: number of best feasible networks to keep.
        watch: called with everything that was evaluated and keeps the limits.
    """

    problem: Problem
    budget: int
    deadline: float | None = None
    keep: int = 256
    watch: Callable[[Evaluated], None] = lambda rows: None
    evaluations: int = 0
    found: Evaluated | None = None
    _scores: dict[int, float] = field(default_factory=dict)

    @property
    def spent(self) -> bool:
        return self.evaluations >= self.budget or (self.deadline is not None and time.monotonic() > self.deadline)

    def costs(self, genes: Genes) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], Floats]:
        """Costs (n, limits) and excess (n,)."""
        costs = self.problem.costs(genes)
        return costs, self.problem.excess(costs)

    def __call__(self, genes: Genes, *, only_feasible: bool = False) -> Evaluated:
        """Score and costs of the rows; with `only_feasible`, rows that break a limit are dropped before they are scored."""
        costs, excess = self.costs(genes)
        if only_feasible:
            genes, costs, excess = genes[excess == 0], costs[excess == 0], excess[excess == 0]
        result = Evaluated(genes, self._score(genes), costs, excess)
        kept = result.rows(result.feasible)
        self._keep(kept)
        self.watch(kept)
        return result

    def within(self, bounds: Sequence[float]) -> "Evaluator":
        """The same with other bounds of the limits; what is known stays known. Its evaluations count from this one's on."""
        limits = tuple(Limit(limit.measure, bound) for limit, bound in zip(self.problem.limits, bounds, strict=True))
        return replace(self, problem=replace(self.problem, limits=limits), found=None)

    def _score(self, genes: Genes) -> Floats:
        scores, known = np.zeros(len(genes)), self._scores
        names = keys(genes).tolist()
        new = {name: i for i, name in enumerate(names) if name not in known}
        if new:
            fresh = self.problem.score(genes[list(new.values())])
            known.update(zip(new, fresh.tolist(), strict=True))
            self.evaluations += len(new)
        scores[:] = [known[name] for name in names]
        return scores

    def _keep(self, rows: Evaluated) -> None:
        if self.found is not None and len(self.found) >= self.keep:
            rows = rows.rows(rows.scores >= self.found.scores[-1])
        if len(rows):
            self.found = (rows if self.found is None else self.found.joined(rows)).best(self.keep)
