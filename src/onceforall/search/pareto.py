"""The trade-off between several objectives: evolution of the whole front, then local search along it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arch import Arch
from ..genes import Genes, cross, mutate, sample
from ..space import Space
from .climb import climb
from .evaluator import Evaluated, Evaluator
from .feasible import feasible_row
from .front import Front, Values, crowding
from .moves import every
from .problem import Function, Limit, Limits, Measure, Problem, limits_of, measure

__all__ = ["ParetoPoint", "ParetoResult", "pareto"]

Objectives = Mapping[str, tuple[Function, Literal["max", "min"]]]

FAST_EVALUATIONS = 200_000
SLOW_EVALUATIONS = 20_000  # of functions that take one Arch after the other
POPULATION = 512
TARGETS = 48  # places of the front that local search improves
PATIENCE = 10  # rounds of local search that leave the front as it is, after which it is taken to be found
ARCHIVE = 1000  # members of the front kept on the way


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


def pareto(
    space: Space,
    objectives: Objectives,
    limits: Limits | None = None,
    *,
    seed: int = 0,
    size: int = 100,
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
        size: points of the result at most, spread over the front.
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
    measures = _measures(space, objectives)
    bounded = limits_of(space, limits or {})
    names = list(objectives)
    free = tuple(Limit(_negative(m), math.inf) for m in measures[1:])
    problem = Problem(space, measures[0], free + bounded)
    if evaluations is None:
        evaluations = SLOW_EVALUATIONS if any(m.takes_archs for m in measures) or problem.takes_archs else FAST_EVALUATIONS
    if evaluations < 1 or size < 2:
        raise ValueError(f"evaluations={evaluations}, size={size}: evaluations must be at least 1, size at least 2")
    seeds = np.concatenate([feasible_row(Problem(space, measures[0], bounded)), space.genes(start)])
    archive = _Archive(len(free), Front(seeds[:0], np.zeros((0, len(names)))))
    evaluator = Evaluator(problem, evaluations, None if time_s is None else began + time_s, keep=1, watch=archive)
    exact = space.count() <= min(evaluations, 20_000)
    if exact:
        evaluator(every(space), only_feasible=True)
    else:
        _search(evaluator, archive, seeds, np.random.default_rng(seed))
    front = archive.front.thinned(size)
    signs = [1.0 if objectives[name][1] == "max" else -1.0 for name in names]
    values, costs = front.values * signs, problem.costs(front.genes)[:, len(free) :]
    columns = names + [limit.measure.name for limit in bounded]
    points = [
        ParetoPoint(arch, dict(zip(columns, numbers.tolist(), strict=True)))
        for arch, numbers in zip(space.archs(front.genes), np.concatenate([values, costs], 1), strict=True)
    ]
    points.sort(key=lambda point: point.values[names[0]])
    return ParetoResult(tuple(points), exact, evaluator.evaluations, time.monotonic() - began)


def _measures(space: Space, objectives: Objectives) -> list[Measure]:
    """The objectives as measures of which more is better."""
    if len(objectives) < 2:
        raise ValueError(f"{len(objectives)} objectives: a front needs at least 2; for one use maximise")
    result = []
    for name, pair in objectives.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[1] not in ("max", "min"):
            raise ValueError(f"objective {name!r} is {pair!r}: give a pair of a function and 'max' or 'min'")
        found = measure(space, name, pair[0])
        result.append(found if pair[1] == "max" else _negative(found))
    return result


def _negative(measured: Measure) -> Measure:
    return Measure(measured.name, lambda genes: -measured(genes), False, measured.space)


def _search(evaluator: Evaluator, archive: _Archive, seeds: Genes, rng: np.random.Generator) -> None:
    """A third of the budget evolves the front, the rest improves it place by place."""
    columns = evaluator.problem.space.columns
    rows = sample(columns, rng, 2 * POPULATION)
    near = cross(columns, rows, seeds[rng.integers(len(seeds), size=len(rows))], rng)
    evaluator(np.concatenate([seeds, rows, near]), only_feasible=True)
    budget, generations = evaluator.budget, 0
    while not evaluator.spent and evaluator.evaluations < budget // 3 and generations < 400:
        evaluator(_offspring(evaluator, archive.front, POPULATION, rng), only_feasible=True)
        generations += 1
    rounds = idle = 0
    while not evaluator.spent and idle < PATIENCE:
        before = archive.front
        for bounds in _targets(archive.front, rng):
            if evaluator.spent:
                break
            _improve(evaluator, archive, bounds, rng, kick=rounds > 0)
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


def _targets(front: Front, rng: np.random.Generator) -> Values:
    """Upper bounds of the costs (n, costs): evenly spaced over the front's range if there is one cost, else front members."""
    costs = -front.values[:, 1:]
    if costs.shape[1] == 1:
        steps = (np.arange(TARGETS) + rng.random(TARGETS)) / (TARGETS - 1)
        return rng.permutation(costs.min(0) + steps[:, None] * np.ptp(costs, 0))
    return costs[rng.permutation(len(costs))[:TARGETS]]


def _improve(
    evaluator: Evaluator,
    archive: _Archive,
    bounds: np.ndarray[tuple[int], np.dtype[np.float64]],
    rng: np.random.Generator,
    *,
    kick: bool,
) -> None:
    """Climb in the first objective within bounds on the others, from the front's best there or from a kicked one."""
    limits = evaluator.problem.limits
    inner = evaluator.within([*bounds.tolist(), *(limit.bound for limit in limits[len(bounds) :])])
    inside = np.flatnonzero((-archive.front.values[:, 1:] <= bounds).all(1))
    if not len(inside):
        return
    at = int(inside[archive.front.values[inside, 0].argmax()])
    start = archive.front.genes[at : at + 1]
    if kick:
        columns = evaluator.problem.space.columns
        other = int(np.clip(at + rng.integers(-16, 17), 0, len(archive.front) - 1))
        start = mutate(columns, cross(columns, start, archive.front.genes[other : other + 1], rng), rng, rng.choice([0.05, 0.1]))
    climb(inner, inner(start), rng=rng)
    evaluator.evaluations = inner.evaluations
