"""The computation that a schedule takes, for time estimates and budgets."""

from collections import deque
from statistics import median

import numpy as np

from ..costs import CostTable, macs_table, segment_table
from ..space import Space
from .schedule import Phase, Schedule
from .strategies import STRATEGIES, Groups

DRAWS = 64


def work_per_step(schedule: Schedule, space: Space, num_classes: int) -> list[float]:
    """Expected multiply-accumulates per step for each phase; a forward and backward pass count as three forward passes.

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
    """Multiply-accumulates per image of steps that train these groups, from the MACs of all networks in the space."""
    groups = [group for draw in draws for group in draw]
    macs = 3 * table.estimate([group[0] for group in groups]).sum()
    if tried := [arch for group in groups if len(group) > 1 for arch in group]:
        macs += table.estimate(tried).sum()
    if phase.distil and phase.teacher == "frozen":
        space = table.segments.space
        macs += table.estimate([space.largest(draw[0][0].resolution) for draw in draws]).sum()
    return float(macs)


RECENT = 51  # intervals and pauses in a median, which outliers in fewer than half of them do not affect
SMOOTHING = 0.1  # exponential smoothing of the estimate, per report


class Remaining:
    """Estimates the remaining seconds; call it at every progress report.

    Args:
        total: work of the whole training, in any unit.
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self.last: tuple[float, float] | None = None
        self.start, self.paused_until = 0.0, 0.0
        self.rates: deque[float] = deque(maxlen=RECENT)  # seconds per unit of work
        self.pauses: deque[float] = deque(maxlen=RECENT)  # seconds without work, such as a validation
        self.reports, self.paused, self.rate, self.new_pause = 0, 0, 0.0, True

    def __call__(self, done: float, seconds: float) -> float | None:
        """The remaining seconds, None while unknown.

        Args:
            done: work completed so far.
            seconds: time it took so far.
        """
        if self.last is None:
            self.start = done
        elif done > self.last[0]:
            self.rates.append((seconds - self.last[1]) / (done - self.last[0]))
            self.reports += 1
            self.rate += max(SMOOTHING, 1 / self.reports) * (median(self.rates) - self.rate)
        elif done == self.last[0] and seconds > self.last[1]:
            self._pause(done, seconds - self.last[1])
        else:  # returned to an earlier state
            self.start = min(self.start, done)
        self.new_pause = self.last is None or done != self.last[0]
        self.last = done, seconds
        if not self.rates:
            return None
        left, often = self.total - done, self.paused_until - self.start
        between = median(self.pauses) * self.paused * left / often if self.pauses and often > 0 else 0.0
        return max(0.0, left * self.rate + between)

    def _pause(self, done: float, seconds: float) -> None:
        """Record a pause; consecutive reports without work in between extend it."""
        self.paused_until = done
        if self.new_pause:
            self.pauses.append(seconds)
            self.paused += 1
        else:
            self.pauses[-1] += seconds
