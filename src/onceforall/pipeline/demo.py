"""`ofa demo`: the whole path on the digits that scikit-learn ships: train, evaluate, profile, predict, specialise, report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .evaluate import Evaluation, evaluate
from .predict import predict
from .profile import profile
from .report import report
from .run import Run
from .search import Budget
from .specialise import Specialised, specialise
from .train import train

__all__ = ["Demo", "demo"]

Event = dict[str, Any]
BUDGETS = 3
SUBNETS = 48


@dataclass(frozen=True)
class Demo:
    """What the demo leaves: test accuracy of the two ends, three specialised networks, and the page."""

    run: Run
    ends: list[Evaluation]
    networks: list[Specialised]
    page: Path


def demo(
    out: Path,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_step: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Demo:
    """Run every command on the digits; a demo that was interrupted goes on where it stopped.

    Args:
        out: the run directory.
        on_event: see `train`.
        on_step: called with what is being done.
        on_progress: called with (done, total, note) while sub-networks are measured.
        should_stop: see `train`.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    on_step("train: one elastic network on 1,295 handwritten digits")
    run = train(
        "digits",
        out=out,
        preset="digits",
        resume=(out / "run.json").exists(),
        device="cpu",
        on_event=on_event,
        should_stop=should_stop,
    )
    on_step("evaluate: the largest and the smallest sub-network on test images")
    ends = [evaluate(out, arch=name, split="test")[0] for name in ("largest", "smallest")]
    on_step("profile: how fast is any sub-network on this machine")
    table = profile(out, quick=True, on_progress=on_progress)
    on_step("predict: how accurate is any sub-network")
    predict(out, subnets=SUBNETS, on_progress=on_progress)
    fastest, slowest = table.estimate([run.space.smallest(), run.space.largest()]).tolist()
    step = (slowest / fastest) ** (1 / (BUDGETS + 1))
    budgets = [Budget(latency_ms=float(f"{fastest * step ** (i + 1):.2g}")) for i in range(BUDGETS)]
    networks = specialise(out, budgets, on_step=on_step)
    on_step("report: everything on one page")
    return Demo(run, ends, networks, report(out))
