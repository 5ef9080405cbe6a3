"""Measure a device once, to know the latency of every network of a space.

1. Time each distinct segment of the space alone, at a few resolutions; interpolate the others.
2. Time whole networks, from the smallest to the largest, and fit each segment's cost inside a network to both (`fit.py`).
3. Compare with networks that were not used. All networks are timed in turns, so the error is the table's own; how much a busy
   machine changes from one minute to the next comes on top of it.

What is measured is appended to files in a folder at once, so a profile that was interrupted goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DeviceError
from ..files import append_line, make_folder, read_json, read_lines, write_json
from ..plan import Plan
from ..space import Space
from .design import QUICK, Design, Effort, key_of
from .device import Device
from .meters import meter_of
from .table import LatencyTable, Measured, space_hash

__all__ = ["profile_space"]

Progress = Callable[[int, int, str], None]
GROUP_BYTES = 400_000_000  # of weights held at once: networks timed in turns share what disturbs the machine


def profile_space(
    space: Space,
    num_classes: int,
    device: Device,
    *,
    folder: Path | None = None,
    seed: int = 0,
    quick: bool = False,
    effort: Effort | None = None,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """The latency table of a space on a device of this machine.

    Args:
        space: whose networks are to be estimated.
        num_classes: outputs of the classifier.
        device: to measure.
        folder: keeps measurements as JSON lines; those that are there are used again. None keeps nothing.
        seed: of the networks drawn to fit and to test.
        quick: less of everything, for a first impression: some 20 s for networks of 0.2 ms instead of minutes.
        effort: in place of `quick`, how much exactly.
        on_progress: called with measurements done, measurements needed, and what is being measured.

    Raises:
        DeviceError: the machine is too noisy; more threads than it has; a folder that holds the profile of something else.
        MissingExtraError: the runtime's package is not installed.
        FileError: the folder cannot be written.
    """
    effort = effort or (QUICK if quick else Effort())
    design = Design(space, num_classes, effort, seed)
    log = _Log(space, num_classes, device, folder, on_progress, len(design.pieces) + len(design.first) + len(design.more))
    pieces = log.measure(design.pieces, "segments", effort.rounds, 4 * effort.limit)
    first, more = log.measure(design.first, "networks", 3 * effort.rounds, effort.limit), list[float]()
    if design.expected_error(pieces, first) > effort.target:
        more = log.measure(design.more, "networks", 3 * effort.rounds, effort.limit)
    costs, errors = design.fit(pieces, first, more)
    measured = Measured(device, log.meter.version, log.baseline_ms, errors)
    return LatencyTable(costs, num_classes, log.meter.processor, measured)


class _Log:
    """Measurements kept in a folder, and progress over all that are needed."""

    def __init__(
        self, space: Space, num_classes: int, device: Device, folder: Path | None, on_progress: Progress | None, needed: int
    ) -> None:
        self.on_progress, self.done, self.needed = on_progress, 0, needed
        self.meter = meter_of(device, lambda text: self._report(0, text))
        self.path = None if folder is None else make_folder(folder) / "measurements.jsonl"
        self.known: dict[str, float] = {}
        self.baseline_ms = 0.0
        what = {"format": "onceforall.profile/1", "space_hash": space_hash(space, num_classes), "device": device.spec}
        if folder is not None and (folder / "profile.json").exists():
            before = read_json(folder / "profile.json")
            if not isinstance(before, dict) or {key: before.get(key) for key in what} != what:
                raise DeviceError(f"{folder}: holds the profile of another space or device: choose another folder or delete it")
            self.baseline_ms = float(before["baseline_ms"])
            self.known = {
                str(r["key"]): float(r["ms"]) for r in read_lines(folder / "measurements.jsonl") if {"key", "ms"} <= set(r)
            }
        else:
            self.baseline_ms = self.meter.baseline_ms
            if folder is not None:
                write_json(folder / "profile.json", {**what, "baseline_ms": self.baseline_ms})

    def measure(self, plans: Sequence[Plan], what: str, rounds: int, limit: float) -> list[float]:
        """Times in ms; groups of plans are timed in turns."""
        keys = [key_of(plan) for plan in plans]
        missing = {key: plan for key, plan in zip(keys, plans, strict=True) if key not in self.known}
        self._report(len(plans) - len(missing), what)
        while missing:
            group = _group(missing)
            timings = self.meter.time(
                list(group.values()), rounds=rounds, max_rounds=2 * rounds, limit=limit, baseline_ms=self.baseline_ms
            )
            for key, timing in zip(group, timings, strict=True):
                self.known[key] = timing.ms
                del missing[key]
                if self.path is not None:
                    record = {"key": key, "what": what, "ms": timing.ms, "low": timing.low, "high": timing.high}
                    append_line(self.path, {**record, "repeats": timing.repeats})
            self._report(len(group), what)
        return [self.known[key] for key in keys]

    def _report(self, more: int, what: str) -> None:
        self.done += more
        if self.on_progress:
            self.on_progress(self.done, self.needed, what)


def _group(missing: dict[str, Plan]) -> dict[str, Plan]:
    """The first plans, as many as may be held in memory at once, at most 100."""
    group: dict[str, Plan] = {}
    size = 0
    for key, plan in missing.items():
        size += 4 * plan.params
        if group and (size > GROUP_BYTES or len(group) == 100):
            break
        group[key] = plan
    return group
