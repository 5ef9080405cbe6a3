"""The search that all goals share: random networks, evolution, then chains that walk under prices of the limits (`anneal.py`).

What is kept of it, local search at the end, and proofs are up to `maximise` and `pareto`.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from ..arch import Arch
from ..genes import Genes, cross, sample
from .anneal import anneal
from .evaluator import Evaluated, Evaluator
from .feasible import feasible_row
from .moves import every
from .problem import Costs, SearchProblem

SMALL = 20_000  # networks of a space that is tried out entirely
RANDOM = 1024  # networks drawn to begin with


class _Goal(Protocol):
    """What a search is after, and how its evaluations are spent. It sees what was found in the evaluator, or watches it."""

    mixes: int  # how many times each of the first networks is crossed with one that keeps the limits
    evolution: float  # share of the evaluations after which evolution ends
    generations: int  # at most
    chains: int  # at most
    per_chain: int  # evaluations at least; a chain tries every change of its first network
    walks: int  # of all chains, one after the other
    walking: float  # share of the evaluations

    def watch(self, rows: Evaluated) -> None:
        """Called with everything that was evaluated and keeps the limits."""
        ...

    def offspring(self, evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        """One more generation."""
        ...

    def starts(self, evaluator: Evaluator, first: Evaluated, chains: int, rng: np.random.Generator) -> tuple[Evaluated, Costs]:
        """Where chains begin (chains,) and the bounds of their limits (chains, limits). `first`: the best random networks."""
        ...

    def restart(self, evaluator: Evaluator, bounds: Costs, at: Evaluated, prices: Costs) -> Evaluated:
        """Where the chains continue from at some points; see `anneal`."""
        ...


def begin(
    problem: SearchProblem, goal: _Goal, evaluations: int, time_s: float | None, start: Sequence[Arch], *, keep: int
) -> tuple[Evaluator, Genes | None]:
    """An evaluator, and rows to search from; None in place of these where all networks of a small space have been evaluated.

    Raises:
        NothingFeasibleError: no network keeps the limits.
        ArchError: a network of `start` lies outside the space.
        ValueError: `evaluations` is below 1.
    """
    began, space = time.monotonic(), problem.space
    if evaluations < 1:
        raise ValueError(f"evaluations={evaluations}: it must be at least 1")
    seeds = np.concatenate([feasible_row(problem), space.genes(start)])
    evaluator = Evaluator(problem, evaluations, None if time_s is None else began + time_s, keep, goal.watch)
    if space.count() > min(evaluations, SMALL):
        return evaluator, seeds
    evaluator(every(space), only_feasible=True)
    return evaluator, None


def explore(evaluator: Evaluator, goal: _Goal, seeds: Genes, rng: np.random.Generator) -> Evaluated:
    """Random networks, also mixed with seeds so that many keep the limits; evolution; walks.

    Afterwards `evaluator.budget` is nine tenths of what it was: the last tenth is for a local search or a proof.

    Returns:
        Where the chains of the last walk ended; they need not keep the limits.
    """
    budget, columns = evaluator.budget, evaluator.problem.space.columns
    drawn, mates = [sample(columns, rng, RANDOM)], seeds[rng.integers(len(seeds), size=RANDOM)]
    for _ in range(goal.mixes):
        drawn.append(cross(columns, drawn[-1], mates, rng))
    rows = np.concatenate([seeds, rng.permutation(np.concatenate(drawn))[: budget // 8 or 1]])
    first = evolve(evaluator, goal.offspring, rows, rng, evaluations=int(budget * goal.evolution), generations=goal.generations)
    evaluator.budget = int(budget * 0.9)
    for _ in range(goal.walks):
        start, bounds = goal.starts(evaluator, first, chains_of(goal, budget), rng)
        tries, restart = int(budget * goal.walking / goal.walks), partial(goal.restart, evaluator, bounds)
        ends = anneal(evaluator, start, bounds, evaluations=tries, rng=rng, restart=restart)
    return ends


def evolve(
    evaluator: Evaluator,
    offspring: Callable[[Evaluator, np.random.Generator], Genes],
    rows: Genes,
    rng: np.random.Generator,
    *,
    evaluations: int,
    generations: int,
) -> Evaluated:
    """Generation after generation; networks that break a limit are not scored.

    Args:
        evaluator: knows, and hands on, what is evaluated.
        offspring: makes the next generation of what the evaluator, or who watches it, knows.
        rows: the first generation (n, columns).
        evaluations: after which it ends.
        generations: after the first, at most.

    Returns:
        The best of the first generation.
    """
    evaluator(rows, only_feasible=True)
    first = evaluator.found
    for _ in range(generations):
        if evaluator.spent or evaluator.evaluations >= evaluations:
            break
        evaluator(offspring(evaluator, rng), only_feasible=True)
    return first


def chains_of(goal: _Goal, budget: int) -> int:
    """How many chains a budget is enough for."""
    return min(max(budget // goal.per_chain, 1), goal.chains)
