"""Strategies draw the sub-networks of one step: pure functions of (space of the phase, number, generator) -> architectures.

A new strategy is one function here and one line in `STRATEGIES`.
"""

from collections.abc import Callable

import numpy as np

from ..arch import Arch
from ..space import Space

__all__ = ["STRATEGIES", "Strategy"]

Strategy = Callable[[Space, int, np.random.Generator], list[Arch]]


def uniform(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """Sub-networks drawn uniformly, all at one resolution."""
    archs = [space.sample(rng) for _ in range(number)]
    return [Arch(archs[0].resolution, arch.stages) for arch in archs]


def sandwich(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """The largest and the smallest sub-network and random ones between, all at one resolution (BigNAS, 2020)."""
    drawn = uniform(space, max(1, number - 2), rng)
    resolution = drawn[0].resolution
    return [space.largest(resolution), space.smallest(resolution), *drawn][:number]


def ends(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """The largest or the smallest sub-network, with equal odds, and random ones, all at one resolution.

    For short schedules, in which uniform draws alone train the two ends too rarely.
    """
    drawn = uniform(space, max(1, number - 1), rng)
    end = space.largest if rng.random() < 0.5 else space.smallest
    return [end(drawn[0].resolution), *drawn][:number]


STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "ends": ends,
    "sandwich": sandwich,
}
