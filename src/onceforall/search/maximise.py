"""The best network within limits: evolution for the start, local search to the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arch import Arch
from ..genes import Genes, cross, mutate, sample
from ..space import Space
from .climb import climb, two_step_optimum
from .evaluator import Evaluated, Evaluator
from .feasible import feasible_row
from .moves import every
from .problem import Function, Limits, Problem, limits_of, measure

__all__ = ["Finalist", "SearchResult", "maximise"]

POPULATION = 256
ELITE = 8
FAST_EVALUATIONS = 80_000  # about a second with a predictor of 3 × 400 hidden units
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
        gap: what a better network could score more at most, 0 where every network was tried; None where no bound is known.
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
) -> SearchResult:
    """The network with the highest score among those that keep every limit.

    Args:
        space: the choices.
        score: maps a gene matrix (n, columns), or a list of n `Arch`, to n numbers. Which one it takes is tried out once.
        limits: by name, an estimate (a function like `score`) and the largest value allowed, e.g.
            `{"latency_ms": (table.estimate, 20.0), "macs": (macs.estimate, 200e6)}`.
        seed: same seed and arguments, same result (unless `time_s` ends the search).
        evaluations: networks scored at most, about; the default takes about a second with a fast score. A space of fewer
            networks is tried out entirely.
        time_s: end after so many seconds; what was found until then is the result.
        start: networks to start from, such as the result for another limit.
        finalists: number of networks that `SearchResult.top` can give.

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
    exhaustive = space.count() <= min(evaluations, 20_000)
    if exhaustive:
        evaluator(every(space), only_feasible=True)
        optimal_within = len(space.columns)
    else:
        optimal_within = _search(evaluator, seeds, np.random.default_rng(seed))
    found = _found(evaluator).best(finalists)
    names = [limit.measure.name for limit in problem.limits]
    return SearchResult(
        tuple(
            Finalist(arch, float(value), dict(zip(names, costs.tolist(), strict=True)))
            for arch, value, costs in zip(space.archs(found.genes), found.scores, found.costs, strict=True)
        ),
        0.0 if exhaustive else None,
        optimal_within,
        evaluator.evaluations,
        time.monotonic() - began,
    )


def _search(evaluator: Evaluator, seeds: Genes, rng: np.random.Generator) -> int:
    """Evolve; climb from the best network of every resolution; cross and climb again; prove the best."""
    population = _evolve(evaluator, _first(evaluator, seeds, rng), rng)
    tops = population.rows(np.arange(0))
    for resolution in np.unique(population.genes[:, 0]):
        best = population.rows(population.genes[:, 0] == resolution).best(1)
        tops = tops.joined(climb(evaluator, best, rng=rng))
    budget = evaluator.budget
    evaluator.budget = int(budget * 0.85)  # the rest is for the proof
    for _ in range(16 + budget // 400):  # ends also where all there is to find is known
        if evaluator.spent:
            break
        tops = tops.joined(climb(evaluator, _kick(evaluator, tops, rng), rng=rng)).best(64)
    evaluator.budget = budget
    _, proof = two_step_optimum(evaluator, _found(evaluator).best(1), rng=rng)
    return proof


def _first(evaluator: Evaluator, seeds: Genes, rng: np.random.Generator) -> Evaluated:
    """Random networks, each mixed with one that keeps the limits in a random proportion, so that many keep them."""
    space = evaluator.problem.space
    rows = sample(space.columns, rng, 4 * POPULATION)
    small = seeds[rng.integers(len(seeds), size=len(rows))]
    for _ in range(4):
        rows = np.concatenate([rows, cross(space.columns, rows[-4 * POPULATION :], small, rng)])
    return evaluator(np.concatenate([seeds, rows]), only_feasible=True).best(POPULATION)


def _evolve(evaluator: Evaluator, population: Evaluated, rng: np.random.Generator) -> Evaluated:
    for _ in range(24):
        if evaluator.evaluations > evaluator.budget // 8 or evaluator.spent:
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


def _kick(evaluator: Evaluator, tops: Evaluated, rng: np.random.Generator) -> Evaluated:
    """One network to climb from, which may break the limits: one of the best at another resolution, or a child of two."""
    columns = evaluator.problem.space.columns
    elite = _elite(tops)
    first, second = rng.integers(len(elite), size=(2, 1))
    genes = elite.genes[first]
    if rng.random() < 0.25:
        genes = genes.copy()
        genes[:, 0] = np.clip(genes[:, 0] + rng.choice([-1, 1]), 0, len(columns[0].choices) - 1)
        return evaluator(mutate(columns, genes, rng, 0.03))
    child = cross(columns, genes, elite.genes[second], rng)
    return evaluator(mutate(columns, child, rng, rng.choice([0.05, 0.1, 0.2])))


def _elite(tops: Evaluated) -> Evaluated:
    """The best of all, and the best of each resolution that is not far behind."""
    best = tops.best(ELITE)
    for resolution in np.unique(tops.genes[:, 0]):
        best = best.joined(tops.rows(tops.genes[:, 0] == resolution).best(2))
    return best.best(2 * ELITE)


def _found(evaluator: Evaluator) -> Evaluated:
    if evaluator.found is None:
        raise AssertionError("the search holds a feasible network before it starts")
    return evaluator.found
