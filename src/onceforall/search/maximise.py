"""The best network within limits: evolution for the start, priced chains for the way, local search and a proof at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from ..arch import Arch
from ..genes import Genes, cross, mutate, sample
from ..space import Space
from .anneal import anneal
from .climb import climb, two_step_optimum
from .evaluator import Evaluated, Evaluator
from .exact import upper_bound
from .feasible import feasible_row
from .moves import every
from .problem import Floats, Function, Limits, Problem, limits_of, measure

__all__ = ["Finalist", "SearchResult", "maximise"]

POPULATION = 256
CHAINS = 16
EVALUATIONS_PER_CHAIN = 3000  # at least; a chain tries every change of its first network
FAST_EVALUATIONS = 120_000  # about a second with a predictor of 3 × 400 hidden units
EXACT = 1e-6  # of the score: a smaller gap is rounding
SLOW_EVALUATIONS = 8_000  # of functions that take one Arch after the other


@dataclass(frozen=True)
class Finalist:
    """A network that the search liked, with its score and the estimate of each limited measure."""

    arch: Arch
    score: float
    estimates: dict[str, float]


@dataclass(frozen=True)
class SearchResult:
    """What `maximise` found.

    Args:
        finalists: the best different networks that keep the limits, best first.
        gap: what a better network could score more at most: 0 where every network was tried, some 1e-7 where an exact solver found
            nothing better (rounding of the score), more where it ran out of time; None where no bound is known.
        optimal_within: no network that keeps the limits and differs from the best in so many choices scores higher.
        evaluations: networks scored.
        seconds: wall-clock time.
    """

    finalists: tuple[Finalist, ...]
    gap: float | None
    optimal_within: int
    evaluations: int
    seconds: float

    @property
    def best(self) -> Arch:
        return self.finalists[0].arch

    @property
    def score(self) -> float:
        return self.finalists[0].score

    @property
    def estimates(self) -> dict[str, float]:
        return self.finalists[0].estimates

    def __str__(self) -> str:
        """For people: the best network's numbers and the effort."""
        costs = "".join(f", {name} {value:.6g}" for name, value in self.estimates.items())
        return f"score {self.score:.6g}{costs} ({self.evaluations:,} networks scored in {self.seconds:.1f} s)"

    def top(self, k: int) -> tuple[Finalist, ...]:
        """The k best different networks, best first; fewer if fewer were found. Measure them before you choose."""
        return self.finalists[:k]


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]  # batches are small: two threads take twice as long
def maximise(
    space: Space,
    score: Function,
    limits: Limits,
    *,
    seed: int = 0,
    evaluations: int | None = None,
    time_s: float | None = None,
    start: Sequence[Arch] = (),
    finalists: int = 64,
    proof_s: float = 10.0,
) -> SearchResult:
    """The network with the highest score among those that keep every limit.

    Args:
        space: the choices.
        score: maps a gene matrix (n, columns), or a list of n `Arch`, to n numbers. Which one it takes is tried out once.
        limits: by name, an estimate (a function like `score`) and the largest value allowed, e.g.
            `{"latency_ms": (table.estimate, 20.0), "macs": (macs.estimate, 200e6)}`.
        seed: same seed and arguments, same result (unless `time_s` ends the search; `gap` may depend on `proof_s`).
        evaluations: networks scored at most, about; the default takes about a second with a fast score. A space of fewer
            networks is tried out entirely.
        time_s: end after so many seconds; what was found until then is the result.
        start: networks to start from, such as the result for another limit.
        finalists: number of networks that `SearchResult.top` can give.
        proof_s: seconds at most for `SearchResult.gap`, where score and limits are methods of objects that know what they are
            made of (`onceforall.structure`): latency and cost tables, linear and pairwise predictors.

    Raises:
        InfeasibleError: no network keeps the limits; names for each limit the smallest reachable value and who attains it.
        ValueError: a limit that is no positive number, a score or estimate that is NaN or of the wrong shape.
        ArchError: a network of `start` lies outside the space.
    """
    began = time.monotonic()
    problem = Problem(space, measure(space, "score", score), limits_of(space, limits))
    if evaluations is None:
        evaluations = SLOW_EVALUATIONS if problem.takes_archs else FAST_EVALUATIONS
    if evaluations < 1 or finalists < 1:
        raise ValueError(f"evaluations={evaluations}, finalists={finalists}: both must be at least 1")
    deadline = None if time_s is None else began + time_s
    evaluator = Evaluator(problem, evaluations, deadline, keep=max(finalists, 64))
    seeds = np.concatenate([feasible_row(problem), space.genes(start)])
    gap = None
    exhaustive = space.count() <= min(evaluations, 20_000)
    if exhaustive:
        evaluator(every(space), only_feasible=True)
        optimal_within, gap = len(space.columns), 0.0
    else:
        rng = np.random.default_rng(seed)
        optimal_within = _search(evaluator, seeds, rng)
        if bound := upper_bound(problem, reached=_found(evaluator).scores[0], seconds=_left(proof_s, deadline)):
            before = _found(evaluator).scores[0]
            evaluator(bound.genes, only_feasible=True)
            if _found(evaluator).scores[0] > before:
                evaluator.budget += evaluations // 10
                _, optimal_within = two_step_optimum(evaluator, _found(evaluator).best(1), rng=rng)
            gap = max(0.0, bound.value - _found(evaluator).scores[0])
            if gap < EXACT * abs(_found(evaluator).scores[0]):
                optimal_within = len(space.columns)
    found = _found(evaluator).best(finalists)
    names = [limit.measure.name for limit in problem.limits]
    return SearchResult(
        tuple(
            Finalist(arch, float(value), dict(zip(names, costs.tolist(), strict=True)))
            for arch, value, costs in zip(space.archs(found.genes), found.scores, found.costs, strict=True)
        ),
        gap,
        optimal_within,
        evaluator.evaluations,
        time.monotonic() - began,
    )


