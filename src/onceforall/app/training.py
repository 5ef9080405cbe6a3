"""What metrics.jsonl says about a training, read as it grows, and thinned for a chart."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OnceForAllError
from ..files import busy, read_lines, read_text
from ..pipeline import Run
from ..train import Remaining, Schedule, work_per_step

__all__ = ["training"]

MOST_POINTS = 300
RECENT = 400  # records that tell the speed


def training(run: Run) -> dict[str, Any]:
    """How far training is: curves, phases, time left; as JSON values."""
    records = read_lines(run.folder / "metrics.jsonl")
    train = [r for r in records if r["event"] == "train"]
    validations = [r for r in records if r["event"] == "validation"]
    steps = _number(records, "step")
    finished = (run.folder / "supernet.safetensors").exists()
    schedule = _schedule(run.folder / "schedule.json")
    subnets = dict.fromkeys(str(r["subnet"]) for r in validations)
    return {
        "state": "imported" if run.info.imported else "done" if finished else "going on" if busy(run.folder) else "stopped",
        "step": steps,
        "steps": schedule.steps if schedule else None,
        "seconds": _number(records, "seconds"),
        "remaining_s": None if finished or schedule is None else _remaining(run, schedule, records),
        "phases": [{"name": r["phase"], "step": r["step"]} for r in records if r["event"] == "phase"],
        "loss": _thinned([r["step"] for r in train], [r["loss"] for r in train]),
        "top1": {name: [[r["step"], r["top1"]] for r in validations if r["subnet"] == name] for name in subnets},
    }


def _number(records: list[dict[str, Any]], key: str) -> float:
    return max((r[key] for r in records), default=0)


def _schedule(path: Path) -> Schedule | None:
    try:
        return Schedule.from_json(read_text(path)) if path.exists() else None
    except OnceForAllError:
        return None


def _remaining(run: Run, schedule: Schedule, records: list[dict[str, Any]]) -> float | None:
    """Seconds, from the work that the last records got done."""
    work = work_per_step(schedule, run.space, run.num_classes)

    def done(step: int) -> float:
        return sum(w * steps for w, steps in zip(work, schedule.steps_done(step), strict=True))

    left, found = Remaining(done(schedule.steps)), None
    for record in records[-RECENT:]:
        found = left(done(record["step"]), record["seconds"])
    return found


def _thinned(xs: list[float], ys: list[float]) -> list[list[float]]:
    parts = np.array_split(np.arange(len(xs)), min(len(xs), MOST_POINTS)) if xs else []
    return [[float(np.mean([xs[i] for i in part])), float(np.mean([ys[i] for i in part]))] for part in parts]
