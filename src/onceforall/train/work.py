"""How much there is to compute in a schedule, for time estimates and budgets."""

import numpy as np

from ..costs import macs_table, segment_table
from ..space import Space
from .schedule import Schedule
from .strategies import STRATEGIES

__all__ = ["work_per_step"]

DRAWS = 64


def work_per_step(schedule: Schedule, space: Space, num_classes: int) -> list[float]:
    """Expected multiply-accumulates of one step, for each phase: forward and backward count three forward passes."""
    table = macs_table(segment_table(space, num_classes))
    rng = np.random.default_rng(0)
    work = []
    for phase in schedule.phases:
        kept = space.keep_largest(**phase.keep)
        steps = [STRATEGIES[phase.strategy](kept, phase.subnets, rng) for _ in range(DRAWS)]
        teachers = [space.largest(archs[0].resolution) for archs in steps] if phase.distil else []
        macs = 3 * table.estimate([arch for archs in steps for arch in archs]).sum()
        macs += table.estimate(teachers).sum() if teachers else 0.0
        work.append(float(macs) / DRAWS * schedule.recipe.batch_size)
    return work
