"""Progress of a running command: a live bar on a terminal, plain lines elsewhere, all on standard error; and what Ctrl-C does
meanwhile."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from ..common.processors import leads
from ..common.progress import Progress
from ..common.readable import duration, percent, plural
from ..scores import METRICS
from .signals import handled, interrupt, signal_name

if TYPE_CHECKING:  # imported only when needed
    from rich.console import Console

SILENCE_S = 15.0  # between lines where there is no terminal
TRAINING_SILENCE_S = 60.0


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print one line without markup, highlighting or wrapping."""
    console.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


class _Lasting(io.TextIOBase):
    """A text stream that ignores a closed terminal: a training must still write its checkpoint."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):  # ValueError: it was closed first
            self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def lasting_stream(stream: TextIO) -> IO[str]:
    """Wrap the stream so that writing does not fail when its terminal is closed or its disk is full."""
    return cast(IO[str], _Lasting(stream))


class TrainView:
    """Shows the events of `pipeline.train`: one bar over the whole schedule, one line per validation."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=1.0, note="")
        self.validated: tuple[int, list[str]] = (-1, [])
        self.metric = METRICS["top1"]
        self.training = False
        self.printed = time.monotonic()  # the last line without a terminal

    def __enter__(self) -> TrainView:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()
        self.bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "validation":  # several of these make one line, printed before the next event
            self._flush()
        match event["event"]:
            case "download":
                self._download(**event)
            case "decode":
                self.bar.update(self.task, description="decoding", completed=event["done"] / max(1, event["total"]))
            case "data":
                counts = f"{event['train']} train, {event['held_out']} held-out, {event['test']} test, {event['classes']} classes"
                left_out = f"; {event['problems']} unreadable images left out (problems.jsonl)" if event["problems"] else ""
                twins = f"; {plural(event['duplicates'], 'duplicate')} dropped" if event["duplicates"] else ""
                say(self.console, f"images: {counts}{left_out}{twins}")
            case "note":
                say(self.console, event["text"])
            case "phase":
                self.training = True
                say(self.console, f"phase {event['phase']}: {event['steps']} steps, peak rate {event['rate']:.3g}")
            case "train":
                self.training = True
                left = event["remaining_s"]
                note = f"loss {event['loss']:.3f}" + ("" if left is None else f", {duration(left)} left")
                self.bar.update(self.task, description=event["phase"], completed=event["progress"], note=note)
                if not self.console.is_terminal and time.monotonic() > self.printed + TRAINING_SILENCE_S:
                    say(self.console, f"  step {event['step']}: {note}")
                    self.printed = time.monotonic()
            case "rollback":
                where = f"back from step {event['lost_step']} to step {event['step']}, learning rates × {event['rate_factor']:g}"
                say(self.console, f"{event['reason']}: {where}")
            case "validation":
                if self.validated[0] != event["step"]:
                    self._flush()
                    self.validated = (event["step"], [])
                self.metric = METRICS[event.get("metric", "top1")]
                self.validated[1].append(f"{event['subnet']} {percent(event.get('score', event['top1']))}")

    def _download(self, *, event: str, file: str, done: int, total: int | None) -> None:
        """Show the progress of a download; the total may be unknown."""
        size = f"{done / 1e6:,.1f}" if total is None else f"{done / 1e6:,.1f} of {total / 1e6:,.1f}"
        self.bar.update(self.task, description=event, completed=done / (total or math.inf), note=f"{file}: {size} MB")
        if done == total:
            say(self.console, f"downloaded: {file}, {done / 1e6:,.1f} MB")
            self.bar.update(self.task, description="starting", completed=0.0, note="")
        elif not self.console.is_terminal and time.monotonic() > self.printed + SILENCE_S:
            say(self.console, f"{event} {file}: {size} MB")
            self.printed = time.monotonic()

    def step(self, text: str) -> None:
        """Show that a stage of the demo begins."""
        self._flush()
        self.training = False
        say(self.console, text, style="bold")
        self.bar.update(self.task, description="", completed=0.0, note="")

    def count(self, done: int, total: int, note: str = "") -> None:
        """Show how many items of a stage are done."""
        self.bar.update(self.task, completed=done / max(1, total), note=f"{done}/{total} {note}")

    def _flush(self) -> None:
        step, parts = self.validated
        if parts:
            say(self.console, f"  step {step}: held-out {self.metric} {', '.join(parts)}")
        self.validated = (-1, [])


@contextmanager
def counting(what: str) -> Iterator[Progress]:
    """Show how many items are done: as a bar on a terminal, else as lines."""
    from rich import progress as bars

    console, printed = stderr(), -math.inf
    columns = bars.TextColumn(what), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn()
    note_column = bars.TextColumn("{task.fields[note]}")
    with bars.Progress(*columns, note_column, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, note="")

        def count(done: int, total: int, note: str) -> None:
            nonlocal printed
            bar.update(task, completed=done, total=total, note=note)
            if not console.is_terminal and time.monotonic() > printed + SILENCE_S:
                say(console, f"{what}: {done} of {total} {note}".rstrip())
                printed = time.monotonic()

        yield Progress(count=count)


def run_record(run: Any) -> dict[str, Any]:
    """Describe a new run directory as JSON values."""
    return {
        "folder": str(run.folder),
        "weights": run.weights_hash(),
        "space": run.info.space,
        "classes": list(run.info.classes),
        "images": run.info.images,
    }


def stderr() -> Console:
    """A console on standard error, for progress and messages."""
    from rich.console import Console

    return Console(file=lasting_stream(sys.stderr))


def tell(text: str) -> None:
    """Print one line to standard error; under torchrun only in the first process."""
    if leads():
        say(stderr(), text)


@contextmanager
def showing() -> Iterator[Progress]:
    """Show the progress of a command that may train. During training, the first signal stops after a checkpoint; otherwise it
    interrupts at once."""
    asked: list[int] = []
    with TrainView(stderr()) as view:

        def ask(number: int, frame: FrameType | None) -> None:
            if asked or not view.training:
                interrupt(number, frame)
            asked.append(number)
            say(view.console, f"{signal_name(number)}: stopping with a checkpoint after this step; repeat to stop at once")

        with handled(ask):
            yield Progress(say=view.step, count=view.count, event=view, stopped=lambda: bool(asked))
