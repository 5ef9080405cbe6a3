"""Strategies draw the sub-networks of one step: pure functions of (space of the phase, number, generator) -> groups.

Each group is one sub-network of the step. A group of several architectures is a choice that the step's images decide: the one with
the lowest loss is trained. All architectures of a step have one resolution. A new strategy is one function here and one line
in `STRATEGIES`.
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
CANDIDATES = 3  # of best-up
POOL = 128  # networks from which those near a target are taken


def uniform(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Sub-networks drawn uniformly."""
    return _alone(_uniform(space, number, rng))


def draw_sandwich(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The largest and the smallest sub-network and random ones between (BigNAS, 2020)."""
    drawn = _uniform(space, max(1, number - 2), rng)
    resolution = drawn[0].resolution
    return _alone([space.largest(resolution), space.smallest(resolution), *drawn][:number])


def ends(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The largest or the smallest sub-network, with equal odds, and random ones.

    For short schedules, in which uniform draws alone train the two ends too rarely.
    """
    drawn = _uniform(space, max(1, number - 1), rng)
    end = space.largest if rng.random() < 0.5 else space.smallest
    return _alone([end(drawn[0].resolution), *drawn][:number])


def draw_all_sizes(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Sub-networks of all sizes alike: each draws how large it is, and every choice goes by that, with chance.

    Of uniform draws nearly all are of middling size, since they are made of many choices: the largest and the smallest networks,
    and those near them, are hardly trained. Here a network draws a level from 0 to 1, and of n values a choice takes a binomial one
    of n - 1 trials with it.
    """
    sizes = np.array([len(column.choices) for column in space.columns])
    rows = rng.binomial(sizes - 1, rng.random((number, 1))).astype(np.int16)
    rows[:, 0] = rng.integers(len(space.resolutions))
    return _alone(space.archs(canonical(space.columns, rows)))


def best_up(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """The sandwich, but for each random sub-network three candidates near a MACs target, of which the best one is trained.

    Targets are uniform between the MACs of the smallest and the largest network at the step's resolution (AttentiveNAS, 2021).
    """
    first = space.sample(rng)
    resolution = first.resolution
    ends = _alone([space.largest(resolution), space.smallest(resolution)])[:number]
    if number <= 2:
        return ends
    table = _macs(space)
    low, high = table.estimate([space.smallest(resolution), space.largest(resolution)])
    pool = space.sample_genes(rng, POOL)
    # uniform draws are alike in MACs: half of the pool leans to one end or the other
    sizes = np.array([len(column.choices) for column in space.columns])
    leaning = rng.binomial(sizes - 1, rng.random((POOL, 1))).astype(np.int16)
    pool = canonical(space.columns, np.concatenate([pool, leaning]))
    pool[:, 0] = space.resolutions.index(resolution)
    pool = np.unique(pool, axis=0)  # in a small space, candidates would be one network three times
    macs = table.estimate(pool)
    groups = []
    for target in rng.uniform(low, high, number - 2):
        near = np.argsort(np.abs(macs - target), kind="stable")[:CANDIDATES]
        groups.append(tuple(space.archs(pool[near])))
    return [*ends, *groups]


def draw_coupled(space: Space, number: int, rng: np.random.Generator) -> Groups:
    """Depth, expand ratio and heads of a stage go together, small with small and large with large (CompOFA, 2021).

    With three depths and three ratios in five stages these are 243 networks, times the kernels, which are drawn for each block.
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
    """MACs of the space's networks; the classifier is the same for all, so its size does not matter here."""
    return macs_table(segment_table(space, 1))
