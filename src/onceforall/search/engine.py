"""The search that all goals share: random networks, evolution, then chains that walk under prices of the limits (`anneal.py`).

What is kept of it, local search at the end, and proofs are up to `maximise` and `pareto`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ..arch import Arch
from ..genes import Genes, cross, sample
from .anneal import Matrix, anneal
from .evaluator import Evaluated, Evaluator
from .feasible import feasible_row
from .moves import every
from .problem import Problem

__all__ = ["Effort", "Goal", "begin", "explore"]

SMALL = 20_000  # networks of a space that is tried out entirely


@dataclass(frozen=True)
class Effort:
    """How the evaluations of a search are spent.

    Args:
        fast: evaluations by default.
        slow: where a function takes one Arch after the other.
        random: networks drawn to begin with.
        mixes: how many times each is crossed with a network that keeps the limits.
        generations: of the evolution at most.
        evolution: share of the evaluations after which it ends.
        chains: at most.
        per_chain: evaluations at least; a chain tries every change of its first network.
        walks: of all chains, one after the other.
        walking: share of the evaluations.
    """

    fast: int
    slow: int
    random: int
    mixes: int
    generations: int
    evolution: float
    chains: int
    per_chain: int
    walks: int
    walking: float

    def chains_of(self, budget: int) -> int:
        """How many chains so many evaluations are enough for."""
        return min(max(budget // self.per_chain, 1), self.chains)


class Goal(Protocol):
    """What a search is after. It sees what was found in the evaluator, or watches it."""

    def offspring(self, evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        """One more generation."""
        ...

    def starts(self, evaluator: Evaluator, first: Evaluated, chains: int, rng: np.random.Generator) -> tuple[Evaluated, Matrix]:
        """Where chains begin (chains,) and the bounds of their limits (chains, limits). `first`: the best random networks."""
        ...

    def restart(self, evaluator: Evaluator, bounds: Matrix, at: Evaluated, prices: Matrix) -> Evaluated:
        """Where the chains go on at some points of their way; see `anneal`."""
        ...


def begin(
    problem: Problem,
    effort: Effort,
    evaluations: int | None,
    time_s: float | None,
    start: Sequence[Arch],
    *,
    keep: int,
    watch: Callable[[Evaluated], None] = lambda rows: None,
) -> tuple[Evaluator, Genes | None]:
    """An evaluator, and rows to search from; None in place of these where all networks of a small space have been evaluated.

    Raises:
        NothingFeasibleError: no network keeps the limits.
        ArchError: a network of `start` lies outside the space.
        ValueError: `evaluations` is below 1.
    """
    began, space = time.monotonic(), problem.space
    if evaluations is None:
        evaluations = effort.slow if problem.takes_archs else effort.fast
    if evaluations < 1:
        raise ValueError(f"evaluations={evaluations}: it must be at least 1")
    seeds = np.concatenate([feasible_row(problem), space.genes(start)])
    evaluator = Evaluator(problem, evaluations, None if time_s is None else began + time_s, keep, watch)
    if space.count() > min(evaluations, SMALL):
        return evaluator, seeds
    evaluator(every(space), only_feasible=True)
    return evaluator, None


def explore(evaluator: Evaluator, goal: Goal, effort: Effort, seeds: Genes, rng: np.random.Generator) -> Evaluated:
    """Random networks mixed with seeds, so that many keep the limits; evolution; walks.

    Afterwards `evaluator.budget` is nine tenths of what it was: the last tenth is for a local search or a proof.

    Returns:
        Where the chains of the last walk ended; they need not keep the limits.
    """
    budget, columns = evaluator.budget, evaluator.problem.space.columns
    drawn = [sample(columns, rng, effort.random)]
    mates = seeds[rng.integers(len(seeds), size=effort.random)]
    for _ in range(effort.mixes):
        drawn.append(cross(columns, drawn[-1], mates, rng))
    rows = rng.permutation(np.concatenate(drawn))[: max(1, budget // 8)]
    evaluator(np.concatenate([seeds, rows]), only_feasible=True)
    first = evaluator.found
    for _ in range(effort.generations):
        if evaluator.spent or evaluator.evaluations >= budget * effort.evolution:
            break
        evaluator(goal.offspring(evaluator, rng), only_feasible=True)
    evaluator.budget = int(budget * 0.9)
    for _ in range(effort.walks):
        start, bounds = goal.starts(evaluator, first, effort.chains_of(budget), rng)
        tries, restart = int(budget * effort.walking / effort.walks), partial(goal.restart, evaluator, bounds)
        ends = anneal(evaluator, start, bounds, evaluations=tries, rng=rng, restart=restart)
    return ends
