"""Chains that walk between networks under prices of the limits.

A limit makes nearly every single change either useless or forbidden. So limits are replaced by prices: a chain follows changes
whose gain of score is worth more than their price, and each price rises while its limit is broken and falls while it is not.
Chains come to hover around the limits, where every network that keeps them counts. Noise on what changes are worth lets them leave
local optima; it falls to nothing. Which changes are tried is decided by what they were worth when last tried.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .evaluator import Evaluated, Evaluator
from .moves import Changes, changes_of, settle
from .problem import Costs

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
PROMISING = 20  # changes tried in each round of each chain, those that seemed to be worth most
RANDOM = 10  # and others
MOST = 6  # changes made at once at most
RESTARTS = (0.3, 0.5, 0.7, 0.85)  # of the way
SPEED = 6.0  # of prices: change of the logarithm for a limit broken by its whole
HUGE = 1e12
HEAT = 0.6  # noise at the start, in units of a typical gain


def anneal(
    evaluator: Evaluator,
    start: Evaluated,
    bounds: Floats,
    *,
    evaluations: int,
    rng: np.random.Generator,
    restart: Callable[[Evaluated, Costs], Evaluated],
) -> Evaluated:
    """Walk from each row of `start`, all chains at once; `evaluator` keeps what was found on the way.

    Args:
        start: where chains begin (chains,).
        bounds: of each chain's limits (chains, limits).
        evaluations: that may be used, about.
        restart: at `RESTARTS` of the way, from where the chains are and their prices (chains, limits), where they continue.

    Returns:
        Where the chains ended; they need not keep the limits.
    """
    changes, space = changes_of(evaluator.problem.space), evaluator.problem.space
    at, tries, heat, restarts = start, 0, 0.0, list(RESTARTS)
    view = _View(changes, at)
    size = np.where(bounds == 0, 1.0, np.abs(bounds))
    while (progress := tries / max(1, evaluations)) < 1 and not evaluator.spent:
        tried = view.tried(changes.possible(at.genes), heat * (1 - progress), rng)
        who, which = np.nonzero(tried)
        if not len(who):
            break
        tries += len(who)
        near = evaluator(changes.apply(at.genes[who], which))
        with np.errstate(invalid="ignore"):  # infinite less infinite
            view.learn(who, which, near.scores - at.scores[who], near.costs - at.costs[who])
        if not heat:
            heat = HEAT * _typical(view.gains)
            view.price(bounds)
        worth = view.worth(who, which) + heat * (1 - progress) * rng.gumbel(size=len(who))
        rows = at.genes.copy()
        for c in range(len(at)):
            first, last = np.searchsorted(who, [c, c + 1])
            picked = first + _picked(worth[first:last], changes.groups[which[first:last]], 1 + int(rng.integers(MOST)))
            rows[c] += (near.genes[picked] - at.genes[c]).sum(0, dtype=np.int16)
            view.move(c, which[picked])
        at = evaluator(settle(space, rows))
        view.prices = np.clip(view.prices * np.exp(np.clip(SPEED * (at.costs - bounds) / size, -0.5, 0.5)), 1e-12, 1e12)
        if restarts and progress > restarts[0]:
            del restarts[0]
            before, at = at, restart(at, view.prices)
            view.unknown |= (before.genes != at.genes).any(1)[:, None]
    return at


class _View:
    """What each chain knows of its changes: gains (chains, changes), rises (chains, changes, limits), and its prices."""

    def __init__(self, changes: Changes, at: Evaluated) -> None:
        shape, limits, columns = (len(at), len(changes)), at.costs.shape[1], changes.space.columns
        self.gains, self.rises, self.prices = np.zeros(shape), np.zeros((*shape, limits)), np.zeros((len(at), limits))
        self.unknown, self.changes = np.ones(shape, np.bool_), changes
        self.stages = np.array([columns[group].stage for group in changes.groups])
        self.of_blocks = np.array([columns[group].kind == "kernel" for group in changes.groups])

    def worth(self, who: Ints, which: Ints) -> Floats:
        """Gain less price."""
        result: Floats = self.gains[who, which] - (self.rises[who, which] * self.prices[who]).sum(1)
        return result

    def tried(self, possible: Bools, heat: float, rng: np.random.Generator) -> Bools:
        """The changes that a round evaluates: the most promising, some others, and those about which nothing is known."""
        worth = self.gains - (self.rises * self.prices[:, None]).sum(2) + heat * rng.gumbel(size=self.gains.shape)
        worth[~possible] = -np.inf
        most = min(PROMISING, worth.shape[1] - 1)
        cut = -np.partition(-worth, most, 1)[:, most : most + 1]
        chosen: Bools = possible & ((worth >= cut) | self.unknown | (rng.random(worth.shape) < RANDOM / worth.shape[1]))
        return chosen

    def learn(self, who: Ints, which: Ints, gains: Floats, rises: Costs) -> None:
        """What changes do; infinities become numbers that can be reckoned with."""
        for known, new in ((self.gains, gains), (self.rises, rises)):
            known[who, which] = np.nan_to_num(new, nan=0.0, posinf=HUGE, neginf=-HUGE)
        self.unknown[who, which] = False

    def price(self, bounds: Costs) -> None:
        """Prices at which half of the useful changes are worth their rise."""
        for c, (gains, rises) in enumerate(zip(self.gains, self.rises, strict=True)):
            for k, bound in enumerate(bounds[c]):
                up = (gains > 0) & (rises[:, k] > 0)
                price = np.median(gains[up] / rises[up, k]) if up.any() else 1e-3 * _typical(gains) / (abs(bound) or 1.0)
                self.prices[c, k] = price / bounds.shape[1]

    def move(self, chain: int, made: Ints) -> None:
        """Take the chain's changes as made: the others of their groups are seen from there; what is new is unknown."""
        for m in made:
            same = self.changes.groups == self.changes.groups[m]
            self.gains[chain, same] -= self.gains[chain, m]
            self.rises[chain, same] -= self.rises[chain, m]
            if self.changes.steps[m]:
                self.unknown[chain] |= same | (self.of_blocks & (self.stages == self.stages[m]))


def _picked(worth: Floats, groups: Ints, most: int) -> Ints:
    """The changes that are worth most, more than nothing, one of a group; a change of the resolution only alone."""
    picked: list[int] = []
    for i in np.argsort(-worth, kind="stable"):
        if worth[i] <= 0 or len(picked) == most:
            break
        if groups[i] not in groups[picked] and (groups[i] != 0 or not picked):
            picked.append(int(i))
            if groups[i] == 0:
                break
    return np.array(picked, np.int64)


def _typical(gains: Floats) -> float:
    size = np.abs(gains[gains != 0])
    return float(np.median(size)) if len(size) else 1e-12
