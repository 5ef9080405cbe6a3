"""Which sub-networks to measure: spread evenly over resolutions and sizes, because uniform choices crowd in the middle."""

from typing import Any, Protocol

import numpy as np

from ..arch import Arch
from ..errors import SpaceError
from ..genes import Genes, canonical
from ..space import Space

__all__ = ["Cost", "spread"]

CANDIDATES = 64  # drawn per network chosen
STIFFNESS = 4.0  # how alike the choices of one candidate are: all small, all middling, all large


class Cost(Protocol):
    """Something that estimates a cost, such as `onceforall.costs.CostTable`."""

    def estimate(self, archs: Genes) -> np.ndarray[Any, Any]:
        """One positive number for each row."""
        ...


def spread(space: Space, rng: np.random.Generator, n: int, cost: Cost) -> list[Arch]:
    """n different architectures: the smallest, the largest, and for every resolution about as many at every size.

    Sizes are steps of the logarithm of the cost between those of the smallest and the largest at that resolution.

    Raises:
        SpaceError: n is below 2 or above the number of architectures in the space.
    """
    if not 2 <= n <= space.count():
        raise SpaceError(f"{n} different architectures were asked for: give a number from 2 to {space.count()}, the space's count")
    chosen = space.genes(list(dict.fromkeys([space.smallest(), space.largest()])))
    while len(chosen) < n:
        drawn = np.unique(_candidates(space, rng, CANDIDATES * n), axis=0)
        known = {row.tobytes() for row in chosen}
        drawn = drawn[[row.tobytes() not in known for row in drawn]]
        share = -(-(n - len(chosen)) // len(space.resolutions))
        rungs = [_ladder(space, drawn[drawn[:, 0] == r], r, share, cost) for r in rng.permutation(len(space.resolutions)).tolist()]
        chosen = np.concatenate([chosen, *rungs])[:n]
    return space.archs(chosen)


def _candidates(space: Space, rng: np.random.Generator, n: int) -> Genes:
    """Rows from all sizes: each has a mean size of its own, its choices scatter around that. Resolutions in turn."""
    mean = rng.random((n, 1))
    choice = rng.beta(STIFFNESS * mean + 0.2, STIFFNESS * (1 - mean) + 0.2, (n, len(space.columns)))
    sizes = np.array([len(column.choices) for column in space.columns])
    genes = np.minimum((choice * sizes).astype(np.int16), sizes - 1).astype(np.int16)
    genes[:, 0] = np.arange(n) % len(space.resolutions)
    return canonical(space.columns, genes)


def _ladder(space: Space, genes: Genes, resolution: int, steps: int, cost: Cost) -> Genes:
    """For each step from the smallest to the largest cost at a resolution, the row that is nearest; each row once."""
    pixels = space.resolutions[resolution]
    ends = np.log(cost.estimate(space.genes([space.smallest(pixels), space.largest(pixels)])))
    logs = np.log(cost.estimate(genes))
    taken: list[int] = []
    for target in ends[0] + (np.arange(steps) + 0.5) / steps * (ends[1] - ends[0]):
        distance = np.abs(logs - target)
        distance[taken] = np.inf
        if len(taken) < len(genes):
            taken.append(int(distance.argmin()))
    return genes[taken]
