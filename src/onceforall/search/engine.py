"""The search that all goals share: random networks, evolution, then chains under prices of the limits (`anneal.py`).

`maximise` and `pareto` decide what to keep, and add the final local search and proofs.
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

SMALL = 20_000  # spaces up to this size are enumerated
RANDOM = 1024  # initial random networks


class _Goal(Protocol):
    """The goal of a search and how it spends its evaluations. It reads results from the evaluator, or watches them."""

    mixes: int  # how often each random network is crossed with a feasible one
    evolution: float  # share of the evaluations after which evolution ends
    generations: int  # maximum
    chains: int  # maximum
    per_chain: int  # minimum evaluations; a chain tries every change of its first network
    walks: int  # number of consecutive walks of all chains
    walking: float  # share of the evaluations for walks

    def watch(self, rows: Evaluated) -> None:
        """Called with all evaluated networks that meet the limits."""
        ...

    def offspring(self, evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        """The next generation."""
        ...

    def starts(self, evaluator: Evaluator, first: Evaluated, chains: int, rng: np.random.Generator) -> tuple[Evaluated, Costs]:
        """Starting networks (chains,) and bounds of the limits (chains, limits). `first` holds the best random networks."""
        ...

    def restart(self, evaluator: Evaluator, bounds: Costs, at: Evaluated, prices: Costs) -> Evaluated:
        """Where the chains continue after a restart; see `anneal`."""
        ...


def begin(
    problem: SearchProblem, goal: _Goal, evaluations: int, time_s: float | None, start: Sequence[Arch], *, keep: int
) -> tuple[Evaluator, Genes | None]:
    """An evaluator and rows to search from; None for the rows if the space is small and was evaluated completely.

    Raises:
        NothingFeasibleError: no network meets the limits.
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
    """Evaluate random networks (also crossed with seeds, so that many meet the limits), then run evolution, then walks.

    Afterwards `evaluator.budget` is smaller by a tenth, which is reserved for a local search or a proof.

    Returns:
        The final networks of the last walk's chains, which need not meet the limits.
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
    """Run evolution; networks that violate a limit are not scored.

    Args:
        evaluator: scores networks, and passes the feasible ones to its watcher.
        offspring: makes the next generation from what the evaluator or its watcher has seen.
        rows: the first generation (n, columns).
        evaluations: number of evaluations after which it ends.
        generations: maximum number of generations after the first.

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
    """The number of chains that the budget allows."""
    return min(max(budget // goal.per_chain, 1), goal.chains)
