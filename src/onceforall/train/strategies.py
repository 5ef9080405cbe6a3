"""Strategies sample the sub-networks of one step: pure functions (space of the phase, number, generator) -> groups.

Each group yields one sub-network of the step: of several architectures, the one with the lowest loss on the step's images is
trained. All architectures of a step have the same resolution. A new strategy takes one function here and one line in `STRATEGIES`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ..arch import Arch, Block, Stage
from ..costs import CostTable, macs_table, segment_table
from ..genes import canonical
from ..resolutions import Resolution
from ..space import Space

Groups = list[tuple[Arch, ...]]
Strategy = Callable[[Space, int, np.random.Generator], Groups]
CANDIDATES = 3  # candidates per sub-network in best-up
POOL = 128  # networks among which the candidates nearest to a target are selected


def uniform(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Sub-networks drawn uniformly."""
    return _alone(_uniform(space, number, rng))


def draw_sandwich(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The largest and the smallest sub-network, and random ones in between (BigNAS, 2020)."""
    drawn = _uniform(space, max(1, number - 2), rng)
    resolution = drawn[0].resolution
    return _alone([space.largest(resolution), space.smallest(resolution), *drawn][:number])


def ends(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The largest or the smallest sub-network, with equal probability, and random ones.

    For short schedules, in which uniform sampling trains the largest and the smallest network too rarely.
    """
    drawn = _uniform(space, max(1, number - 1), rng)
    end = space.largest if rng.random() < 0.5 else space.smallest
    return _alone([end(drawn[0].resolution), *drawn][:number])


def draw_all_sizes(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Sub-networks of all sizes: each first draws a size level, then its choices at random around that level.

    Nearly all uniform samples are of medium size, since they combine many choices, so networks near the smallest and the largest
    are hardly trained. Here each network draws a level in [0, 1]; the index of each of its choices is binomial, with this
    probability and n - 1 trials for n values.
    """
    sizes = np.array([len(column.choices) for column in space.columns])
    rows = rng.binomial(sizes - 1, rng.random((number, 1))).astype(np.int16)
    rows[:, 0] = rng.integers(len(space.resolutions))
    return _alone(space.archs(canonical(space.columns, rows)))


def best_up(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The sandwich, but each random sub-network is the best of three candidates near a MACs target (AttentiveNAS, 2021).

    Targets are uniform between the MACs of the smallest and the largest network at the step's resolution.
    """
    first = space.sample(rng)
    resolution = first.resolution
    ends = _alone([space.largest(resolution), space.smallest(resolution)])[:number]
    if number <= 2:
        return ends
    table = _macs(space)
    low, high = table.estimate([space.smallest(resolution), space.largest(resolution)])
    pool = space.sample_genes(rng, POOL)
    # uniform samples have similar MACs, so half of the pool is drawn at random size levels
    sizes = np.array([len(column.choices) for column in space.columns])
    leaning = rng.binomial(sizes - 1, rng.random((POOL, 1))).astype(np.int16)
    pool = canonical(space.columns, np.concatenate([pool, leaning]))
    pool[:, 0] = space.resolutions.index(resolution)
    pool = np.unique(pool, axis=0)  # in a small space, all candidates could be the same network
    macs = table.estimate(pool)
    groups = []
    for target in rng.uniform(low, high, number - 2):
        near = np.argsort(np.abs(macs - target), kind="stable")[:CANDIDATES]
        groups.append(tuple(space.archs(pool[near])))
    return [*ends, *groups]


def draw_coupled(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Couple the depth, expand ratio and heads of each stage: small with small, large with large (CompOFA, 2021).

    Three depths and three ratios in five stages give 243 networks, times the choices of kernels, which are drawn per block.
    """
    resolution = space.resolutions[int(rng.integers(len(space.resolutions)))]  # as rng.choice draws numbers
    archs = []
    for _ in range(number):
        stages = []
        for choices in space.stages:
            depth = int(rng.integers(len(choices.depths)))
            share = depth / max(1, len(choices.depths) - 1) if len(choices.depths) > 1 else rng.random()
            ratio = choices.expand_ratios[round(share * (len(choices.expand_ratios) - 1))]
            heads = choices.heads[round(share * (len(choices.heads) - 1))]
            blocks = tuple(Block(int(rng.choice(choices.kernels)), ratio, heads) for _ in range(choices.depths[depth]))
            stages.append(Stage(int(rng.choice(choices.widths)), blocks))
        archs.append(Arch(resolution, tuple(stages)))
    return _alone(archs)


STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "ends": ends,
    "sandwich": draw_sandwich,
    "all_sizes": draw_all_sizes,
    "best_up": best_up,
    "coupled": draw_coupled,
}
LARGEST_FIRST = ("sandwich", "best_up")  # the first sub-network is the largest, so that it can teach the others


def at_resolution(groups: Groups, resolution: Resolution) -> Groups:
    """The same networks at another resolution."""
    return [tuple(Arch(resolution, arch.stages) for arch in group) for group in groups]


def _alone(archs: Sequence[Arch]) -> Groups:
    return [(arch,) for arch in archs]


def _uniform(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    archs = [space.sample(rng) for _ in range(number)]
    return [Arch(archs[0].resolution, arch.stages) for arch in archs]


@lru_cache(maxsize=8)
def _macs(space: Space) -> CostTable:
    """MACs of the space's networks; the size of the classifier is irrelevant, as it is the same for all."""
    return macs_table(segment_table(space, 1))
