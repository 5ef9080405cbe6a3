"""Which network wins within a budget, ours or a fixed one, by how much, and the cost of either for several devices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.advice import ofa
from ...common.files import busy, read_text
from ...common.readable import plural, wilson
from ...common.records import json_of, read_record
from ...options.shared import Budget
from ...resolutions import Resolution
from ...scores import METRICS, score_difference
from ...train import Schedule
from ..run_directory.metrics import Metrics
from ..run_directory.run import Run

FORMAT = "onceforall.comparison/1"
FOLDER, RESULT = "compare", "result.json"
DEVICES = (1, 3, 10)

Predicted = Mapping[str, NDArray[np.int64]]  # by the network's name: the classes (n,) that it predicts for the test images


@dataclass(frozen=True)
class Rival:
    """A measured network: one of ours, or a fixed one fine-tuned alone. Top-1 is a fraction in [0, 1].

    Args:
        name: a unique name.
        ours: True for a sub-network of the run with the supernet's weights.
        resolution: side of the images in pixels; "HEIGHTxWIDTH" if they are not square.
        macs: multiply-accumulates per image.
        params: number of parameters.
        ms: latency, timed in turns with all the others; `ms_low` and `ms_high` are its 95 % interval.
        held_out: score on held-out images by the comparison's metric; networks are chosen by it.
        test: top-1 on `images` test images, the same ones for all networks.
        seconds: training time; None for ours.
        epochs: of its training; None for ours.
        weights: the initial weights of a fixed network, as text.
        arch: architecture of ours, as JSON text.
        balanced: balanced accuracy on the test images (mean recall over classes); None if it was not measured.
        macro_f1: macro F1 on the test images; None if it was not measured.
        interval: 95 % interval of the test score by the comparison's metric; None in older files.
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
    macro_f1: float | None = None
    interval: tuple[float, float] | None = None

    def score(self, metric: str) -> float:
        """The score on the test images by the metric's name."""
        score = {"top1": self.test, "balanced": self.balanced, "macro_f1": self.macro_f1}[metric]
        assert score is not None, "older files lack it, and their metric is top-1"
        return score

    @property
    def between(self) -> tuple[float, float]:
        """95 % interval of the test score by the comparison's metric."""
        return self.interval or wilson(self.test, self.images)


