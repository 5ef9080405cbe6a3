"""What several commands share: messages, and what Ctrl-C does."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..readable import percent
from .signals import handled, interrupt, name_of
from .views import TrainView, lasting, say

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_record", "stderr", "stopping", "tell", "tell_prediction"]

DOUBTFUL_TAU = 0.3  # that chance in measuring allows


def run_record(run: Any) -> dict[str, Any]:
    """What a new run directory is, as JSON values."""
    return {
        "folder": str(run.folder),
        "weights": run.weights_hash(),
        "space": run.info.space,
        "classes": list(run.info.classes),
        "images": run.info.images,
    }


def stderr() -> "Console":
    """Where progress and messages go."""
    from rich.console import Console

    return Console(file=lasting(sys.stderr))


def tell(text: str) -> None:
    """Print one line there; of torchrun's processes only the first one's."""
    if os.environ.get("RANK", "0") == "0":
        say(stderr(), text)


def tell_prediction(found: Any, as_json: bool) -> None:
    """Print what a `pipeline.predictor.Prediction` is, and its errors."""
    e, kind, fitted = found.errors, found.predictor.kind, len(found.fitted)
    if as_json:
        print(json.dumps({**asdict(e), "ceiling": found.ceiling, "fitted_on": fitted, "kind": kind}))
        return
    most = "" if found.ceiling is None else f" (a perfect one would reach about {found.ceiling:.2f}: measurements are noisy)"
    print(f"fitted on {fitted} sub-networks ({kind}); on {e.n} others:")
    print(f"RMSE {percent(e.rmse, 2)}, Kendall tau {e.kendall_tau:.3f}{most}, 90 % error bars hold {percent(e.coverage90, 0)}")
    if found.ceiling is not None and found.ceiling < DOUBTFUL_TAU:
        tell(
            f"{found.checked[0].images} held-out images can hardly tell these sub-networks apart: for a better choice train with "
            "more images, or hold out more of them (ofa train --holdout 0.3)"
        )


@contextmanager
def stopping(view: TrainView) -> Iterator[Callable[[], bool]]:
    """While steps are trained, the first signal to end asks for a stop after a checkpoint; otherwise it interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked or not view.training:
            interrupt(number, frame)
        asked.append(number)
        say(view.console, f"{name_of(number)}: stopping with a checkpoint after this step; once more to stop at once")

    with handled(ask):
        yield lambda: bool(asked)
