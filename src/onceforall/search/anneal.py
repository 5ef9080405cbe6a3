"""Chains that walk from network to network, with prices in place of the limits.

Under limits, nearly every single change is either useless or forbidden. So limits are replaced by prices: a chain makes changes
whose gain in score exceeds their price, and each price rises while its limit is violated and falls while it is met. So chains hover
around the limits, and every network they visit that meets the limits is a candidate. Noise on the worth of changes lets chains
leave local optima; it decays to zero. Changes are selected by their worth when last tried.
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
PROMISING = 20  # changes of highest expected worth that each chain tries per round
RANDOM = 10  # other changes, on average
MOST = 6  # maximum number of changes made at once
RESTARTS = (0.3, 0.5, 0.7, 0.85)  # fractions of the evaluations
SPEED = 6.0  # change of a price's logarithm in a round where its limit is exceeded by 100 %
HUGE = 1e12
HEAT = 0.6  # initial noise, in units of a typical gain


def anneal(
    evaluator: Evaluator,
    start: Evaluated,
    bounds: Floats,
    *,
    evaluations: int,
    rng: np.random.Generator,
    restart: Callable[[Evaluated, Costs], Evaluated],
) -> Evaluated:
    """Run one chain from each row of `start`, all in parallel; `evaluator` keeps the best networks on the way.

    Args:
        start: starting networks (chains,).
        bounds: bounds of each chain's limits (chains, limits).
        evaluations: approximate number of evaluations.
        restart: called at the fractions `RESTARTS` with the chains' networks and prices (chains, limits); returns the networks from
            which they continue.

    Returns:
        The final networks of the chains, which need not meet the limits.
    """
    changes, space = changes_of(evaluator.problem.space), evaluator.problem.space
    at, tries, heat, restarts = start, 0, 0.0, list(RESTARTS)
    view = _View(changes, at)
    size = np.where(bounds == 0, 1.0, np.abs(bounds))
    while (progress := tries / max(1, evaluations)) < 1 and not evaluator.spent:
        chain, which = np.nonzero(view.to_try(changes.possible(at.genes), heat * (1 - progress), rng))
        if not len(chain):
            break
        tries += len(chain)
        near = evaluator(changes.apply(at.genes[chain], which))
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            view.learn(chain, which, near.scores - at.scores[chain], near.costs - at.costs[chain])
        if not heat:
            heat = HEAT * _typical(view.gains)
            view.price(bounds)
        worth = view.worth(chain, which) + heat * (1 - progress) * rng.gumbel(size=len(chain))
        rows = at.genes.copy()
        for c in range(len(at)):
            first, last = np.searchsorted(chain, [c, c + 1])
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
    """What each chain knows of its changes: gains in score (chains, changes), rises in cost (chains, changes, limits), prices."""

    def __init__(self, changes: Changes, at: Evaluated) -> None:
        shape, limits, columns = (len(at), len(changes)), at.costs.shape[1], changes.space.columns
        self.gains, self.rises, self.prices = np.zeros(shape), np.zeros((*shape, limits)), np.zeros((len(at), limits))
        self.unknown, self.changes = np.ones(shape, np.bool_), changes
        self.stages = np.array([columns[group].stage for group in changes.groups])
        self.of_blocks = np.array([columns[group].kind == "kernel" for group in changes.groups])

    def worth(self, chain: Ints, which: Ints) -> Floats:
        """Gain minus price."""
        return np.asarray(self.gains[chain, which] - (self.rises[chain, which] * self.prices[chain]).sum(1))

    def to_try(self, possible: Bools, heat: float, rng: np.random.Generator) -> Bools:
        """Which changes to evaluate in this round (chains, changes): the most promising, some others, and all unknown ones."""
        worth = self.gains - (self.rises * self.prices[:, None]).sum(2) + heat * rng.gumbel(size=self.gains.shape)
        worth[~possible] = -np.inf
        most = min(PROMISING, worth.shape[1] - 1)
        cut = -np.partition(-worth, most, 1)[:, most : most + 1]
        return np.asarray(possible & ((worth >= cut) | self.unknown | (rng.random(worth.shape) < RANDOM / worth.shape[1])))

    def learn(self, chain: Ints, which: Ints, gains: Floats, rises: Costs) -> None:
        """Record the effects of changes; infinities become large finite numbers."""
        for known, new in ((self.gains, gains), (self.rises, rises)):
            known[chain, which] = np.nan_to_num(new, nan=0.0, posinf=HUGE, neginf=-HUGE)
        self.unknown[chain, which] = False

    def price(self, bounds: Costs) -> None:
        """Set the prices such that half of the changes that raise score and cost are worth it."""
        for c, (gains, rises) in enumerate(zip(self.gains, self.rises, strict=True)):
            for k, bound in enumerate(bounds[c]):
                up = (gains > 0) & (rises[:, k] > 0)
                price = np.median(gains[up] / rises[up, k]) if up.any() else 1e-3 * _typical(gains) / (abs(bound) or 1.0)
                self.prices[c, k] = price / bounds.shape[1]

    def move(self, chain: int, made: Ints) -> None:
        """Update a chain after its changes: others of their groups are now relative to the new choice; new blocks are unknown."""
        for m in made:
            same = self.changes.groups == self.changes.groups[m]
            self.gains[chain, same] -= self.gains[chain, m]
            self.rises[chain, same] -= self.rises[chain, m]
            if self.changes.steps[m]:
                self.unknown[chain] |= same | (self.of_blocks & (self.stages == self.stages[m]))


def _picked(worth: Floats, groups: Ints, most: int) -> Ints:
    """The changes of highest positive worth, at most one per group; a change of the resolution is only made alone."""
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
