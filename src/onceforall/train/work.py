"""How much there is to compute in a schedule, for time estimates and budgets."""

import numpy as np

from ..costs import CostTable, macs_table, segment_table
from ..space import Space
from .schedule import Phase, Schedule
from .strategies import STRATEGIES, Groups

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
        draws = [STRATEGIES[phase.strategy](kept, phase.subnets, rng) for _ in range(DRAWS)]
        work.append(work_of_draws(phase, table, draws) / DRAWS * schedule.recipe.batch_size)
    return work


def work_of_draws(phase: Phase, table: CostTable, draws: list[Groups]) -> float:
    """Multiply-accumulates of steps that train these groups, for one image; `table` holds those of the whole space's networks."""
    groups = [group for draw in draws for group in draw]
    macs = 3 * table.estimate([group[0] for group in groups]).sum()
    if tried := [arch for group in groups if len(group) > 1 for arch in group]:
        macs += table.estimate(tried).sum()
    if phase.distil and phase.teacher == "frozen":
        space = table.segments.space
        macs += table.estimate([space.largest(draw[0][0].resolution) for draw in draws]).sum()
    return float(macs)
