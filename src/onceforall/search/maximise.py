"""Find the best network within limits: the shared search, local search from the ends of its chains, then a proof."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from ..arch import Arch
from ..genes import Genes, cross, mutate
from ..space import Space
from .climb import climb, two_step_optimum
from .engine import begin, explore
from .evaluator import Evaluated, Evaluator
from .exact import upper_bound
from .problem import Costs, FoundNetwork, Function, Limits, SearchProblem, limits_of, measure_of

FAST_EVALUATIONS = 120_000  # about a second with a predictor of 3 × 400 hidden units
SLOW_EVALUATIONS = 8_000  # for functions that take one Arch at a time
POPULATION = 256
EXACT = 1e-6  # relative to the score: a smaller gap is rounding


@dataclass(frozen=True)
class SearchResult:
    """Result of `maximise`.

    Args:
        finalists: the best distinct networks that meet the limits, best first.
        gap: bound on how much more any network can score: 0 if every network was tried, about 1e-7 (rounding of the score) if an
            exact solver found nothing better, more if it ran out of time; None if no bound is known.
        optimal_within: no network within the limits that differs from the best in at most this many choices scores higher.
    """

    finalists: tuple[FoundNetwork, ...]
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
        return self.finalists[0].values

    def __str__(self) -> str:
        """Readable text: the best network's numbers and the effort."""
        costs = "".join(f", {name} {value:.6g}" for name, value in self.estimates.items())
        return f"score {self.score:.6g}{costs} ({self.evaluations:,} networks scored in {self.seconds:.1f} s)"

    def top(self, k: int) -> tuple[FoundNetwork, ...]:
        """The k best distinct networks, best first; fewer if fewer were found. Measure them before you choose."""
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
    """Find the network with the highest score among those that meet every limit.

    Args:
        score: maps a gene matrix (n, columns) or a list of n `Arch` to n numbers, or one `Arch` to a number; a trial call shows
            which of these it takes.
        limits: by name, pairs of an estimate (a function like `score`) and the largest value allowed, e.g.
            `{"latency_ms": (table.estimate, 20.0), "macs": (macs.estimate, 200e6)}`.
        seed: the same seed and arguments give the same result (unless `time_s` ends the search; `gap` may depend on `proof_s`).
        evaluations: approximate number of networks to score. The local search at the end tries all changes of one choice together,
            and the proof adds some, so numbers below a few hundred are exceeded. The default takes about a second with a fast
            score. A space with fewer networks is searched exhaustively, up to 20,000.
        time_s: stop after this many seconds with the best found by then.
        start: networks to start from, such as the result for another limit.
        finalists: maximum number of networks that `SearchResult.top` can return.
        proof_s: maximum seconds for `SearchResult.gap`, where score and limits are methods of objects that declare their structure
            (`onceforall.structure`): latency and cost tables, linear and pairwise predictors.

    Raises:
        InfeasibleError: no network meets the limits; states each limit's smallest reachable value and a network that attains it.
        ValueError: a limit that is not a positive number, a score or estimate that is NaN or of the wrong shape.
        ArchError: a network of `start` lies outside the space.
    """
    began = time.monotonic()
    if finalists < 1:
        raise ValueError(f"finalists={finalists}: it must be at least 1")
    problem = SearchProblem(space, measure_of(space, "score", score), limits_of(space, limits))
    if evaluations is None:
        evaluations = SLOW_EVALUATIONS if problem.takes_archs else FAST_EVALUATIONS
    evaluator, seeds = begin(problem, _Best(), evaluations, time_s, start, keep=max(finalists, POPULATION))
    gap: float | None = 0.0
    optimal_within = len(space.columns)
    if seeds is not None:
        gap, optimal_within = _search(evaluator, seeds, np.random.default_rng(seed), proof_s)
    best, names = evaluator.found.best(finalists), [limit.measure.name for limit in problem.limits]
    numbers = zip(space.archs(best.genes), best.scores.tolist(), best.costs.tolist(), strict=True)
    networks = tuple(FoundNetwork(arch, value, dict(zip(names, costs, strict=True))) for arch, value, costs in numbers)
    return SearchResult(networks, gap, optimal_within, evaluator.evaluations, time.monotonic() - began)


