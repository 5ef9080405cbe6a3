"""metrics.jsonl: the records of a training, written as they come and consistent with the checkpoints."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.files import append_line, read_lines, write_text
from ...common.places import is_unicode
from ...common.progress import Event
from ...common.records import read_records
from ...errors import Note
from ...latency.resources import EnergyCounter
from ...space import Space
from ...train import Remaining, Schedule, work_per_step


@dataclass(frozen=True)
class Metric:
    """A record of metrics.jsonl: an event ("phase", "train", "validation", "rollback" or "note") with its step and time in seconds.

    Args:
        loss: loss of a training step; `rate` is its learning rate.
        subnet: the validated sub-network; `top1` is its held-out top-1, and `score` the run's metric if that is another one.
        joules: energy that training has used so far, if the processor counts it.
        kept: the step whose weights are kept, if not the last one.
    """

    event: str
    step: int
    seconds: float
    phase: str = ""
    loss: float | None = None
    rate: float | None = None
    subnet: str = ""
    top1: float | None = None
    score: float | None = None
    joules: float = 0.0
    kept: int | None = None

    @property
    def value(self) -> float | None:
        """The run's metric in a validation."""
        return self.top1 if self.score is None else self.score


@dataclass(frozen=True)
class Metrics:
    """All records of a training."""

    records: tuple[Metric, ...]

    @classmethod
    def of(cls, folder: Path) -> "Metrics":
        """The metrics of the training in a folder; empty if there are none.

        Raises:
            FileError: a record is invalid.
        """
        return cls(tuple(read_records(folder / "metrics.jsonl", Metric)))

    @property
    def step(self) -> int:
        """Steps done; the training may have ended early."""
        return max((record.step for record in self.records), default=0)

    @property
    def seconds(self) -> float | None:
        """Seconds of training; None without records."""
        return max((record.seconds for record in self.records), default=None)

    @property
    def joules(self) -> float | None:
        """Energy in joules; None if the processor does not count it."""
        return max((record.joules for record in self.records), default=0.0) or None

    @property
    def kept(self) -> int:
        """The step whose weights are kept."""
        return next((record.kept for record in reversed(self.records) if record.kept is not None), self.step)


def forget_after(path: Path, step: int) -> None:
    """Drop the records that training repeats when it is resumed after `step` steps."""
    before = read_lines(path)
    kept = [r for r in before if r["step"] < step or (r["step"] == step > 0 and r["event"] != "phase")]
    if len(kept) < len(before):
        write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))


def metrics_writer(
    folder: Path, schedule: Schedule, space: Space, num_classes: int, step: int, tell: Callable[[Event], None]
) -> Callable[[Event], None]:
    """A function that writes each event of a training to metrics.jsonl and TensorBoard and passes it on.

    If the processor counts energy and this user may read it, records have "joules" of the training so far. Events passed on
    also have "progress", the share of the schedule's work that is done, and "remaining_s", None at first.

    Args:
        step: the step from which this process continues.
        tell: gets the events.
    """
    work = work_per_step(schedule, space, num_classes)
    total = sum(w * phase.steps for w, phase in zip(work, schedule.phases, strict=True))
    remaining = Remaining(total)
    board = _board(folder, step)
    counter, joules_before = EnergyCounter(), Metrics.of(folder).joules or 0.0

    def write(event: Event) -> None:
        if event["event"] == "rollback":  # later steps are repeated; the record says how far training had come
            forget_after(folder / "metrics.jsonl", event["step"])
        if (joules := counter.joules()) is not None:
            event = {**event, "joules": round(joules_before + joules, 1)}
        append_line(folder / "metrics.jsonl", event)
        if board is not None:
            for key in ("loss", "rate", "top1"):
                if key in event:
                    board.add_scalar(f"{key}/{event['subnet']}" if "subnet" in event else key, event[key], event["step"])
        done = sum(w * steps for w, steps in zip(work, schedule.steps_done(event["step"]), strict=True))
        tell({**event, "progress": done / total if total else 1.0, "remaining_s": remaining(done, event["seconds"])})

    return write


def _board(folder: Path, step: int) -> Any:
    """A TensorBoard writer that drops records after `step`, or None if TensorBoard is missing or cannot open the path."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    if not is_unicode(folder):
        why = "no TensorBoard log, because TensorBoard cannot open a path that is not UTF-8"
        warnings.warn(f"{folder}: {why}; metrics.jsonl has everything", Note, 2)
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
