"""Choose sub-networks to measure, spread evenly over resolutions and sizes, since uniform samples cluster at medium sizes.

`spread` samples them independently. `tree` makes many of them share a prefix of segments, so that measuring them is much cheaper.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..arch import Arch
from ..costs import CostTable, SegmentTable, Slot, macs_table
from ..errors import SpaceError
from ..genes import Genes, canonical
from ..search.moves import distinct, keys
from ..space import Space
from .prefix_tree import work

POOL = 1024  # networks to estimate the average cost of segments
CANDIDATES = 64  # samples per chosen network
STIFFNESS = 4.0  # how similar the choices of one candidate are: all small, all medium, all large
SAVING = 3.5  # one by one, the networks of a tree would take about this many times longer
LEAST = 0.75  # minimum number of distinct prefixes, relative to the number of independent networks that would cost as much
NEAR = 8  # candidates of about the right size, from which the one with the rarest choices is chosen

Array = np.ndarray[Any, Any]


class Cost(Protocol):
    """An estimator of a cost, such as `onceforall.costs.CostTable`."""

    def estimate(self, archs: Genes) -> Array:
        """One positive number per row."""
        ...


def spread(space: Space, rng: np.random.Generator, n: int, cost: Cost) -> list[Arch]:
    """Sample n distinct architectures: the smallest, the largest, and others spread evenly over resolutions and sizes.

    Sizes are equal steps of log(cost) between the smallest and the largest architecture at that resolution.

    Raises:
        SpaceError: n is below 2 or above the number of architectures in the space.
    """
    _check(space, n)
    chosen = _ends(space)
    while len(chosen) < n:
        drawn = new_rows(canonical(space.columns, _candidates(space, rng, CANDIDATES * n)), chosen)
        share = -(-(n - len(chosen)) // len(space.resolutions))
        rungs = [_ladder(space, drawn[drawn[:, 0] == r], r, share, cost) for r in rng.permutation(len(space.resolutions)).tolist()]
        chosen = np.concatenate([chosen, *rungs])[:n]
    return space.archs(chosen)


def tree(space: Space, rng: np.random.Generator, n: int, segments: SegmentTable, *, saving: float = SAVING) -> list[Arch]:
    """Sample n distinct architectures with the same spread as `spread`, many of which share a prefix of segments.

    A tree grows at each resolution, from input to output: at each segment some networks are forked, that is, everything after it is
    redrawn (see `prefix_counts` for their number). The forks at a segment are spread evenly over sizes and over the networks that
    they fork from; among candidates of about the right size, the one with the rarest choices is chosen.

    Args:
        saving: target factor by which sharing reduces the cost of measuring. Small spaces and few networks save less.

    Raises:
        SpaceError: see `spread`.
    """
    _check(space, n)
    macs, works = macs_table(segments), segments.costs(work)
    drawn = np.zeros((len(space.columns), max(len(column.choices) for column in space.columns)))
    chosen, ends = np.zeros((0, len(space.columns)), np.int16), _ends(space)
    order = rng.permutation(len(space.resolutions)).tolist()
    for done, resolution in enumerate(order):
        share = -(-(n - len(chosen)) // (len(order) - done))
        pool = canonical(space.columns, _candidates(space, rng, POOL, resolution))
        rows = _ladder(space, pool, resolution, min(share, 1), macs)
        if (ends[:, 0] == resolution).any():
            rows = ends[ends[:, 0] == resolution][:share]
        costs = [values[slot.codes(pool)] for slot, values in zip(segments.slots, works.values, strict=True)]
        inner = [at for at, slot in enumerate(segments.slots) if slot.name.startswith("stages.")]
        means, present = [costs[at].mean() for at in inner], [(costs[at] > 0).mean() for at in inner]
        numbers = prefix_counts(means, present, costs[-1].mean(), share, saving)
        for at, number in zip(inner, numbers, strict=True):
            rows = _fork(space, rng, rows, number - len(rows), segments.slots[: at + 1], macs, drawn)
        for at in reversed(inner):  # forks that were not possible at their segment
            rows = _fork(space, rng, rows, share - len(rows), segments.slots[: at + 1], macs, drawn)
        chosen = np.concatenate([chosen, rows])
    while len(chosen) < n:  # a small space, with fewer networks at some resolution than its share
        others = new_rows(canonical(space.columns, _candidates(space, rng, CANDIDATES * n)), chosen)
        chosen = np.concatenate([chosen, rng.permutation(others)[: n - len(chosen)]])
    return space.archs(chosen)


def prefix_counts(costs: Sequence[float], present: Sequence[float], last: float, n: int, saving: float) -> list[int]:
    """Number of distinct prefixes of n networks up to each segment with choices, from input to output.

    The error of a segment's mean effects is proportional to 1 / b, so the numbers b minimize sum(1 / b) at the cost

        sum(c * b) + n * last = n * (sum(c) + last) / saving    with b ascending to n,

    which gives b = scale * sqrt(1 / c). Where 1 / c descends, neighbors share one number (isotonic regression).

    Args:
        costs: c, the mean cost of each segment over networks.
        present: share of the networks that have the segment. Networks without it are forked at the previous segment.
        last: cost of the rest, which is never shared.
        saving: factor by which sharing reduces the cost.
    """
    from sklearn.isotonic import isotonic_regression  # slow to load, and needed only here

    each = np.maximum(np.asarray(costs, np.float64), 1e-9)
    shape = np.sqrt(isotonic_regression(1 / each, sample_weight=each))
    low, high = 0.0, n / shape.min()
    for _ in range(60):  # bisection
        scale = (low + high) / 2
        numbers = np.clip(scale * shape, n * LEAST / saving, n)
        numbers[-1] = n
        for at in range(len(numbers) - 1, 0, -1):
            numbers[at - 1] += (1 - present[at]) * (numbers[at] - numbers[at - 1])
        low, high = (scale, high) if numbers @ each + n * last < n * (each.sum() + last) / saving else (low, scale)
    return [max(1, round(number)) for number in numbers.tolist()]


def _check(space: Space, n: int) -> None:
    if not 2 <= n <= space.count():
        raise SpaceError(f"{n} distinct architectures were requested: give a number from 2 to {space.count()}, all of the space")


def _ends(space: Space) -> Genes:
    return space.genes(list(dict.fromkeys([space.smallest(), space.largest()])))


def _candidates(space: Space, rng: np.random.Generator, n: int, resolution: int | None = None) -> Genes:
    """Rows of all sizes, including choices of absent blocks: each row has its own mean size, around which its choices scatter.

    They are at one resolution (given by index), or at all in turn.
    """
    mean = rng.random((n, 1))
    choice = rng.beta(STIFFNESS * mean + 0.2, STIFFNESS * (1 - mean) + 0.2, (n, len(space.columns)))
    sizes = np.array([len(column.choices) for column in space.columns])
    genes: Genes = np.minimum((choice * sizes).astype(np.int16), sizes - 1).astype(np.int16)
    genes[:, 0] = np.arange(n) % len(space.resolutions) if resolution is None else resolution
    return genes


def new_rows(genes: Genes, known: Genes) -> Genes:
    """The distinct rows that are not known yet."""
    rows = distinct(genes)
    return rows[~np.isin(keys(rows), keys(known))]


def _ladder(space: Space, genes: Genes, resolution: int, steps: int, cost: Cost) -> Genes:
    """The row nearest to each step from the smallest to the largest cost at a resolution, without repeats."""
    logs, taken = np.log(cost.estimate(genes)), list[int]()
    for target in _targets(space, resolution, min(steps, len(genes)), cost):
        taken.append(int(np.abs(logs - target).argmin()))
        logs[taken[-1]] = np.inf
    return genes[taken]


def _targets(space: Space, resolution: int, steps: int, cost: Cost) -> Array:
    """The midpoints of equal steps of log(cost), from the smallest to the largest network at a resolution."""
    pixels = space.resolutions[resolution]
    ends = np.log(cost.estimate(space.genes([space.smallest(pixels), space.largest(pixels)])))
    return np.asarray(ends[0] + (np.arange(steps) + 0.5) / steps * (ends[1] - ends[0]))


def _fork(
    space: Space, rng: np.random.Generator, rows: Genes, number: int, slots: Sequence[Slot], macs: CostTable, drawn: Array
) -> Genes:
    """Add `number` rows, or as many as possible, that share an existing row's segments before the last slot.

    All rows differ up to and including the last slot. `drawn` counts how often each choice was drawn (columns, choices).
    """
    stage, block = map(int, slots[-1].name.split(".")[1:])
    kept, depth = _before(space, stage, block)
    parents = np.flatnonzero(np.array(space.columns[depth].choices)[rows[:, depth]] >= block)
    if number <= 0 or not len(parents):
        return rows
    fresh = _candidates(space, rng, CANDIDATES * number)
    fresh[:, depth] = np.maximum(fresh[:, depth], np.searchsorted(space.columns[depth].choices, block))
    parent = rng.permutation(np.resize(parents, len(fresh)))
    genes = canonical(space.columns, np.where(kept, rows[parent], fresh))
    codes = np.stack([slot.codes(np.concatenate([rows, genes])) for slot in slots], 1)
    beginning = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    known, beginning = beginning[: len(rows)], beginning[len(rows) :]
    free, forks = ~np.isin(beginning, known), np.zeros(len(rows), int)
    logs, free_columns, chosen = np.log(macs.estimate(genes)), np.flatnonzero(~kept), list[int]()
    weights = 1 / np.arange(1, len(free_columns) + 1)  # later choices will be redrawn by later forks
    for target in rng.permutation(_targets(space, int(rows[0, 0]), number, macs)).tolist():
        open_ = np.flatnonzero(free)
        if not len(open_):
            break
        near = open_[np.argsort(np.abs(logs[open_] - target), kind="stable")[:NEAR]]
        choices = genes[near][:, free_columns]
        best = int(near[(weights * np.where(choices < 0, 0, drawn[free_columns, choices])).sum(1).argmin()])
        chosen.append(best)
        drawn[free_columns, genes[best, free_columns]] += genes[best, free_columns] >= 0
        forks[parent[best]] += 1
        free &= beginning != beginning[best]
        if forks[parent[best]] >= -(-number // len(parents)):
            free &= parent != parent[best]
    return np.concatenate([rows, genes[chosen]])


def _before(space: Space, stage: int, block: int) -> tuple[Array, int]:
    """Whether each column determines what precedes a block, bool (columns,), and the column of the depth of the block's stage."""
    kept, depth = np.zeros(len(space.columns), bool), 0
    for c, column in enumerate(space.columns):
        inside = column.stage == stage and block > 0 and (column.kind == "width" or 0 <= column.block < block)
        kept[c] = column.stage < stage or inside
        if column.stage == stage and column.kind == "depth":
            depth = c
    return kept, depth