def _search(evaluator: Evaluator, seeds: Genes, rng: np.random.Generator, proof_s: float) -> tuple[float | None, int]:
    """Explore, climb from the best network and from the ends of the chains, then prove; returns gap and `optimal_within`."""
    budget, space = evaluator.budget, evaluator.problem.space
    ends = explore(evaluator, _Best(), seeds, rng)
    for from_here in (evaluator.found, *(ends.rows(np.array([i])) for i in range(len(ends)))):
        if not evaluator.spent:
            climb(evaluator, from_here)
    evaluator.budget = budget
    _, optimal_within = two_step_optimum(evaluator, evaluator.found)
    before = evaluator.found.scores[0]
    seconds = proof_s if evaluator.deadline is None else min(proof_s, evaluator.deadline - time.monotonic())
    bounded = upper_bound(evaluator.problem, reached=before, seconds=seconds)
    if bounded is None:
        return None, optimal_within
    bound, candidates = bounded
    evaluator(candidates, only_feasible=True)
    if evaluator.found.scores[0] > before:
        evaluator.budget += budget // 10
        _, optimal_within = two_step_optimum(evaluator, evaluator.found)
    gap = max(0.0, bound - evaluator.found.scores[0])
    return gap, len(space.columns) if gap < EXACT * abs(evaluator.found.scores[0]) else optimal_within


class _Best:
    """The goal of one best network: the best are parents, and the worse half of the chains restarts from the better half."""

    mixes, evolution, generations = 4, 1 / 16, 24
    chains, per_chain = 16, 3000
    walks, walking = 1, 0.85

    def watch(self, rows: Evaluated) -> None:
        """Do nothing: the evaluator keeps the best."""

    def offspring(self, evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        """Children by mutation, and by crossover with a lighter mutation."""
        columns, parents = evaluator.problem.space.columns, evaluator.found.genes[: POPULATION // 4]
        first, second = rng.integers(len(parents), size=(2, 2 * POPULATION))
        mutants = mutate(columns, parents[first[:POPULATION]], rng, 0.06)
        crossed = cross(columns, parents[first[POPULATION:]], parents[second[POPULATION:]], rng)
        return np.concatenate([mutants, mutate(columns, crossed, rng, 0.02)])

    def starts(self, evaluator: Evaluator, first: Evaluated, chains: int, rng: np.random.Generator) -> tuple[Evaluated, Costs]:
        """Good networks, half by score and half alternating between resolutions; all chains have the same bounds."""
        rows = evaluator.found.best(4 * self.chains).joined(first)
        order = np.argsort(-rows.scores, kind="stable")
        by_resolution = [order[rows.genes[order, 0] == resolution] for resolution in np.unique(rows.genes[:, 0])]
        turns = [int(best[i]) for i in range(chains) for best in by_resolution if i < len(best)][: chains // 2]
        rest = rng.permutation(order[: 4 * chains])[: chains - len(turns)].tolist()
        start = rows.rows(np.array([*turns, *rest]))
        return start, np.tile([limit.bound for limit in evaluator.problem.limits], (len(start), 1))

    def restart(self, evaluator: Evaluator, bounds: Costs, at: Evaluated, prices: Costs) -> Evaluated:
        """Move the worse half to the better half's networks, by score minus the price of violated limits."""
        merit = at.scores - (prices * np.maximum(at.costs - bounds, 0)).sum(1)
        order, half = np.argsort(-merit, kind="stable"), len(at) // 2
        kept = np.arange(len(at))
        kept[order[len(at) - half :]] = order[:half]
        return at.rows(kept)
