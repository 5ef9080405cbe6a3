"""Measure a device once, to know the latency of every network of a space.

1. Time each distinct segment of the space alone, at a few resolutions; interpolate the others.
2. Time whole networks, from the smallest to the largest, and fit each segment's cost inside a network to both (`fit.py`).
3. Compare with networks that were not used.

Not all networks fit into memory at once, and the machine changes from one group of them to the next. So one network of middle
size, the anchor, is timed in each group, `ANCHORS` times; a group's times are scaled to an anchor as fast as in the median group.

What is measured is appended to files in a folder at once, so a profile that was interrupted goes on where it stopped.
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DeviceError, FileError
from ..files import append_line, make_folder, read_json, read_lines, write_json
from ..plan import Plan
from ..readable import duration
from ..space import Space
from .design import QUICK, Design, Effort, key_of
from .device import Device
from .meters import meter_of
from .networks import middle
from .table import LatencyTable, Measured, space_hash

__all__ = ["profile_space"]

Progress = Callable[[int, int, str], None]
NETWORK_WORK = 0.4  # what a segment of a network adds to the time of measuring it, in segments alone
ANCHORS = 3
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
    again: bool = False,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """The latency table of a space on a device.

    Args:
        space: whose networks are to be estimated.
        num_classes: outputs of the classifier.
        device: to measure.
        folder: keeps measurements as JSON lines; those that are there are used again. None keeps nothing.
        seed: of the networks drawn to fit and to test.
        quick: less of everything, for a first impression: some 20 s for networks of 0.2 ms instead of minutes.
        effort: in place of `quick`, how much exactly.
        again: forget the measurements in the folder, once the device answers.
        on_progress: called with measurements done, measurements needed, and what is being measured with about how long it takes.

    Raises:
        DeviceError: the machine is too noisy; more threads than it has; a folder that holds the profile of something else.
        MissingExtraError: the runtime's package is not installed.
        FileError: the folder cannot be written, or holds a damaged profile.
    """
    effort = effort or (QUICK if quick else Effort())
    design = Design(space, num_classes, effort, seed)
    log = _Log(space, num_classes, device, folder, again, on_progress)
    log.plan([*design.pieces, *design.first, *design.more])
    pieces = log.measure(design.pieces, "segments", effort.rounds, 4 * effort.limit)
    first, more = log.measure(design.first, "networks", 3 * effort.rounds, effort.limit), list[float]()
    if design.expected_error(pieces, first) > effort.target:
        more = log.measure(design.more, "networks", 3 * effort.rounds, effort.limit)
    else:
        log.plan([*design.pieces, *design.first])
        log.report("networks")
    anchor_ms = log.anchor_ms
    costs, errors = design.fit(*([anchor_ms * ms for ms in times] for times in (pieces, first, more)))
    measured = Measured(device, log.meter.version, log.baseline_ms, anchor_ms, errors)
    return LatencyTable(costs, num_classes, log.meter.processor, measured)


class _Log:
    """Measurements kept in a folder, and progress over all that are needed."""

    def __init__(
        self, space: Space, num_classes: int, device: Device, folder: Path | None, again: bool, on_progress: Progress | None
    ) -> None:
        self.on_progress = on_progress
        self.needed: dict[str, float] = {}  # key -> how much work
        self.known: dict[str, float] = {}  # key -> time in units of the anchor's
        self.anchor, self.anchors = space.lower(middle(space), num_classes), list[float]()
        self.worked, self.seconds = 0.0, 0.0
        self.meter = meter_of(device, self.report)
        self.path = None if folder is None else make_folder(folder) / "measurements.jsonl"
        self.baseline_ms = self.meter.baseline_ms
        if folder is None or self.path is None:
            return
        what = {"format": "onceforall.profile/2", "space_hash": space_hash(space, num_classes), "device": device.spec}
        machine = {"processor": self.meter.processor, "version": self.meter.version}
        head = folder / "profile.json"
        if again:
            for path in (self.path, head):
                path.unlink(missing_ok=True)
        if head.exists():
            self.baseline_ms = _baseline_before(head, what, machine)
            for r in read_lines(self.path):
                if _is_measurement(r):
                    self.known[r["key"]] = r["ms"] / r["anchor_ms"]
                    self.anchors.append(r["anchor_ms"])
        else:
            write_json(head, {**what, **machine, "baseline_ms": self.baseline_ms})

    def plan(self, plans: Sequence[Plan]) -> None:
        """What is needed in all. A network takes longer than a segment alone: it has more of them, and more bursts."""
        self.needed = {key_of(plan): max(1.0, NETWORK_WORK * len(plan.segments)) for plan in plans}

    def measure(self, plans: Sequence[Plan], what: str, rounds: int, limit: float) -> list[float]:
        """Times in units of the anchor's; groups of plans are timed in turns."""
        keys = [key_of(plan) for plan in plans]
        missing = {key: plan for key, plan in zip(keys, plans, strict=True) if key not in self.known}
        self.report(what)
        while missing:
            group, started = _group(missing), time.monotonic()
            parts = np.linspace(0, len(group), ANCHORS).round().astype(int).tolist()
            plans_and_anchors = [self.anchor]
            for start, end in pairwise(parts):
                plans_and_anchors += [*list(group.values())[start:end], self.anchor]
            timings = self.meter.time(
                plans_and_anchors, rounds=rounds, max_rounds=2 * rounds, limit=limit, baseline_ms=self.baseline_ms
            )
            timed = list(zip(timings, plans_and_anchors, strict=True))
            anchor_ms = float(np.median([timing.ms for timing, plan in timed if plan is self.anchor]))
            timings = [timing for timing, plan in timed if plan is not self.anchor]
            for key, timing in zip(group, timings, strict=True):
                self.known[key] = timing.ms / anchor_ms
                self.anchors.append(anchor_ms)
                del missing[key]
                if self.path is not None:
                    record = {
                        "key": key,
                        "what": what,
                        "ms": timing.ms,
                        "low": timing.low,
                        "high": timing.high,
                        "anchor_ms": anchor_ms,
                    }
                    append_line(self.path, {**record, "repeats": timing.repeats})
            self.worked += sum(self.needed[key] for key in group)
            self.seconds += time.monotonic() - started
            self.report(what)
        return [self.known[key] for key in keys]

    @property
    def anchor_ms(self) -> float:
        """What the anchor takes in the median of all measurements."""
        return float(np.median(self.anchors))

    def report(self, what: str) -> None:
        """Tell how far it is."""
        if self.on_progress:
            left = sum(work for key, work in self.needed.items() if key not in self.known)
            about = f", about {duration(self.seconds / self.worked * left)} left" if left and self.worked else ""
            self.on_progress(sum(key in self.known for key in self.needed), len(self.needed), what + about)


def _baseline_before(path: Path, what: dict[str, str], machine: dict[str, str]) -> float:
    """What the reference kernel took when a profile was begun, which must be of the same space and device.

    Raises:
        DeviceError: it is another profile.
        FileError: damaged.
    """
    before: Any = read_json(path)
    if not isinstance(before, dict) or {key: before.get(key) for key in what} != what:
        raise DeviceError(f"{path.parent}: holds the profile of another space or device: choose another folder or delete it")
    for key, now in machine.items():
        if (then := before.get(key, now)) != now:
            raise DeviceError(f"{path.parent}: measured with {key} {then}, which is now {now}: measure all with --again")
    baseline = before.get("baseline_ms")
    if not isinstance(baseline, float) or not 0 < baseline < math.inf:
        raise FileError(f"{path}: damaged: measure all with --again")
    return baseline


def _is_measurement(record: dict[str, Any]) -> bool:
    """Whether a line can be used; `read_lines` has left out those that a crash tore."""
    times = [record.get("ms"), record.get("anchor_ms")]
    return isinstance(record.get("key"), str) and all(isinstance(ms, float) and 0 < ms < math.inf for ms in times)


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
