"""Training: schedules, strategies, the training loop, and checkpoints."""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .finetune import finetune, finetuning
    from .loop import Trainer
    from .losses import DIVERGENCES
    from .schedule import Phase, Recipe, Schedule
    from .schemes import SCHEMES, progressive_shrinking
    from .step import Settings, train_step
    from .strategies import STRATEGIES
    from .work import Remaining, work_per_step
    from .world import World

__all__ = [
    "DIVERGENCES", "SCHEMES", "STRATEGIES", "Phase", "Recipe", "Remaining", "Schedule", "Settings", "Trainer", "World", "finetune",
    "finetuning", "progressive_shrinking", "train_step", "work_per_step",
]  # fmt: skip

load_on_use(__name__)
