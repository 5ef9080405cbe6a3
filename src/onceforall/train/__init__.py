"""Training: schedules, strategies, the loop and its checkpoints."""

from .loop import Settings, train, train_step
from .schedule import Phase, Recipe, Schedule, progressive_shrinking
from .strategies import STRATEGIES
from .work import work_per_step

__all__ = [
    "STRATEGIES",
    "Phase",
    "Recipe",
    "Schedule",
    "Settings",
    "progressive_shrinking",
    "train",
    "train_step",
    "work_per_step",
]
