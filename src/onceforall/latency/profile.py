"""Measure a device once, to know the latency of every network of a space.

1. Time each distinct segment of the space alone, at a few resolutions; interpolate the others.
2. Time whole networks, from the smallest to the largest, and fit each segment's cost inside a network to both (`fit.py`).
3. Compare with networks that were not used. All networks are timed in turns, so the error is the table's own; how much a busy
   machine changes from one minute to the next comes on top of it.

What is measured is appended to files in a folder at once, so a profile that was interrupted goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from .. import genes as gene_ops
from ..costs import SegmentTable, macs_table, segment_table
from ..errors import DeviceError
from ..files import append_line, make_folder, read_json, read_lines, write_json
from ..genes import Genes
from ..ops import Op, Shape
from ..plan import Plan, Segment
from ..space import Space
from .device import Device, list_devices
from .fit import compositions, fit_costs, interpolate
from .measure import Reference, measure
from .networks import ready, stand_in
from .table import LatencyErrors, LatencyTable, Measured, space_hash

__all__ = ["Effort", "profile_space"]

Progress = Callable[[int, int, str], None]
LEAST = 5  # networks of a space, for a table
GROUP_BYTES = 400_000_000  # of weights held at once: networks timed in turns share what disturbs the machine


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        resolutions: at most this many at which segments are timed; the others are interpolated.
        fit: networks to fit to.
        test: networks to compare with, not used otherwise. A space with fewer than both is shared out 3 : 2.
        rounds: bursts of each segment and, three times as many, of each network; see `measure`.
        limit: noise of the networks' times above which the machine is refused; see `measure`.
    """

    resolutions: int = 5
    fit: int = 60
    test: int = 50
    rounds: int = 15
    limit: float = 0.25


QUICK = Effort(resolutions=3, fit=24, test=16, rounds=8)


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
    table = segment_table(space, num_classes)
    segments = table.distinct()
    chosen = _at_resolutions(table, segments, effort.resolutions)
    fitted, tested = _draw(table, effort, seed)
    genes, fit = np.concatenate([fitted, tested]), len(fitted)
    log = _Log(space, num_classes, device, folder, on_progress, len(chosen) + len(genes))

    plans = [Plan((segments[i],)) for i in chosen]
    alone = interpolate(segments, dict(zip(chosen, log.measure(plans, "segments", effort.rounds, 4 * effort.limit), strict=True)))
    networks = [space.lower(arch, num_classes) for arch in space.archs(genes)]
    times = np.zeros(len(genes))
    mixed = np.random.default_rng(seed).permutation(len(genes))  # so that both kinds are timed in turns
    times[mixed] = log.measure([networks[i] for i in mixed], "networks", 3 * effort.rounds, effort.limit)
    costs = fit_costs(segments, alone, compositions(table, fitted), times[:fit])
    by_signature = {segment.signature: float(cost) for segment, cost in zip(segments, costs, strict=True)}
    in_network = table.costs(lambda segment: by_signature[segment.signature])
    errors = LatencyErrors(tuple(in_network.estimate(tested).tolist()), tuple(times[fit:].tolist()))
    (here,) = (d for d in list_devices() if d.runtime == device.runtime)
    measured = Measured(device, here.version or "", log.baseline_ms, errors)
    return LatencyTable(in_network, num_classes, here.processor, measured)


def _at_resolutions(table: SegmentTable, segments: Sequence[Segment], most: int) -> list[int]:
    """Indices of the segments to time: those at up to `most` resolutions, the smallest and the largest among them."""
    resolutions = len(table.space.resolutions)
    picked = np.unique(np.linspace(0, resolutions - 1, min(most, resolutions)).round().astype(int))
    wanted: set[tuple[Shape, tuple[Op, ...]]] = set()
    for slot in table.slots:
        by_resolution = np.array(slot.segments, object).reshape(slot.sizes[0], -1)
        wanted.update(segment.signature for segment in by_resolution[picked + 1].ravel() if segment is not None)
    return [i for i, segment in enumerate(segments) if segment.signature in wanted]


def _draw(table: SegmentTable, effort: Effort, seed: int) -> tuple[Genes, Genes]:
    """Networks to fit, the smallest, the largest, and others spread evenly over MACs; and other networks to test.

    Uniform draws are alike in MACs, and a search goes to the ends. So each row draws its genes around a level of its own; of
    the networks to test every other one is drawn uniformly, as `Space.sample` does.
    """
    space, rng = table.space, np.random.default_rng(seed)
    sizes = np.array([len(column.choices) for column in space.columns])
    n = 20 * (effort.fit + effort.test)
    wide = rng.binomial(sizes - 1, rng.random((n, 1))).astype(np.int16)
    ends = space.genes([space.smallest(), space.largest()])
    wide = np.unique(np.concatenate([ends, gene_ops.canonical(space.columns, wide)]), axis=0)
    uniform = gene_ops.sample(space.columns, rng, len(wide))
    pool = np.unique(np.concatenate([wide, uniform]), axis=0)
    fit, test = effort.fit, effort.test
    if len(pool) < fit + test:
        fit, test = len(pool) * 3 // 5, len(pool) - len(pool) * 3 // 5
    if len(pool) < LEAST:
        raise DeviceError(f"this space has {space.count()} networks, a table needs {LEAST}: time each one with measure_networks")
    order = wide[np.argsort(macs_table(table).estimate(wide), kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, fit).round().astype(int))]
    used = {row.tobytes() for row in chosen}
    others = {row.tobytes(): row for pair in zip(rng.permutation(wide), uniform, strict=True) for row in pair}
    others |= {row.tobytes(): row for row in pool}
    rest = [row for key, row in others.items() if key not in used][:test]
    return chosen, np.array(rest)


class _Log:
    """Measurements kept in a folder, and progress over all that are needed."""

    def __init__(
        self, space: Space, num_classes: int, device: Device, folder: Path | None, on_progress: Progress | None, needed: int
    ) -> None:
        self.device, self.on_progress, self.done, self.needed = device, on_progress, 0, needed
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
            self.baseline_ms = Reference().baseline_ms()
            if folder is not None:
                write_json(folder / "profile.json", {**what, "baseline_ms": self.baseline_ms})

    def measure(self, plans: Sequence[Plan], what: str, rounds: int, limit: float) -> list[float]:
        """Times in ms; groups of plans are timed in turns."""
        keys = [_key(plan) for plan in plans]
        missing = {key: plan for key, plan in zip(keys, plans, strict=True) if key not in self.known}
        self._report(len(plans) - len(missing), what)
        while missing:
            group = _group(missing)
            functions = [ready(plan, stand_in(plan), self.device) for plan in group.values()]
            timings = measure(functions, rounds=rounds, max_rounds=2 * rounds, limit=limit, baseline_ms=self.baseline_ms)
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


def _key(plan: Plan) -> str:
    """Equal for plans that compute the same on the same shapes."""
    return sha256(repr([segment.signature for segment in plan.segments]).encode()).hexdigest()[:20]
