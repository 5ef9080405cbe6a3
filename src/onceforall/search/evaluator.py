"""Evaluation of networks: caches and counts evaluations, and keeps the best networks found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..genes import Genes
from .moves import keys
from .problem import Bools, Costs, Floats, Limit, SearchProblem


@dataclass(frozen=True)
class Evaluated:
    """Networks with their scores and costs, row by row. `excess` is 0 where every limit is met."""

    genes: Genes
    scores: Floats
    costs: Costs
    excess: Floats

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def feasible(self) -> Bools:
        return np.asarray(self.excess == 0)

    def rows(self, index: np.ndarray[tuple[int], np.dtype[np.int64]] | Bools) -> "Evaluated":
        """The selected networks."""
        return Evaluated(self.genes[index], self.scores[index], self.costs[index], self.excess[index])

    def joined(self, other: "Evaluated") -> "Evaluated":
        """These networks followed by the others."""
        genes, costs = np.concatenate([self.genes, other.genes]), np.concatenate([self.costs, other.costs])
        return Evaluated(genes, np.concatenate([self.scores, other.scores]), costs, np.concatenate([self.excess, other.excess]))

    def distinct(self) -> "Evaluated":
        """The networks without duplicates."""
        return self.rows(np.unique(keys(self.genes), return_index=True)[1])

    def best(self, n: int) -> "Evaluated":
        """The n best distinct networks, best first: feasible ones first, then by score; ties by genes."""
        rows = self.distinct()
        order = np.lexsort((*rows.genes.T[::-1], -rows.scores, rows.excess))
        return rows.rows(order[:n])


@dataclass
class Evaluator:
    """Evaluates the networks of a problem. Each network's score and costs are computed only once.

    Args:
        budget: evaluations of the score after which `spent` is true.
        deadline: `time.monotonic()` after which `spent` is true, or None.
        keep: number of the best feasible networks to keep.
        watch: called with all evaluated networks that meet the limits.
    """

    problem: SearchProblem
    budget: int
    deadline: float | None = None
    keep: int = 256
    watch: Callable[[Evaluated], None] = lambda rows: None
    evaluations: int = 0
    _scores: dict[int, float] = field(default_factory=dict)
    found: Evaluated = field(init=False)

    def __post_init__(self) -> None:
        nothing, known = self.problem.space.genes([]), np.zeros(0)
        self.found = Evaluated(nothing, known, self.problem.costs(nothing), known)

    @property
    def spent(self) -> bool:
        return self.evaluations >= self.budget or (self.deadline is not None and time.monotonic() > self.deadline)

    def __call__(self, genes: Genes, *, only_feasible: bool = False) -> Evaluated:
        """Score and costs of the rows; with `only_feasible`, rows that violate a limit are dropped before scoring."""
        costs = self.problem.costs(genes)
        excess = self.problem.excess(costs)
        if only_feasible:
            genes, costs, excess = genes[excess == 0], costs[excess == 0], excess[excess == 0]
        result = Evaluated(genes, self._score(genes), costs, excess)
        feasible = result.rows(result.feasible)
        self._keep(feasible)
        self.watch(feasible)
        return result

    def within(self, bounds: Sequence[float]) -> "Evaluator":
        """A copy with other bounds of the limits, which shares the cache and starts with the same count of evaluations."""
        limits = tuple(Limit(limit.measure, bound) for limit, bound in zip(self.problem.limits, bounds, strict=True))
        return replace(self, problem=replace(self.problem, limits=limits))

    def _score(self, genes: Genes) -> Floats:
        known, names = self._scores, keys(genes).tolist()
        if new := {name: i for i, name in enumerate(names) if name not in known}:
            known.update(zip(new, self.problem.score(genes[list(new.values())]).tolist(), strict=True))
            self.evaluations += len(new)
        return np.array([known[name] for name in names], np.float64)

    def _keep(self, rows: Evaluated) -> None:
        if len(self.found) >= self.keep:
            rows = rows.rows(rows.scores >= self.found.scores[-1])
        if len(rows):
            self.found = self.found.joined(rows).best(self.keep)
