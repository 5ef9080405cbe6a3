"""Whether the arguments of `ofa train` make sense, by themselves and for the run that they resume."""

import json
from collections.abc import Callable
from typing import Any

import torch

from ..errors import TrainingError
from .images import lasting
from .run import Run

__all__ = ["check_numbers", "require_same", "require_same_threads"]


def check_numbers(*, seed: int, epochs: float | None, budget_s: float | None) -> None:
    """Do nothing if a training can have these arguments.

    Raises:
        TrainingError: it cannot.
    """
    if not 0 <= seed < 2**63:
        raise TrainingError(f"the seed is {seed}: it must be from 0 to 2^63 - 1")
    for name, value in (("epochs", epochs), ("seconds to train", budget_s)):
        if value is not None and not 0 < value < 1e9:
            raise TrainingError(f"{value:g} {name}: it must be a number above 0 and below a billion")
    if epochs is not None and budget_s is not None:
        raise TrainingError("epochs and a time budget both say how long to train: give one of them")


def require_same(run: Run, data: str, given: dict[str, Any]) -> None:
    """A resumed training follows the arguments of its first start; those given again must not differ.

    Raises:
        TrainingError: they do, or there is nothing to train.
    """
    if run.info.imported is not None:
        raise TrainingError(
            f"{run.folder} holds imported weights ({run.info.imported.name}), which cannot be trained further yet: choose another "
            "--out"
        )
    source = run.require_images().source
    if source not in (data, lasting(data)):
        raise TrainingError(f"{run.folder} was trained on {source}, not on {data}: resume with the same data")
    first, own = run.info.arguments, {"seed": 0, "holdout": 0.1}
    for name, value in json.loads(json.dumps(given)).items():
        if first and value not in (None, own.get(name), first.get(name)):
            raise TrainingError(
                f"{run.folder} was started with {name} {first.get(name)}, not {value}: resume without it, or choose another --out"
            )


def require_same_threads(run: Run, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Sums of floating-point numbers depend on how they are split over threads."""
    before, now = run.info.environment["threads"], torch.get_num_threads()
    if before != now:
        on_event(
            {"event": "note", "text": f"begun with {before} threads, going on with {now}: weights may differ in the last digits"}
        )
