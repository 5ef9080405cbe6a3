"""Active learning: choose sub-networks to measure next that are near the predicted front, uncertain, and diverse."""

import math
import sys
from collections.abc import Sequence

import numpy as np

from ..arch import Arch
from ..errors import SpaceError
from ..genes import Genes, cross, mutate
from ..search.engine import evolve
from ..search.evaluator import Evaluated, Evaluator
from ..search.moves import keys
from ..search.problem import Limit, Measure, SearchProblem
from .model import Floats
from .predictor import AccuracyPredictor
from .sampling import Cost

OPTIMISM = 2.0  # standard deviations added to a prediction; 0 and 1 found worse networks (benchmarks/predictor.py)
GENERATIONS = 12
PER_STEP = 8  # parents at each step of the cost; walks along the front, as in `pareto`, would leave too few networks at each
STEPS = 64  # maximum number of cost steps in the evolution
CHANGED = 0.08  # share of choices that are redrawn
UNLIKE = 3  # minimum number of choices in which networks of one batch differ, if possible

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


def suggest(predictor: AccuracyPredictor, cost: Cost, n: int, *, known: Sequence[Arch] = (), seed: int = 0) -> list[Arch]:
    """Choose n new networks to measure next.

    At equal steps of log(cost), evolution finds the networks with the highest prediction plus two standard deviations (of the
    prediction, not of a measurement). Each chosen network differs from the ones chosen before.

    Args:
        predictor: fitted to the measurements so far.
        cost: a cost such as MACs.
        known: networks that were measured already.
        seed: the same seed and arguments give the same networks.

    Raises:
        SpaceError: n is below 1 or above the number of unmeasured networks.
    """
    space, rng = predictor.space, np.random.default_rng([seed, 7])
    left = space.count() - len(set(known))
    if not 1 <= n <= left:
        raise SpaceError(f"{n} networks to measure next: {left} are not measured yet, give a number from 1 to {left}")
    taken, ends = space.genes(known), space.genes([space.smallest(), space.largest()])
    low, high = np.log(cost.estimate(ends))

    def optimistic(genes: Genes) -> Floats:
        mean, std = predictor.score_with_error(genes)
        return np.asarray(mean + OPTIMISM * std)

    def step_of(rows: Evaluated, steps: int) -> Ints:
        at = (np.log(rows.costs[:, 0]) - low) / max(high - low, 1e-9) * steps
        return np.asarray(np.clip(at, 0, steps - 1), np.int64)

    score, unlimited = Measure("score", optimistic, False, space), Limit(Measure("cost", cost.estimate, False, space), math.inf)
    evaluator = Evaluator(SearchProblem(space, score, (unlimited,)), sys.maxsize, keep=1)
    seen = evaluator.found

    def watch(rows: Evaluated) -> None:
        nonlocal seen
        seen = seen.joined(rows).distinct()

    def offspring(evaluator: Evaluator, rng: np.random.Generator) -> Genes:
        step = step_of(seen, min(max(n // 2, 1), STEPS))
        order = np.lexsort((-seen.scores, step))
        place = np.arange(len(order)) - np.searchsorted(step[order], step[order])  # within the step
        parents = seen.genes[order[place < PER_STEP]]
        mothers, fathers = parents[rng.integers(len(parents), size=(2, len(parents)))]
        crossed = mutate(space.columns, cross(space.columns, mothers, fathers, rng), rng, CHANGED / 2)
        return np.concatenate([mutate(space.columns, np.repeat(parents, 3, 0), rng, CHANGED), crossed])

    evaluator.watch = watch
    rows = np.concatenate([ends, taken, space.sample_genes(rng, 16 * n)])
    evolve(evaluator, offspring, rows, rng, evaluations=sys.maxsize, generations=GENERATIONS)
    while (new := ~np.isin(keys(seen.genes), keys(taken))).sum() < n:  # a tiny space, or one that is almost completely measured
        evaluator(space.sample_genes(rng, 4 * n))
    candidates = seen.rows(new)
    return space.archs(candidates.genes[_batch(candidates, step_of(candidates, n), n)])


def _batch(rows: Evaluated, steps: Ints, n: int) -> list[int]:
    """Take the best of each step in turn, then the second best, …; skip those similar to chosen ones while there are others."""
    order = np.argsort(-rows.scores, kind="stable")
    queues = [order[steps[order] == step].tolist() for step in np.unique(steps)]
    chosen: list[int] = []
    unlike = UNLIKE
    while len(chosen) < n:
        before = len(chosen)
        for queue in queues:
            for i in queue:
                if len(chosen) < n and (not chosen or (rows.genes[chosen] != rows.genes[i]).sum(1).min() >= unlike):
                    chosen.append(i)
                    queue.remove(i)
                    break
        if len(chosen) == before:
            unlike -= 1
    return chosen
