"""Profile a device once, to estimate the latency of every network of a space.

1. Time each distinct segment of the space alone, at a few resolutions; interpolate the others.
2. Time whole networks, from the smallest to the largest, and fit each segment's cost inside a network to both (`fit.py`).
3. Compare the estimates with held-out networks.

Not all networks fit into memory at once, the machine changes between groups of them, and a reloaded network may be a few percent
faster or slower. So every network is timed in several groups, shuffled and reloaded each time, and times are split into a
component of the network and one of the group (`_leveled`). One network of medium size, the anchor, is in every group.

Every measurement is immediately appended to files in a folder, so an interrupted profile resumes where it stopped.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ..common.files import append_line, make_folder, one_at_a_time, read_json, read_lines, write_json
from ..common.progress import QUIET, Progress
from ..common.readable import duration
from ..errors import DeviceError, FileError
from ..plan import Plan
from ..space import Space
from .design import QUICK, Design, Effort, key_of
from .device import Device
from .meters import meter_of
from .table import LatencyTable, Measured, middle, space_hash

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
NETWORK_WORK = 0.4  # time to measure a network per segment, relative to a segment alone
SWEEPS = 100
PATIENCE_S = 4.0  # to wait for narrow intervals in a group of networks: another pass is worth more than more rounds
USUAL = 0.02  # typical relative difference between two measurements of a network
GROUP_BYTES = 400_000_000  # weights held at once: networks timed in turns share the machine's disturbances
PROFILES = 5  # latest profiles to average: older ones may come from another operating system
ALIKE = 0.1  # maximum relative difference of two profiles' levels: beyond it, the machine is another one or was disturbed


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
    levels: Path | None = None,
    progress: Progress = QUIET,
) -> LatencyTable:
    """Measure the latency table of a space on a device.

    Args:
        space: the space whose networks the table estimates.
        folder: stores measurements as JSON lines; existing ones are reused. None stores nothing.
        seed: seed for drawing the networks to fit and to test.
        quick: measure less of everything for a first impression: about 20 s for networks of 0.2 ms instead of minutes.
        effort: exactly how much to measure, instead of `quick`.
        again: delete the measurements in the folder once the device responds.
        levels: file with the levels of devices in their profiles; the table then has the mean level of this device's latest
            profiles, see `settled_level`. If it is None, or `folder` is, the level is that of this profile alone.
        progress: its `count` receives the number of measurements done, the number needed, and what is being measured, with the
            remaining time.

    Raises:
        DeviceError: the machine is too noisy, has too few processors, or the folder holds another profile.
        MissingExtraError: the runtime's package is not installed.
        FileError: the folder cannot be written, or holds a damaged profile.
    """
    effort = effort or (QUICK if quick else Effort())
    design = Design(space, num_classes, effort, seed)
    log = _Log(space, num_classes, device, effort.passes, folder, again, progress)
    log.plan(design.pieces, [*design.first, *design.more])
    log.measure(design.pieces, "segments", 1, effort.rounds, 4 * effort.limit)
    log.measure(design.first, "networks", effort.passes, effort.rounds, effort.limit)
    more = list[float]()
    pieces, first = log.times(design.pieces), log.times(design.first)
    if design.expected_error(pieces, first) > effort.target:
        log.measure(design.more, "networks", effort.passes, effort.rounds, effort.limit)
        pieces, first, more = log.times(design.pieces), log.times(design.first), log.times(design.more)
    else:
        log.plan(design.pieces, design.first)
        log.report("networks")
    (anchor_ms,) = log.times([log.anchor])
    level_ms, profiles = (anchor_ms, 1) if levels is None else log.settled(levels, anchor_ms)
    factor = level_ms / anchor_ms
    costs, errors = design.fit(*([factor * ms for ms in part] for part in (pieces, first, more)))
    measured = Measured(device, log.meter.version, log.baseline_ms, level_ms, errors, profiles)
    return LatencyTable(costs, num_classes, log.meter.processor, measured)


class _Log:
    """Measurements stored in a folder, and the progress over all that are needed."""

    def __init__(
        self, space: Space, num_classes: int, device: Device, passes: int, folder: Path | None, again: bool, progress: Progress
    ) -> None:
        self.passes, self.progress = passes, progress
        self.needed: dict[tuple[str, int], float] = {}  # (key, pass) -> amount of work
        self.records: list[tuple[str, int, float]] = []  # key, group, ms
        self.done: Counter[str] = Counter()  # completed passes of each key
        self.anchor = space.lower(middle(space), num_classes)
        self.worked, self.seconds = 0.0, 0.0
        self.meter = meter_of(device, self.report)
        self.path = None if folder is None else make_folder(folder) / "measurements.jsonl"
        self.baseline_ms = self.meter.baseline_ms
        if folder is None or self.path is None:
            return
        what = {"format": "onceforall.profile/3", "space_hash": space_hash(space, num_classes), "device": device.spec}
        machine = {"processor": self.meter.processor, "version": self.meter.version}
        self.same, self.head = {"device": device.spec, **machine}, folder / "profile.json"
        if again:
            for path in (self.path, self.head):
                path.unlink(missing_ok=True)
        if self.head.exists():
            self.baseline_ms = _baseline_before(self.head, what, machine)
            for r in filter(_is_measurement, read_lines(self.path)):
                self._add(r["key"], r["group"], r["ms"])
        else:
            write_json(self.head, {**what, **machine, "baseline_ms": self.baseline_ms, "profile": uuid4().hex})

    def plan(self, pieces: Sequence[Plan], networks: Sequence[Plan]) -> None:
        """Register all needed measurements, with their work: a network takes longer than a single segment."""
        self.needed = {(key_of(plan), 0): 1.0 for plan in pieces}
        work = {key_of(plan): max(1.0, NETWORK_WORK * len(plan.segments)) for plan in networks}
        self.needed |= {(key, number): work[key] for key in work for number in range(self.passes)}

    def measure(self, plans: Sequence[Plan], what: str, passes: int, rounds: int, limit: float) -> None:
        """Time plans in turns, in groups, each plan in `passes` groups."""
        self.report(what)
        arguments: dict[str, Any] = {"rounds": rounds, "max_rounds": 2 * rounds, "limit": limit, "baseline_ms": self.baseline_ms}
        if passes > 1:
            arguments["patience_s"] = PATIENCE_S
        for number in range(passes):
            order = np.random.default_rng(number).permutation(len(plans))
            missing = {key_of(plans[i]): plans[i] for i in order}
            missing = {key: plan for key, plan in missing.items() if self.done[key] <= number}
            while missing:
                group, started = _group(missing), time.monotonic()
                timings = self.meter.time([*group.values(), self.anchor], **arguments)
                where = 1 + max((group for _, group, _ in self.records), default=0)
                for key, timing in zip([*group, key_of(self.anchor)], timings, strict=True):
                    self._add(key, where, timing.ms)
                    missing.pop(key, None)
                    if self.path is not None:
                        kind = what if key in group else "anchor"
                        record = {"key": key, "what": kind, "group": where, "ms": timing.ms, "low": timing.low, "high": timing.high}
                        append_line(self.path, {**record, "repeats": timing.repeats})
                self.worked += sum(self.needed[key, number] for key in group)
                self.seconds += time.monotonic() - started
                self.report(what)

    def times(self, plans: Sequence[Plan]) -> list[float]:
        """Milliseconds of each plan, corrected for the levels of its groups."""
        keys = {key: i for i, key in enumerate(dict.fromkeys(key for key, _, _ in self.records))}
        of_plan, groups = np.array([keys[key] for key, _, _ in self.records]), np.array([group for _, group, _ in self.records])
        times = np.exp(_leveled(of_plan, np.unique(groups, return_inverse=True)[1], np.log([ms for _, _, ms in self.records])))
        return [float(times[keys[key_of(plan)]]) for plan in plans]

    def settled(self, levels: Path, ms: float) -> tuple[float, int]:
        """The anchor's mean time over this device's latest profiles, and their number; only this profile if that is impossible."""
        profile = None if self.path is None else read_json(self.head).get("profile")
        if not isinstance(profile, str):  # started by an older version
            return ms, 1
        with suppress(FileError):  # a full or read-only disk
            return settled_level(levels, {**self.same, "anchor": key_of(self.anchor)}, profile, ms)
        return ms, 1

    def report(self, what: str) -> None:
        """Report the progress."""
        left = sum(work for (key, number), work in self.needed.items() if self.done[key] <= number)
        about = f", about {duration(self.seconds / self.worked * left)} left" if left and self.worked else ""
        self.progress.count(sum(self.done[key] > number for key, number in self.needed), len(self.needed), what + about)

    def _add(self, key: str, group: int, ms: float) -> None:
        self.records.append((key, group, ms))
        self.done[key] += 1


def _leveled(plans: Ints, groups: Ints, logs: Floats) -> Floats:
    """Log times of the plans, from the log times of measurements, each the sum of a plan's and a group's component.

    The groups' components have mean 0. Alternating least squares; a measurement weighs less the further off it is, in units of
    `USUAL`.
    """
    level, weights = np.zeros(groups.max() + 1), np.ones(len(logs))
    informative = np.where(np.bincount(plans)[plans] > 1, 1.0, 1e-9)  # a plan timed only once says nothing about its group
    for _ in range(SWEEPS):
        times = np.bincount(plans, weights * (logs - level[groups])) / np.bincount(plans, weights)
        trust = weights * informative
        level = np.bincount(groups, trust * (logs - times[plans])) / np.bincount(groups, trust)
        level -= level.mean()
        weights = 1 / (1 + ((logs - times[plans] - level[groups]) / USUAL) ** 2)
    return times


def _baseline_before(path: Path, what: dict[str, str], machine: dict[str, str]) -> float:
    """The reference kernel's time when the profile was started; a `DeviceError` if that is for another space or device."""
    before: Any = read_json(path)
    if not isinstance(before, dict) or {key: before.get(key) for key in what} != what:
        raise DeviceError(f"{path.parent}: holds the profile of another space or device: choose another folder or delete it")
    for key, now in machine.items():
        if (then := before.get(key, now)) != now:
            raise DeviceError(f"{path.parent}: measured with {key} {then}, which is now {now}: measure again with --again")
    baseline = before.get("baseline_ms")
    if not isinstance(baseline, float) or not 0 < baseline < math.inf:
        raise FileError(f"{path}: damaged: measure again with --again")
    return baseline


