"""Who wins within a budget, ours or a fixed network, by how much, and what several devices cost either way."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.advice import ofa
from ...common.files import busy, read_text
from ...common.readable import plural
from ...common.records import json_of, read_record
from ...options.shared import Budget
from ...resolutions import Resolution
from ...scores import Difference
from ...train import Schedule
from ..run_directory.metrics import Metrics
from ..run_directory.run import Run

FORMAT = "onceforall.comparison/1"
FOLDER, RESULT = "compare", "result.json"
DEVICES = (1, 3, 10)

Rights = Mapping[str, NDArray[np.bool_]]  # by the network's name: which of the test images (n,) it gets right


@dataclass(frozen=True)
class Rival:
    """A network as it was measured: one of ours, or a fixed one that was fine-tuned alone. Top-1 are fractions in [0, 1].

    Args:
        name: different from all others'.
        ours: a sub-network of the run, with the supernet's weights.
        resolution: side of the images in pixels, "HEIGHTxWIDTH" if they are no squares.
        macs: multiply-accumulates of one image.
        params: parameters.
        ms: latency, timed in turns with all the others; `ms_low` and `ms_high` are its 95 % interval.
        held_out: top-1 on held-out images, or the score of the run's metric, by which networks are chosen.
        test: top-1 on `images` test images, the same for all networks.
        seconds: that its training took; None for ours.
        epochs: of its training; None for ours.
        weights: where a fixed one started from, in words.
        arch: of ours, as JSON text.
        balanced: mean over the classes of the share of their test images that it gets right; None where that was not measured.
    """

    name: str
    ours: bool
    resolution: Resolution
    macs: int
    params: int
    ms: float
    ms_low: float
    ms_high: float
    held_out: float
    test: float
    images: int
    seconds: float | None = None
    epochs: float | None = None
    weights: str | None = None
    arch: str | None = None
    balanced: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One budget: the network of each side that was chosen within it by held-out images, and what test images say.

    Args:
        budget: that both keep.
        of: fixed networks whose own cost the budget is.
        ours: name of ours; None if none keeps the budget.
        fixed: name of the best fixed network; None if none keeps the budget.
        over: ours took longer than the budget when timed in turns with the others.
        difference: top-1 of ours less that of the fixed network, with a 95 % interval of the same images; None without both.
        low: end of that interval.
        high: the other end.
    """

    budget: Budget
    of: tuple[str, ...] = ()
    ours: str | None = None
    fixed: str | None = None
    over: bool = False
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def winner(self) -> str:
        """ "ours", "fixed", "equal" or "none", by the test images; who does not keep the budget does not win."""
        ours = self.ours is not None and not self.over
        if self.difference is None or self.over:
            return "ours" if ours else "fixed" if self.fixed is not None else "none"
        return "ours" if self.difference > 0 else "fixed" if self.difference < 0 else "equal"

    @property
    def certain(self) -> bool:
        """The interval of the difference leaves no doubt who wins; never where ours took too long."""
        return not self.over and self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def verdict(budget: Budget, of: Sequence[str], ours: Rival | None, fixed: Sequence[Rival], right: Rights) -> Verdict:
    """Who wins within the budget.

    Args:
        budget: limits; latency as in `Rival.ms`.
        ours: what the search found for the budget; None if nothing keeps it.
        fixed: all fixed networks. The one with the best held-out top-1 of those that keep the budget counts, of equals the fastest.
        right: of all of them.
    """
    keeping = [one for one in fixed if _keeps(one, budget)]
    best = min(keeping, key=lambda one: (-one.held_out, one.ms)) if keeping else None
    over = ours is not None and budget.latency_ms is not None and ours.ms_low > budget.latency_ms
    names = (None if ours is None else ours.name, None if best is None else best.name)
    if ours is None or best is None:
        return Verdict(budget, tuple(of), *names, over)
    found = Difference.of(right[ours.name], right[best.name])
    return Verdict(budget, tuple(of), *names, over, found.top1, *found.interval)


def _keeps(one: Rival, budget: Budget) -> bool:
    limits = ((one.ms, budget.latency_ms), (one.macs, budget.macs), (one.params, budget.params))
    return all(most is None or cost <= most * (1 + 1e-9) for cost, most in limits)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How often who wins, in one line."""
    winners = [v.winner for v in verdicts]
    least = winners.count("ours") + winners.count("equal")
    sure = [sum(v.certain and v.winner == side for v in verdicts) for side in ("ours", "fixed")]
    return (
        f"ours is at least as accurate in {least} of {plural(len(verdicts), 'budget')}; beyond doubt (95 %) better in {sure[0]}, "
        f"worse in {sure[1]}"
    )


@dataclass(frozen=True)
class Costs:
    """Seconds for networks for several devices, each with a budget of its own.

    Args:
        once: ours, whatever the number of devices: training and accuracy data.
        each: ours for one more device: its profile and a search.
        fixed: the mean time that one fixed network was fine-tuned, which one more device needs.
    """

    once: float
    each: float
    fixed: float

    def rows(self) -> list[tuple[int, float, float]]:
        """Devices, seconds of ours, seconds of fixed networks."""
        return [(k, self.once + k * self.each, k * self.fixed) for k in DEVICES]

    @property
    def break_even(self) -> int | None:
        """Devices from which on ours takes no longer; None if there are none."""
        saved = self.fixed - self.each
        return max(1, math.ceil(self.once / saved - 1e-9)) if saved > 0 else None


@dataclass(frozen=True)
class Comparison:
    """What `ofa compare` found.

    Args:
        key: of what was asked, on which weights.
        device: that latencies were measured on.
        hardware: processor and runtime, in words.
        fixed: networks that were fine-tuned alone.
        ours: networks of the run, one for each budget that has another.
        verdicts: one for each budget.
        costs: either way.
        notes: lines that a reader should know.
        uneven: how many times as many test images the largest class has as the smallest.
    """

    key: str
    device: str
    hardware: str
    fixed: tuple[Rival, ...]
    ours: tuple[Rival, ...]
    verdicts: tuple[Verdict, ...]
    costs: Costs
    notes: tuple[str, ...] = ()
    uneven: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values, with winners, the devices' costs and the break-even."""
        found: dict[str, Any] = {"format": FORMAT, **json_of(self)}
        for record, one in zip(found["verdicts"], self.verdicts, strict=True):
            record |= {"winner": one.winner, "certain": one.certain}
        found["costs"] |= {
            "devices": [{"devices": k, "ours_s": ours, "fixed_s": fixed} for k, ours, fixed in self.costs.rows()],
            "break_even": self.costs.break_even,
        }
        return found


def stored_comparison(run: Run) -> Comparison | None:
    """What the last `ofa compare` of the run found.

    Raises:
        FileError: it is damaged.
    """
    path = run.folder / FOLDER / RESULT
    if not path.exists():
        return None
    again = f"remove it, then {ofa('compare', run.folder, '--with', 'NETWORKS')} makes it again"
    return read_record(path, Comparison, FORMAT, otherwise=again)


def untrained(run: Run) -> Iterator[str]:
    """A line for each training of a fixed network that was interrupted or is going on."""
    going = busy(run.folder / FOLDER)
    for path in sorted((run.folder / FOLDER).glob("*/schedule.json")):
        if not (path.parent / "network.json").exists():
            steps = Schedule.from_json(read_text(path)).steps
            done = Metrics.of(path.parent).step
            more = "going on now" if going else "was interrupted: the same ofa compare resumes it"
            yield f"{path.parent.name}: step {done:,} of {steps:,}, {more}"