@dataclass(frozen=True)
class Verdict:
    """The result for one budget: each side's network, chosen on held-out images, and their difference on test images.

    Args:
        budget: the limit for both.
        of: fixed networks whose own cost is the budget.
        ours: name of our network; None if none keeps the budget.
        fixed: name of the best fixed network; None if none keeps the budget.
        over: ours exceeded the budget when timed in turns with the others.
        difference: score of ours minus that of the fixed network, by the comparison's metric; None unless there are both.
        low: lower end of its paired 95 % interval.
        high: upper end of that interval.
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
        """ "ours", "fixed", "equal" or "none", by the test images; a network over the budget cannot win."""
        ours = self.ours is not None and not self.over
        if self.difference is None or self.over:
            return "ours" if ours else "fixed" if self.fixed is not None else "none"
        if abs(self.difference) < 1e-12:  # rounding of sums over classes
            return "equal"
        return "ours" if self.difference > 0 else "fixed"

    @property
    def certain(self) -> bool:
        """Whether the interval of the difference excludes 0; never where ours exceeded the budget."""
        return not self.over and self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def verdict(
    budget: Budget,
    of: Sequence[str],
    ours: Rival | None,
    fixed: Sequence[Rival],
    *,
    metric: str,
    labels: NDArray[np.int64],
    predicted: Predicted,
) -> Verdict:
    """Decide which side wins within a budget.

    Args:
        budget: limits; latency as in `Rival.ms`.
        of: fixed networks whose own cost is the budget.
        ours: the network that the search found for the budget; None if none keeps it.
        fixed: all fixed networks. Of those that keep the budget, the one with the best held-out score counts, then the fastest.
        metric: the score that decides.
        labels: of the test images, (n,).
        predicted: every network's predictions.
    """
    keeping = [one for one in fixed if _keeps(one, budget)]
    best = min(keeping, key=lambda one: (-one.held_out, one.ms)) if keeping else None
    over = ours is not None and budget.latency_ms is not None and ours.ms_low > budget.latency_ms
    names = (None if ours is None else ours.name, None if best is None else best.name)
    if ours is None or best is None:
        return Verdict(budget, tuple(of), *names, over)
    return Verdict(budget, tuple(of), *names, over, *score_difference(metric, labels, predicted[ours.name], predicted[best.name]))


def _keeps(one: Rival, budget: Budget) -> bool:
    limits = ((one.ms, budget.latency_ms), (one.macs, budget.macs), (one.params, budget.params))
    return all(most is None or cost <= most * (1 + 1e-9) for cost, most in limits)


@dataclass(frozen=True)
class Costs:
    """Seconds to get networks for several devices, each with its own budget.

    Args:
        once: ours, independent of the number of devices: training and accuracy data.
        each: ours per device: its profile and a search.
        fixed: fixed networks per device: the mean time to fine-tune one.
    """

    once: float
    each: float
    fixed: float

    def rows(self) -> list[tuple[int, float, float]]:
        """Rows of (devices, seconds of ours, seconds of fixed networks)."""
        return [(k, self.once + k * self.each, k * self.fixed) for k in DEVICES]

    @property
    def break_even(self) -> int | None:
        """Number of devices from which ours takes no longer; None if it always does."""
        saved = self.fixed - self.each
        return max(1, math.ceil(self.once / saved - 1e-9)) if saved > 0 else None


@dataclass(frozen=True)
class Comparison:
    """The result of `ofa compare`.

    Args:
        key: of the arguments and weights.
        device: the device that latencies were measured on.
        hardware: processor and runtime, as text.
        fixed: networks that were fine-tuned alone.
        ours: the different networks of the run that were found.
        verdicts: one for each budget.
        costs: of either way.
        notes: lines for the reader.
        uneven: test images of the largest class divided by those of the smallest.
        metric: the run's metric, by which networks were chosen and winners decided.
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
    metric: str = "top1"

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


def summary(found: Comparison) -> str:
    """One line on how often each side wins."""
    verdicts, winners = found.verdicts, [v.winner for v in found.verdicts]
    least = winners.count("ours") + winners.count("equal")
    sure = [sum(v.certain and v.winner == side for v in verdicts) for side in ("ours", "fixed")]
    by = "" if found.metric == "top1" else f" by {METRICS[found.metric]}"
    budgets = plural(len(verdicts), "budget")
    return f"ours is at least as accurate{by} in {least} of {budgets}; beyond doubt (95 %) better in {sure[0]}, worse in {sure[1]}"


def stored_comparison(run: Run, name: str = RESULT) -> Comparison | None:
    """The result of the run's last `ofa compare`, or of an earlier one by the name of its file; None if there was none.

    Raises:
        FileError: it is damaged.
    """
    path = run.folder / FOLDER / name
    if not path.exists():
        return None
    again = f"remove it, then {ofa('compare', run.folder, '--with', 'NETWORKS')} makes it again"
    return read_record(path, Comparison, FORMAT, otherwise=again)


def untrained(run: Run) -> Iterator[str]:
    """A line for each fixed network whose training was interrupted or is still running."""
    going = busy(run.folder / FOLDER)
    for path in sorted((run.folder / FOLDER).glob("*/schedule.json")):
        if not (path.parent / "network.json").exists():
            steps = Schedule.from_json(read_text(path)).steps
            done = Metrics.of(path.parent).step
            more = "going on now" if going else "was interrupted: the same ofa compare resumes it"
            yield f"{path.parent.name}: step {done:,} of {steps:,}, {more}"
