"""`ofa status`: what a run directory holds, what is missing, out of date or damaged, and the commands that come next."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..advice import not_a_run, ofa
from ..errors import FileError, OnceForAllError
from ..files import reading_or_writing
from .limits import middle_ms
from .run import Run
from .status_parts import PARTS, Part, State, fit_command, line

__all__ = ["Part", "State", "Status", "status"]


@dataclass(frozen=True)
class Status:
    """A run directory: its parts in the order of use, and the commands that can be given next, the most useful first."""

    folder: Path
    parts: tuple[Part, ...]
    next: tuple[str, ...]


def status(folder: Path) -> Status:
    """Tell what is in a run directory, without changing anything. What is damaged becomes a part that says so.

    Args:
        folder: the run directory.

    Raises:
        FileError: there is no such folder, or nothing of a run in it.
    """
    folder = Path(folder)
    with reading_or_writing(folder):
        names = {path.name for path in folder.iterdir()}
    if "run.json" not in names:
        if not names & {"schedule.json", "supernet.safetensors"}:
            raise FileError(not_a_run(folder))
        text = "stopped before run.json was written: give the ofa train or ofa import that made it again"
        return Status(folder, (Part("run", "unfinished", text),), ())
    try:
        run = Run.open(folder)
    except OnceForAllError as error:
        return Status(folder, (Part("run", "damaged", line(error)),), ())
    parts: list[Part] = []
    for name, tell in PARTS.items():
        try:
            parts.extend(tell(run))
        except (OnceForAllError, OSError) as error:
            parts.append(Part(name, "damaged", line(error)))
    return Status(folder, tuple(parts), tuple(_next(run, parts)))


def _next(run: Run, parts: list[Part]) -> Iterator[str]:
    """The commands that can be given now; with a profile and a predictor, a latency from the middle of what the device can do."""
    ready = any(part.name in ("training", "weights") and part.state == "done" for part in parts)
    gone = any(part.name == "images" for part in parts)
    usable = ready and run.info.data is not None and not gone
    busy_now = any(part.name == "training" and part.state == "going on" for part in parts)  # a profile needs a quiet machine
    always = {"images", "training", "report"} | (set() if busy_now else {"profile"})
    order = ("images", "training", "profile", "predictor", "evaluations", "report")
    commands = [
        part.command
        for name in order
        for part in parts
        if part.name == name and part.command and part.state != "going on" and (usable or name in always)
    ]
    yield from (command for command in commands if "ofa report" not in command)
    if usable and any(part.name == "predictor" and (part.state == "done" or part.command == fit_command(run)) for part in parts):
        for part in parts:
            if part.name == "profile" and part.state == "done":
                limits = ("--device", str(part.device), "--latency", f"{middle_ms(run, str(part.device)):.2g}ms")
                yield ofa("search", run.folder, *limits)
                yield ofa("specialise", run.folder, *limits)
    yield from (command for command in commands if "ofa report" in command)
