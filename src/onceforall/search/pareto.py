"""Find the Pareto front of several objectives: the shared search along a front, then local search from targets on it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from ..arch import Arch
from ..genes import Genes, cross, mutate
from ..space import Space
from .climb import climb
from .engine import begin, chains_of, explore
from .evaluator import Evaluated, Evaluator
from .front import Front, crowding
from .problem import Costs, FoundNetwork, Function, Limit, Limits, Measure, SearchProblem, limits_of, measure_of

Objectives = Mapping[str, tuple[Function, Literal["max", "min"]]]

FAST_EVALUATIONS = 900_000
SLOW_EVALUATIONS = 20_000  # for functions that take one Arch at a time
POPULATION = 512
PATIENCE = 3  # rounds of local search without a change of the front, after which the search ends
ARCHIVE = 3000  # members of the front kept during the search


@dataclass(frozen=True)
class ParetoResult:
    """Result of `pareto`: networks that do not dominate each other.

    Args:
        points: sorted by the first objective, ascending; no two with equal objectives.
        exact: whether every network of the space was tried.
    """

    points: tuple[FoundNetwork, ...]
    exact: bool
    evaluations: int
    seconds: float


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def pareto(
    space: Space,
    objectives: Objectives,
    limits: Limits | None = None,
    *,
    seed: int = 0,
    size: int | None = None,
    evaluations: int | None = None,
    time_s: float | None = None,
    start: Sequence[Arch] = (),
) -> ParetoResult:
    """Find the Pareto front of two or more objectives.

    Args:
        objectives: by name, pairs of a function as in `maximise` and "max" or "min", e.g.
            `{"accuracy": (predictor.predict, "max"), "latency_ms": (table.estimate, "min")}`.
        limits: as in `maximise`.
        seed: the same seed and arguments give the same result (unless `time_s` ends the search).
        size: maximum number of points, spread over the front; by default all that were found.
        evaluations: approximate maximum number of networks to evaluate. A space with fewer networks is searched exhaustively, up to
            20,000.
        time_s: stop after this many seconds with the front found by then.
        start: networks to start from.

    Raises:
        InfeasibleError: no network meets the limits.
        ValueError: fewer than two objectives, a direction that is neither "max" nor "min", a limit that is not a positive
            number, a function that returns NaN or the wrong shape.
        ArchError: a network of `start` lies outside the space.
    """
    began = time.monotonic()
    score, costs_of = _measures(space, objectives)
    if size is not None and size < 2:
        raise ValueError(f"size={size}: it must be at least 2")
    names, bounded = list(objectives), limits_of(space, limits or {})
    problem = SearchProblem(space, score, (*(Limit(cost, math.inf) for cost in costs_of), *bounded))
    goal = _Along(len(costs_of), Front(space.genes([]), np.zeros((0, len(names)))))
    if evaluations is None:
        evaluations = SLOW_EVALUATIONS if problem.takes_archs else FAST_EVALUATIONS
    evaluator, seeds = begin(problem, goal, evaluations, time_s, start, keep=1)
    if seeds is not None:
        _search(evaluator, goal, seeds, np.random.default_rng(seed))
    front = goal.front if size is None else goal.front.thinned(size)
    signs = [1.0 if objectives[name][1] == "max" else -1.0 for name in names]
    numbers = np.concatenate([front.values * signs, problem.costs(front.genes)[:, len(costs_of) :]], 1).tolist()
    columns = names + [limit.measure.name for limit in bounded]
    points = [
        FoundNetwork(arch, values[0], dict(zip(columns, values, strict=True)))
        for arch, values in zip(space.archs(front.genes), numbers, strict=True)
    ]
    points.sort(key=lambda point: point.score)
    return ParetoResult(tuple(points), seeds is None, evaluator.evaluations, time.monotonic() - began)


def _measures(space: Space, objectives: Objectives) -> tuple[Measure, list[Measure]]:
    """The first objective as a measure to maximize, the others as measures to minimize."""
    if len(objectives) < 2:
        raise ValueError(f"{len(objectives)} objectives: a front needs at least 2, for a single one use maximise")
    result: list[Measure] = []
    for name, pair in objectives.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[1] not in ("max", "min"):
            raise ValueError(f"objective {name!r} is {pair!r}: give a pair of a function and 'max' or 'min'")
        measure = measure_of(space, name, pair[0])
        result.append(measure if pair[1] == ("min" if result else "max") else measure.negative())
    return result[0], result[1:]


def _search(evaluator: Evaluator, goal: "_Along", seeds: Genes, rng: np.random.Generator) -> None:
    """Explore, then run local search from targets along the front until `PATIENCE` rounds find nothing."""
    budget, chains = evaluator.budget, chains_of(goal, evaluator.budget)
    others = [limit.bound for limit in evaluator.problem.limits[goal.costs :]]
    explore(evaluator, goal, seeds, rng)
    evaluator.budget, idle = budget, 0
    while not evaluator.spent and idle < PATIENCE:
        before = goal.front
        for target in rng.permutation(goal.targets(chains, rng)):
            if evaluator.spent:
                break
            inner = evaluator.within([*target.tolist(), *others])
            climb(inner, goal.best_within(inner, target[None]))
            evaluator.evaluations = inner.evaluations
        idle = idle + 1 if goal.front is before else 0


@dataclass
class _Along:
    """The goal of a front: each chain has a target (bounds of the costs), and half of them restart from the best within theirs.

    It watches all evaluations. Objectives are the score, then minus the first `costs` costs.
    """

    costs: int
    front: Front
    mixes, evolution, generations = 1, 1 / 8, 200
    chains, per_chain = 64, 2000
    walks, walking = 3, 0.8

    def watch(self, rows: Evaluated) -> None:
        """Add new members to the front."""
        values = np.concatenate([rows.scores[:, None], -rows.costs[:, : self.costs]], 1)
        self.front = self.front.merged(rows.genes, values, ARCHIVE)

    def offspring(self, evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        """Mutants and crossed neighbors of front members, preferring members in sparse regions."""
        columns, front = evaluator.problem.space.columns, self.front
        distance = crowding(front.values)
        pair = rng.integers(len(front), size=(2, POPULATION))
        first = np.where(distance[pair[0]] >= distance[pair[1]], pair[0], pair[1])
        second = np.clip(first + rng.integers(-8, 9, POPULATION), 0, len(front) - 1)
        crossed = cross(columns, front.genes[first], front.genes[second], rng)
        return mutate(columns, np.where(rng.random((POPULATION, 1)) < 0.5, crossed, front.genes[first]), rng, 0.05)

    def starts(self, evaluator: Evaluator, first: Evaluated, chains: int, rng: np.random.Generator) -> tuple[Evaluated, Costs]:
        """Start each chain from the best network within its target."""
        targets = self.targets(chains, rng)
        others = [limit.bound for limit in evaluator.problem.limits[self.costs :]]
        return self.best_within(evaluator, targets), np.concatenate([targets, np.tile(others, (len(targets), 1))], 1)

    def restart(self, evaluator: Evaluator, bounds: Costs, at: Evaluated, prices: Costs) -> Evaluated:
        """Every other chain continues from the best network within its target that any chain found; the others stay."""
        best = self.best_within(evaluator, bounds[:, : self.costs])
        return evaluator(np.where(np.arange(len(at))[:, None] % 2 == 0, best.genes, at.genes))

    def targets(self, n: int, rng: np.random.Generator) -> Costs:
        """Bounds of the costs (n, costs): for one cost, evenly spaced over the front's range; else the costs of front members."""
        costs = -self.front.values[:, 1:]
        if self.costs > 1:
            return costs[rng.permutation(len(costs))[:n]]
        steps = (np.arange(n) + rng.random(n)) / n
        return np.asarray(np.maximum(costs.min(0) + steps[:, None] * np.ptp(costs, 0), costs.min(0)))

    def best_within(self, evaluator: Evaluator, targets: Costs) -> Evaluated:
        """For each target, the front member with the highest score among the members within it."""
        within = (-self.front.values[:, 1:][None] <= targets[:, None] + 1e-12).all(2)
        return evaluator(self.front.genes[np.where(within, self.front.values[:, 0], -np.inf).argmax(1)])
