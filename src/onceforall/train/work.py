"""How much there is to compute in a schedule, for time estimates and budgets."""

import numpy as np

from ..costs import macs_table, segment_table
from ..space import Space
from .schedule import Schedule
from .strategies import STRATEGIES

__all__ = ["work_per_step"]

DRAWS = 64


def work_per_step(schedule: Schedule, space: Space, num_classes: int) -> list[float]:
    """Expected multiply-accumulates of one step, for each phase: forward and backward count three forward passes.

    An external teacher is not counted.
    """
    table = macs_table(segment_table(space, num_classes))
    rng = np.random.default_rng(0)
    work = []
    for phase in schedule.phases:
        kept = space.keep_largest(**phase.keep)
        groups = [group for _ in range(DRAWS) for group in STRATEGIES[phase.strategy](kept, phase.subnets, rng)]
        macs = 3 * table.estimate([group[0] for group in groups]).sum()
        if tried := [arch for group in groups if len(group) > 1 for arch in group]:
            macs += table.estimate(tried).sum()
        if phase.distil and phase.teacher == "frozen":
            resolutions = [group[0].resolution for group in groups[:: len(groups) // DRAWS]]
            macs += table.estimate([space.largest(resolution) for resolution in resolutions]).sum()
        work.append(float(macs) / DRAWS * schedule.recipe.batch_size)
    return work
