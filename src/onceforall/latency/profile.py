"""Measure a device once, to know the latency of every network of a space.

1. Time each distinct segment of the space alone, at a few resolutions; interpolate the others.
2. Time whole networks, from the smallest to the largest, and fit each segment's cost inside a network to both (`fit.py`).
3. Compare with networks that were not used.

Not all networks fit into memory at once, the machine changes from one group of them to the next, and a network that is loaded
again may be a few per cent faster or slower. So every network is timed in several groups, mixed and loaded again each time, and
times are split into the network's and the group's part (`_levelled`). One network of middle size, the anchor,
is in every group.

Every measurement is appended to files in a folder at once, so an interrupted profile resumes where it stopped.
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
NETWORK_WORK = 0.4  # what a segment of a network adds to the time of measuring it, in segments alone
SWEEPS = 100
PATIENCE_S = 4.0  # for narrow intervals of a group of networks: another pass tells more than more rounds of the same
USUAL = 0.02  # relative difference between two measurements of a network
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
    levels: Path | None = None,
    progress: Progress = QUIET,
) -> LatencyTable:
    """The latency table of a space on a device.

    Args:
        space: whose networks are to be estimated.
        folder: keeps measurements as JSON lines; those that are there are used again. None keeps nothing.
        seed: of the networks drawn to fit and to test.
        quick: less of everything, for a first impression: some 20 s for networks of 0.2 ms instead of minutes.
        effort: in place of `quick`, how much exactly.
        again: forget the measurements in the folder, once the device answers.
        levels: file that keeps how fast devices were in their profiles; a table then has the mean level of this device's last
            ones, see `level.py`. None, or without a folder: this profile stands alone.
        progress: its `count` gets measurements done, measurements needed, and what is being measured with about how long it
            takes.

    Raises:
        DeviceError: the machine is too noisy; more threads than it has; a folder that holds the profile of something else.
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
    """Measurements kept in a folder, and progress over all that are needed."""

    def __init__(
        self, space: Space, num_classes: int, device: Device, passes: int, folder: Path | None, again: bool, progress: Progress
    ) -> None:
        self.passes, self.progress = passes, progress
        self.needed: dict[tuple[str, int], float] = {}  # key and pass -> how much work
        self.records: list[tuple[str, int, float]] = []  # key, group, ms
        self.done: Counter[str] = Counter()  # passes of each key
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
        """What is needed in all. A network takes longer than a segment alone: it has more of them."""
        self.needed = {(key_of(plan), 0): 1.0 for plan in pieces}
        work = {key_of(plan): max(1.0, NETWORK_WORK * len(plan.segments)) for plan in networks}
        self.needed |= {(key, number): work[key] for key in work for number in range(self.passes)}

    def measure(self, plans: Sequence[Plan], what: str, passes: int, rounds: int, limit: float) -> None:
        """Time plans in groups, in turns, each plan as often as it has groups."""
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
        """Milliseconds of each plan, without what its groups had in common."""
        keys = {key: i for i, key in enumerate(dict.fromkeys(key for key, _, _ in self.records))}
        own, groups = np.array([keys[key] for key, _, _ in self.records]), np.array([group for _, group, _ in self.records])
        found = np.exp(_levelled(own, np.unique(groups, return_inverse=True)[1], np.log([ms for _, _, ms in self.records])))
        return [float(found[keys[key_of(plan)]]) for plan in plans]

    def settled(self, levels: Path, ms: float) -> tuple[float, int]:
        """The anchor's time over the last profiles of this device, and how many; this one's alone where that cannot be kept."""
        profile = None if self.path is None else read_json(self.head).get("profile")
        if not isinstance(profile, str):  # begun by an older version
            return ms, 1
        with suppress(FileError):  # a full disk, or none to write to
            return settled_level(levels, {**self.same, "anchor": key_of(self.anchor)}, profile, ms)
        return ms, 1

    def report(self, what: str) -> None:
        """Tell how far it is."""
        left = sum(work for (key, number), work in self.needed.items() if self.done[key] <= number)
        about = f", about {duration(self.seconds / self.worked * left)} left" if left and self.worked else ""
        self.progress.count(sum(self.done[key] > number for key, number in self.needed), len(self.needed), what + about)

    def _add(self, key: str, group: int, ms: float) -> None:
        self.records.append((key, group, ms))
        self.done[key] += 1


def _levelled(own: Ints, groups: Ints, logs: Floats) -> Floats:
    """Logarithms of the plans' times, from those of measurements: each is the sum of its plan's and its group's, which are 0 in the
    mean. Least squares, plans and groups in turns; a measurement counts less the further off it is, in units of `USUAL`."""
    level, weights = np.zeros(groups.max() + 1), np.ones(len(logs))
    tells = np.where(np.bincount(own)[own] > 1, 1.0, 1e-9)  # what was timed once says nothing about its group
    for _ in range(SWEEPS):
        plans = np.bincount(own, weights * (logs - level[groups])) / np.bincount(own, weights)
        level = np.bincount(groups, weights * tells * (logs - plans[own])) / np.bincount(groups, weights * tells)
        level -= level.mean()
        weights = 1 / (1 + ((logs - plans[own] - level[groups]) / USUAL) ** 2)
    return plans


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
    ms = record.get("ms")
    known = isinstance(record.get("key"), str) and isinstance(record.get("group"), int)
    return known and isinstance(ms, float) and 0 < ms < math.inf


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


PROFILES = 5  # of which the mean is taken: older ones may be of another operating system
ALIKE = 0.1  # further off the machine is another one, or was in trouble


def settled_level(path: Path, device: Mapping[str, str], profile: str, ms: float) -> tuple[float, int]:
    """The mean of the anchor's time in this profile and in those of the same device before it, and of how many.

    Args:
        path: JSON lines, one for each profile; this one is added if it is not there.
        device: what has to be the same, in texts.
        profile: an identifier: a profile that is read again has the level that it had.
        ms: the anchor's time in this profile.

    Raises:
        FileError: it cannot be read or written.
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
    return ms * math.exp(math.fsum(math.log(one / ms) for one in alike) / len(alike)), len(alike)  # exactly ms where it is alone