def _is_measurement(record: dict[str, Any]) -> bool:
    """Whether a line is usable; `read_lines` has already dropped lines truncated by a crash."""
    ms = record.get("ms")
    known = isinstance(record.get("key"), str) and isinstance(record.get("group"), int)
    return known and isinstance(ms, float) and 0 < ms < math.inf


def _group(missing: dict[str, Plan]) -> dict[str, Plan]:
    """As many of the first plans as may be held in memory at once, at most 100."""
    group: dict[str, Plan] = {}
    size = 0
    for key, plan in missing.items():
        size += 4 * plan.params
        if group and (size > GROUP_BYTES or len(group) == 100):
            break
        group[key] = plan
    return group


def settled_level(path: Path, device: Mapping[str, str], profile: str, ms: float) -> tuple[float, int]:
    """The geometric mean of the anchor's time over this and earlier profiles of the same device, and their number.

    Args:
        path: JSON lines, one per profile; this profile is added if it is missing.
        device: properties of the device that must be equal.
        profile: an identifier: a profile that is read again keeps its level.
        ms: the anchor's time in this profile.

    Raises:
        FileError: the file cannot be read or written.
    """
    make_folder(path.parent)
    with one_at_a_time(path.with_suffix(".lock")):
        records = [r for r in read_lines(path) if {key: r.get(key) for key in device} == device]
        names = [r.get("profile") for r in records]
        if profile in names:
            records = records[: names.index(profile)]
        else:
            append_line(path, {**device, "profile": profile, "ms": ms})
    times = [r["ms"] for r in records if isinstance(r.get("ms"), float)]
    alike = [before for before in times if abs(before / ms - 1) <= ALIKE][-PROFILES + 1 :]
    alike.append(ms)
    return ms * math.exp(math.fsum(math.log(other / ms) for other in alike) / len(alike)), len(alike)  # exactly ms if it is alone
