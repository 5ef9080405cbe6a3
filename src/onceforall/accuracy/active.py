"""Which sub-networks to measure next: near the front of predicted accuracy against cost, uncertain, and unlike each other."""

from collections.abc import Sequence

import numpy as np

from ..arch import Arch
from ..errors import SpaceError
from ..genes import Genes, canonical, cross, mutate, sample
from .model import Floats
from .predictor import AccuracyPredictor
from .sampling import Cost

__all__ = ["suggest"]

OPTIMISM = 2.0  # standard deviations added to a prediction; 0 and 1 found worse networks, benchmarks/predictor.py
ROUNDS = 12  # of evolution
PER_STEP = 8  # networks kept at each step of the cost
STEPS = 64  # most steps of the cost in the evolution
CHANGED = 0.08  # share of choices that are redrawn
UNLIKE = 3  # choices in which networks of one batch differ at least, where there are such


def suggest(predictor: AccuracyPredictor, cost: Cost, n: int, *, known: Sequence[Arch] = (), seed: int = 0) -> list[Arch]:
    """n networks to measure next, none of them known.

    At equal steps of the logarithm of the cost, the network with the highest prediction plus standard deviation (of the prediction,
    not of a measurement), found by evolution; each unlike those before it.

    Args:
        predictor: fitted to what was measured so far.
        cost: such as MACs.
        n: networks.
        known: networks that need not be measured.
        seed: same seed and arguments, same networks.

    Raises:
        SpaceError: n is below 1 or above the number of networks that are not known.
    """
    space, rng = predictor.space, np.random.default_rng([seed, 7])
    left = space.count() - len(set(known))
    if not 1 <= n <= left:
        raise SpaceError(f"{n} networks to measure next were asked for: give a number from 1 to {left}, those not measured yet")
    taken = {row.tobytes() for row in space.genes(known)}
    low, high = np.log(cost.estimate(space.genes([space.smallest(), space.largest()])))

    def rungs(genes: Genes, steps: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        at = (np.log(cost.estimate(genes)) - low) / max(high - low, 1e-9) * steps
        return np.asarray(np.clip(at, 0, steps - 1), np.int64)

    steps = min(max(n // 2, 1), STEPS)
    pool = np.concatenate([space.genes([space.smallest(), space.largest(), *known]), sample(space.columns, rng, 32 * steps)])
    pool = np.unique(pool, axis=0)
    scores = _scores(predictor, pool)
    for _ in range(ROUNDS):
        best = _best(scores, rungs(pool, steps), PER_STEP)
        parents = pool[best]
        mothers, fathers = (parents[rng.integers(len(parents), size=len(parents))] for _ in range(2))
        children = np.concatenate([
            mutate(space.columns, np.repeat(parents, 3, 0), rng, CHANGED),
            mutate(space.columns, cross(space.columns, mothers, fathers, rng), rng, CHANGED / 2),
        ])  # fmt: skip
        children = np.unique(children, axis=0)
        pool, scores = np.concatenate([pool, children]), np.concatenate([scores, _scores(predictor, children)])
        pool, first = np.unique(pool, axis=0, return_index=True)
        scores = scores[first]
    new = np.array([row.tobytes() not in taken for row in pool])
    while new.sum() < n:  # a tiny space, or one that is nearly known
        more = canonical(space.columns, sample(space.columns, rng, 4 * n))
        pool = np.unique(np.concatenate([pool, more]), axis=0)
        new = np.array([row.tobytes() not in taken for row in pool])
        scores = _scores(predictor, pool)
    pool, scores = pool[new], scores[new]
    return space.archs(pool[_batch(pool, scores, rungs(pool, n), n)])


def _scores(predictor: AccuracyPredictor, genes: Genes) -> Floats:
    _, std = predictor.predict_with_error(genes, measured=False)
    return predictor.score(genes) + OPTIMISM * std


def _best(scores: Floats, rungs: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> list[int]:
    """The best few of each rung, by index."""
    order = np.lexsort((-scores, rungs))
    place = np.arange(len(order)) - np.searchsorted(rungs[order], rungs[order])  # within the rung
    found: list[int] = order[place < number].tolist()
    return found


def _batch(pool: Genes, scores: Floats, rungs: np.ndarray[tuple[int], np.dtype[np.int64]], n: int) -> list[int]:
    """The best of each rung in turn, then the second best, …, passing over those like what is chosen while there are others."""
    queues = {int(rung): [i for i in np.argsort(-scores, kind="stable").tolist() if rungs[i] == rung] for rung in np.unique(rungs)}
    chosen: list[int] = []
    unlike = UNLIKE
    while len(chosen) < n:
        before = len(chosen)
        for queue in queues.values():
            for i in queue:
                if len(chosen) < n and (not chosen or (pool[chosen] != pool[i]).sum(1).min() >= unlike):
                    chosen.append(i)
                    queue.remove(i)
                    break
        if len(chosen) == before:
            unlike -= 1
    return chosen