def _search(evaluator: Evaluator, seeds: Genes, rng: np.random.Generator) -> int:
    """Evolve; let chains walk from there; climb from the best and from where the chains ended; prove the best."""
    budget = evaluator.budget
    first = _first(evaluator, seeds, rng)
    population = _evolve(evaluator, first, rng).best(4 * CHAINS)
    chains = int(np.clip(budget // EVALUATIONS_PER_CHAIN, 1, CHAINS))
    start = _of_every_resolution(population.joined(first), chains, rng)
    bounds = np.tile([limit.bound for limit in evaluator.problem.limits], (len(start), 1))
    evaluator.budget = int(budget * 0.9)  # the rest is for the proof
    ends = anneal(evaluator, start, bounds, evaluations=int(budget * 0.85), rng=rng, restart=partial(_better_half, bounds))
    for from_here in (_found(evaluator).best(1), *(ends.rows(np.array([i])) for i in range(len(ends)))):
        if not evaluator.spent:
            climb(evaluator, from_here, rng=rng)
    evaluator.budget = budget
    _, proof = two_step_optimum(evaluator, _found(evaluator).best(1), rng=rng)
    return proof


def _of_every_resolution(rows: Evaluated, n: int, rng: np.random.Generator) -> Evaluated:
    """n of the rows, half of them as they come, half taking turns among the resolutions, the better ones first."""
    order = np.argsort(-rows.scores, kind="stable")
    of_each = [order[rows.genes[order, 0] == resolution] for resolution in np.unique(rows.genes[:, 0])]
    turns = [int(own[i]) for i in range(n) for own in of_each if i < len(own)][: n // 2]
    rest = rng.permutation(order[: 4 * n])[: n - len(turns)].tolist()
    return rows.rows(np.array([*turns, *rest]))


def _better_half(bounds: Floats, at: Evaluated, prices: Floats) -> Evaluated:
    """The worse half of the chains goes on from where the better half is."""
    merit = at.scores - (prices * np.maximum(at.costs - bounds, 0)).sum(1)
    order, half = np.argsort(-merit, kind="stable"), len(at) // 2
    kept = np.arange(len(at))
    kept[order[len(at) - half :]] = order[:half]
    return at.rows(kept)


def _left(seconds: float, deadline: float | None) -> float:
    return seconds if deadline is None else min(seconds, deadline - time.monotonic())


def _first(evaluator: Evaluator, seeds: Genes, rng: np.random.Generator) -> Evaluated:
    """Random networks, each mixed with one that keeps the limits in a random proportion, so that many keep them."""
    space = evaluator.problem.space
    rows = sample(space.columns, rng, 4 * POPULATION)
    small = seeds[rng.integers(len(seeds), size=len(rows))]
    for _ in range(4):
        rows = np.concatenate([rows, cross(space.columns, rows[-4 * POPULATION :], small, rng)])
    most = max(1, min(len(rows), evaluator.budget // 8))
    return evaluator(np.concatenate([seeds, rng.permutation(rows)[:most]]), only_feasible=True).best(POPULATION)


def _evolve(evaluator: Evaluator, population: Evaluated, rng: np.random.Generator) -> Evaluated:
    for _ in range(24):
        if evaluator.evaluations > evaluator.budget // 16 or evaluator.spent:
            break
        children = _offspring(evaluator, population.best(POPULATION // 4), rng, POPULATION, 0.06)
        population = population.joined(children).best(POPULATION)
    return population


def _offspring(evaluator: Evaluator, parents: Evaluated, rng: np.random.Generator, n: int, probability: float) -> Evaluated:
    """Children by mutation and by crossover with a lighter mutation; those that break a limit are not scored."""
    columns = evaluator.problem.space.columns
    first, second = rng.integers(len(parents), size=(2, 2 * n))
    mutants = mutate(columns, parents.genes[first[:n]], rng, probability)
    crossed = cross(columns, parents.genes[first[n:]], parents.genes[second[n:]], rng)
    crossed = mutate(columns, crossed, rng, probability / 3)
    return evaluator(np.concatenate([mutants, crossed]), only_feasible=True)


def _found(evaluator: Evaluator) -> Evaluated:
    if evaluator.found is None:
        raise AssertionError("the search holds a feasible network before it starts")
    return evaluator.found
