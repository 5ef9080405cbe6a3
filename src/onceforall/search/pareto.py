"""The trade-off between several objectives: evolution of the whole front, then priced chains and local search along it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from ..arch import Arch
from ..genes import Genes, cross, mutate, sample
from ..space import Space
from .anneal import anneal
from .climb import climb
from .evaluator import Evaluated, Evaluator
from .feasible import feasible_row
from .front import Front, Values, crowding
from .moves import every
from .problem import Function, Limit, Limits, Measure, Problem, limits_of, measure

__all__ = ["Objectives", "ParetoPoint", "ParetoResult", "pareto"]

Objectives = Mapping[str, tuple[Function, Literal["max", "min"]]]

FAST_EVALUATIONS = 900_000
SLOW_EVALUATIONS = 20_000  # of functions that take one Arch after the other
POPULATION = 512
CHAINS = 64
WALKS = 3
EVALUATIONS_PER_CHAIN = 2000  # at least
PATIENCE = 3  # rounds of local search that leave the front as it is, after which it is taken to be found
ARCHIVE = 3000  # members of the front kept on the way


@dataclass(frozen=True)
class ParetoPoint:
    """A network of the front with its objectives and the estimates of its limits."""

    arch: Arch
    values: dict[str, float]


@dataclass(frozen=True)
class ParetoResult:
    """What `pareto` found: networks of which none is better than another in every objective.

    Args:
        points: sorted by the first objective, ascending; no two with equal objectives.
        exact: whether every network of the space was tried.
        evaluations: networks evaluated.
        seconds: wall-clock time.
    """

    points: tuple[ParetoPoint, ...]
    exact: bool
    evaluations: int
    seconds: float


@dataclass
class _Archive:
    """Collects everything evaluated. Objectives: the score, then minus the first `costs` costs."""

    costs: int
    front: Front

    def __call__(self, rows: Evaluated) -> None:
        values = np.concatenate([rows.scores[:, None], -rows.costs[:, : self.costs]], 1)
        self.front = self.front.merged(rows.genes, values, ARCHIVE)


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
    """The front of two or more objectives.

    Args:
        space: the choices.
        objectives: by name, a function as in `maximise` and "max" or "min", e.g.
            `{"accuracy": (predictor.predict, "max"), "latency_ms": (table.estimate, "min")}`.
        limits: as in `maximise`.
        seed: same seed and arguments, same result (unless `time_s` ends the search).
        size: points of the result at most, spread over the front; by default all that were found.
        evaluations: networks evaluated at most, about. A space of fewer networks is tried out entirely.
        time_s: end after so many seconds; what was found until then is the result.
        start: networks to start from.

    Raises:
        InfeasibleError: no network keeps the limits.
        ValueError: fewer than two objectives, a direction that is neither "max" nor "min", a limit that is no positive
            number, a function that gives NaN or the wrong shape.
        ArchError: a network of `start` lies outside the space.
    """
    began = time.monotonic()
    score, costs_of = _measures(space, objectives)
    bounded = limits_of(space, limits or {})
    names = list(objectives)
    free = tuple(Limit(cost, math.inf) for cost in costs_of)
    problem = Problem(space, score, free + bounded)
    if evaluations is None:
        evaluations = SLOW_EVALUATIONS if problem.takes_archs else FAST_EVALUATIONS
    if evaluations < 1 or (size is not None and size < 2):
        raise ValueError(f"evaluations={evaluations}, size={size}: evaluations must be at least 1, size at least 2")
    seeds = np.concatenate([feasible_row(Problem(space, score, bounded)), space.genes(start)])
    archive = _Archive(len(free), Front(seeds[:0], np.zeros((0, len(names)))))
    evaluator = Evaluator(problem, evaluations, None if time_s is None else began + time_s, keep=1, watch=archive)
    exact = space.count() <= min(evaluations, 20_000)
    if exact:
        evaluator(every(space), only_feasible=True)
    else:
        _search(evaluator, archive, seeds, np.random.default_rng(seed))
    front = archive.front if size is None else archive.front.thinned(size)
    signs = [1.0 if objectives[name][1] == "max" else -1.0 for name in names]
    values, costs = front.values * signs, problem.costs(front.genes)[:, len(free) :]
    columns = names + [limit.measure.name for limit in bounded]
    points = [
        ParetoPoint(arch, dict(zip(columns, numbers.tolist(), strict=True)))
        for arch, numbers in zip(space.archs(front.genes), np.concatenate([values, costs], 1), strict=True)
    ]
    points.sort(key=lambda point: point.values[names[0]])
    return ParetoResult(tuple(points), exact, evaluator.evaluations, time.monotonic() - began)


def _measures(space: Space, objectives: Objectives) -> tuple[Measure, list[Measure]]:
    """The first objective as a measure of which more is better, the others as measures of which less is better."""
    if len(objectives) < 2:
        raise ValueError(f"{len(objectives)} objectives: a front needs at least 2; for one use maximise")
    result: list[Measure] = []
    for name, pair in objectives.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[1] not in ("max", "min"):
            raise ValueError(f"objective {name!r} is {pair!r}: give a pair of a function and 'max' or 'min'")
        found = measure(space, name, pair[0])
        result.append(found if pair[1] == ("min" if result else "max") else _negative(found))
    return result[0], result[1:]


def _negative(measured: Measure) -> Measure:
    return Measure(measured.name, lambda genes: -measured(genes), False, measured.space)


def _search(evaluator: Evaluator, archive: _Archive, seeds: Genes, rng: np.random.Generator) -> None:
    """An eighth of the budget evolves the front; chains with a target each improve it; local search from each target ends it."""
    columns = evaluator.problem.space.columns
    rows = sample(columns, rng, 2 * POPULATION)
    near = cross(columns, rows, seeds[rng.integers(len(seeds), size=len(rows))], rng)
    most = max(1, evaluator.budget // 8)
    evaluator(np.concatenate([seeds, rng.permutation(np.concatenate([rows, near]))[:most]]), only_feasible=True)
    budget, generations = evaluator.budget, 0
    while not evaluator.spent and evaluator.evaluations < budget // 8 and generations < 200:
        evaluator(_offspring(evaluator, archive.front, POPULATION, rng), only_feasible=True)
        generations += 1
    chains = int(np.clip(budget // EVALUATIONS_PER_CHAIN, 1, CHAINS))
    others = [limit.bound for limit in evaluator.problem.limits[archive.costs :]]
    evaluator.budget = int(budget * 0.9)
    for _ in range(WALKS):
        targets = _targets(archive.front, chains, rng)
        bounds = np.concatenate([targets, np.tile(others, (len(targets), 1))], 1)
        again = partial(_restart, evaluator, archive, targets)
        anneal(
            evaluator,
            _best_within(evaluator, archive, targets),
            bounds,
            evaluations=int(budget * 0.8 / WALKS),
            rng=rng,
            restart=again,
        )
    evaluator.budget = budget
    rounds = idle = 0
    while not evaluator.spent and idle < PATIENCE:
        before = archive.front
        for target in rng.permutation(targets):
            if evaluator.spent:
                break
            inner = evaluator.within([*target.tolist(), *others])
            climb(inner, _best_within(inner, archive, target[None]), rng=rng)
            evaluator.evaluations = inner.evaluations
        targets = _targets(archive.front, chains, rng)
        rounds += 1
        idle = idle + 1 if archive.front is before else 0


def _offspring(evaluator: Evaluator, front: Front, n: int, rng: np.random.Generator) -> Genes:
    """Mutants and crossed neighbours of front members, preferring the lonely ones."""
    columns = evaluator.problem.space.columns
    distance = crowding(front.values)
    pair = rng.integers(len(front), size=(2, n))
    first = np.where(distance[pair[0]] >= distance[pair[1]], pair[0], pair[1])
    second = np.clip(first + rng.integers(-8, 9, n), 0, len(front) - 1)
    crossed = cross(columns, front.genes[first], front.genes[second], rng)
    return mutate(columns, np.where(rng.random((n, 1)) < 0.5, crossed, front.genes[first]), rng, 0.05)


def _targets(front: Front, n: int, rng: np.random.Generator) -> Values:
    """Upper bounds of the costs (n, costs): evenly spaced over the front's range if there is one cost, else front members."""
    costs = -front.values[:, 1:]
    if costs.shape[1] == 1:
        steps = (np.arange(n) + rng.random(n)) / n
        targets: Values = costs.min(0) + steps[:, None] * np.ptp(costs, 0)
        targets = np.maximum(targets, costs.min(0))
        return targets
    return costs[rng.permutation(len(costs))[:n]]


def _restart(evaluator: Evaluator, archive: _Archive, targets: Values, at: Evaluated, prices: Values) -> Evaluated:
    """Every other chain goes on from the best that any has found within its target; the rest keep to ways of their own."""
    best = _best_within(evaluator, archive, targets)
    genes = np.where(np.arange(len(at))[:, None] % 2 == 0, best.genes, at.genes)
    return evaluator(genes)


def _best_within(evaluator: Evaluator, archive: _Archive, targets: Values) -> Evaluated:
    """For each target the front's member of the highest score whose costs are within it."""
    costs = -archive.front.values[:, 1:]
    inside = (costs[None] <= targets[:, None] + 1e-12).all(2)
    best = np.where(inside, archive.front.values[:, 0], -np.inf).argmax(1)
    return evaluator(archive.front.genes[best])
