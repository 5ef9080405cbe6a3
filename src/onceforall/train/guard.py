"""What tells that a training has diverged."""

import math
from collections.abc import Callable
from typing import Any

from ..errors import StatisticsError
from .state import State
from .world import World

__all__ = ["collapsed", "diverged", "validated"]

Event = dict[str, Any]
COLLAPSE = 0.2  # of what the largest network had learnt beyond chance, below which it counts as collapsed
HIGH_LOSS = 20.0  # times what chance gives, above which training has diverged


def diverged(loss: float, state: State, num_classes: int) -> str:
    """Why the present state is not worth keeping; "" if it is."""
    if not math.isfinite(loss):
        return "the loss stopped being finite"
    if not state.finite():
        return "the weights stopped being finite"
    chance = math.log(max(2, num_classes)) * (1 + state.schedule.recipe.distil_weight)
    return (
        f"the loss rose to {loss:.3g}, far above the {chance:.3g} of a network that has learnt nothing"
        if loss > HIGH_LOSS * chance
        else ""
    )


def validated(validate: Callable[[], list[Event]], state: State, world: World) -> tuple[list[Event], list[str]]:
    """The records of all processes in turns, and what kept some from measuring: the same in all of them."""
    own, failure = list[Event](), ""
    with state.averaged():
        try:
            own = validate()
        except StatisticsError as error:
            failure = str(error)
    state.network.train()
    parts = world.gather((own, failure))
    turns = range(max(len(records) for records, _ in parts))
    records = [records[turn] for turn in turns for records, _ in parts if turn < len(records)]
    return records, [failure for _, failure in parts if failure]


def collapsed(top1: float, best: float, chance: float) -> bool:
    """Whether a network that had learnt something has lost most of it."""
    had_learnt = best - chance > min(2 * chance, (1 - chance) / 2)
    return had_learnt and top1 < chance + COLLAPSE * (best - chance)
