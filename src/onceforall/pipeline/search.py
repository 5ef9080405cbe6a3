"""`ofa search`: the most accurate network within limits; the best candidates are measured before one is chosen."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..accuracy import AccuracyRow, Steady, measurement_noise, read_rows, steadying
from ..arch import Arch
from ..calibrate import Statistics
from ..common.arguments import takes
from ..common.files import append_line, recording
from ..common.progress import QUIET, Progress
from ..common.readable import amount, milliseconds
from ..common.records import json_of
from ..costs import CostTable, flash_table, macs_table, memory_table, params_table, ram_table, segment_table
from ..errors import DataError, InfeasibleError
from ..genes import Genes
from ..latency import Device, LatencyTable, Timing, available, measure_networks
from ..latency.networks import require_threads
from ..options.choosing import CAUTION, SearchOptions
from ..options.shared import Budget
from ..plan import Plan
from ..search import maximise
from .accuracies.measure_accuracy import measure_group
from .accuracies.predictor import doubt, load_predictor
from .profile import latency_table, profiled
from .run_directory.finalists import Finalist
from .run_directory.run import CALIBRATION_IMAGES, Run

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

PATIENCE_S = 5.0  # for narrow intervals of the finalists' latencies; the chosen one is timed again
KNOWN = 2  # networks besides the finalists, see `Searcher._known`
ROUNDS = 3  # of tightening the latency limit when the measured finalists miss it
FINALIST_IMAGES = 500  # held-out images for finalists of `ofa specialise`, which differ by less than chance: docs/results/export.md
FINALIST_CALIBRATION = 500  # training images for their statistics; docs/results/export.md: more change little


@dataclass(frozen=True)
class Candidate:
    """A finalist, predicted and measured. Accuracy is top-1 on held-out images; `predicted_std` is the predictor's error bar."""

    arch: Arch
    predicted_top1: float
    predicted_std: float
    predicted_ms: float | None
    accuracy: AccuracyRow
    timing: Timing
    steady: AccuracyRow | None = None  # the measurement with less noise, by `steadying`; None: as it is
    noise: float = 0.0  # standard deviation of a steady measurement between networks, if known; less than the binomial one
    offset: float = 0.0  # how much easier the measured images are than all images, if only some are measured
    stands: bool = True  # for a front: no other network is at least as accurate and as fast

    @property
    def predictions(self) -> dict[str, float | None]:
        """The predicted score for JSON records, and as top-1 if that is the run's metric."""
        return {
            "predicted_top1": self.predicted_top1 if self.accuracy.score is None else None,
            "predicted_score": self.predicted_top1,
        }

    @property
    def expected_top1(self) -> float:
        """Mean of prediction and measurement, weighted by their variances: the luckiest measurement alone is too optimistic."""
        top1 = (self.steady or self.accuracy).value
        weight = _weight(self.predicted_std, self.noise**2 or _chance(top1, self.accuracy.images))
        return float(weight * (top1 - self.offset) + (1 - weight) * self.predicted_top1)


def _chance(top1: Any, images: Any) -> Any:
    """Binomial variance of a share counted on `images` images."""
    return np.maximum(top1 * (1 - top1), 1 / images) / images


def _weight(predicted_std: Any, chance: Any) -> Any:
    """Weight of a measurement with variance `chance` against a prediction with standard error `predicted_std`."""
    return predicted_std**2 / (predicted_std**2 + chance)


def _keeps(limits: Mapping[str, tuple[Any, float]], archs: Sequence[Arch] | Genes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which networks meet all limits by their estimates, with the search's tolerance for rounding."""
    keeps = np.ones(len(archs), bool)
    for estimate, most in limits.values():
        keeps &= estimate(archs) <= most * (1 + 1e-9)
    return keeps


@takes(SearchOptions)
def search(options: SearchOptions, *, progress: Progress = QUIET) -> list[Candidate]:
    """Search a run that has a profile and a predictor, and measure the finalists.

    Returns:
        Finalists that meet the budget when measured, by `expected_top1`, best first; also appended to searches.jsonl.

    Raises:
        InfeasibleError: no network in the space meets the budget.
    """
    run, budget = Run.open(options.folder, options.data), options.budget
    assert isinstance(budget, Budget)  # only the command line takes several
    run.require_images()
    searcher = Searcher(run, options.device, [budget], caution=options.caution, progress=progress)
    return searcher.find(budget, finalists=options.finalists, seed=options.seed, progress=progress)


class Searcher:
    """Searches one run and device for several budgets in turn; networks measured for one budget are candidates for the next.

    Args:
        run: has a predictor and, for latency limits, a profile.
        device: a profiled device.
        budgets: the budgets to come.
        images: at most this many evenly drawn held-out images for a finalist's accuracy, with BatchNorm statistics of
            `FINALIST_CALIBRATION` training images; None for all of them, with the statistics that are exported.
    """

    def __init__(
        self,
        run: Run,
        device: str,
        budgets: Sequence[Budget],
        *,
        caution: float = CAUTION,
        images: int | None = None,
        progress: Progress = QUIET,
    ) -> None:
        if not 0 <= caution < math.inf:
            raise DataError(f"--caution {caution:g}: give a number of standard deviations, 0 or more")
        self.run, self.caution = run, caution
        self._turn_to(device, budgets)
        self.predictor = load_predictor(run)
        self._rows = read_rows(run.accuracy, run.space, weights_hash=run.weights_hash())  # measured for the predictor
        if doubtful := doubt(run):
            progress.say(doubtful)
        segments = segment_table(run.space, run.num_classes)
        self.costs = {
            "macs": macs_table(segments),
            "params": params_table(segments),
            "memory_bytes": memory_table(segments),
            "flash_bytes": flash_table(segments),
            "ram_bytes": ram_table(segments),
        }
        self.supernet, self.splits = run.supernet(), run.splits(Progress(say=progress.say))
        every = len(self.splits.held_out)
        self.images, self.calibration = (every, CALIBRATION_IMAGES) if images is None else (images, FINALIST_CALIBRATION)
        self.accuracies: dict[Arch, AccuracyRow] = {}
        self.statistics: dict[Arch, Statistics] = {}  # used for `accuracies`, to continue from

    def on(self, device: str, budgets: Sequence[Budget]) -> "Searcher":
        """A searcher for another device, which shares the accuracies measured so far."""
        other = copy.copy(self)
        other._turn_to(device, budgets)
        return other

    def _turn_to(self, device: str, budgets: Sequence[Budget]) -> None:
        self.device = Device.parse(device)
        if self.device.host is None:
            require_threads(self.device)
        limited = any(budget.latency_ms is not None for budget in budgets) or self.device.imported
        self.table = latency_table(self.run, device) if limited or profiled(self.run, device) else None
        self.timings: dict[Arch, Timing] = {}

    def limits(self, budget: Budget) -> dict[str, tuple[Any, float]]:
        """The budget as limits of a search."""
        tables: dict[str, CostTable | LatencyTable] = dict(self.costs)
        if self.table is not None:
            tables["latency_ms"] = self.table
        return {name: (tables[name].estimate, value) for name, value in asdict(budget).items() if value is not None}

    @property
    def score(self) -> Callable[[Genes], Floats]:
        """What searches maximize: prediction - caution * predicted standard error."""
        if not self.caution:
            return self.predictor.score

        def cautious(genes: Genes) -> Floats:
            mean, std = self.predictor.score_with_error(genes)  # not clipped, so that the best can be told apart
            return np.asarray(mean - self.caution * std)

        return cautious

    def find(self, budget: Budget, *, finalists: int, seed: int, progress: Progress) -> list[Candidate]:
        """See `search`."""
        limits = self.limits(budget)
        aim, fastest = budget.latency_ms, 0.0
        for _ in range(ROUNDS):
            if aim is not None and self.table is not None:
                limits["latency_ms"] = (self.table.estimate, aim)
            progress.say(f"searching {amount(self.run.space.count())} networks for {budget}")
            try:
                found = maximise(self.run.space, self.score, limits, seed=seed)
            except InfeasibleError:
                if not fastest:
                    raise
                break  # no network keeps the tightened limit
            by = f" by {100 * found.gap:.4f} points" if found.gap and found.gap > 5e-7 else ""  # less is 0.0000
            proof = "" if found.gap is None else f"; no network is predicted to be better{by}"
            progress.say(f"measuring the best {min(finalists, found.evaluations):,} of {found.evaluations:,} scored{proof}")
            top = [finalist.arch for finalist in found.top(finalists)]
            timings = self.times([*top, *self._known(limits, top)])
            self.timings |= timings
            if over := sum(timing.ms > (budget.latency_ms or math.inf) for timing in timings.values()):
                progress.say(f"{over} of them took longer than {milliseconds(budget.latency_ms)} when measured")
            known = [arch for arch in self.timings if arch in timings or arch in self.accuracies]
            if kept := self._within(budget, limits, known):
                return self._ranked(budget, self._candidates({arch: self.timings[arch] for arch in kept}))
            assert budget.latency_ms is not None
            assert aim is not None  # without a latency limit every finalist is kept
            fastest = min(timing.ms for timing in timings.values())
            aim *= 0.98 * budget.latency_ms / fastest
        raise InfeasibleError(
            f"none of the finalists met {budget.latency_ms:g} ms when measured (fastest: {fastest:.3g} ms): raise the limit, or "
            "profile again on an idle machine: ofa profile --again"
        )

    def _known(self, limits: dict[str, tuple[Any, float]], finalists: list[Arch]) -> list[Arch]:
        """Up to `KNOWN` networks that were measured for the predictor and meet the limits: those that are expected to be the best.

        They compete with the finalists, of which only optimistic predictions are known yet: the best of very many is a lucky one.
        """
        rows = [row for row in self._rows if row.arch not in finalists]
        if not rows:
            return []
        genes = self.run.space.genes([row.arch for row in rows])
        keeps = np.flatnonzero(_keeps(limits, genes))
        mean, std = self.predictor.score_with_error(genes)
        top1, images = np.array([row.value for row in self._steady(rows)]), np.array([row.images for row in rows])
        chance = np.minimum(_chance(top1, images), self._noise**2 or math.inf)
        expected = mean + _weight(std, chance) * (top1 - mean)
        return [rows[i].arch for i in keeps[np.argsort(-expected[keeps], kind="stable")][:KNOWN]]

    @cached_property
    def _steady(self) -> Steady:
        """Less noisy scores, of the kind that the predictor was fitted to."""
        return steadying(self._rows)

    @cached_property
    def _noise(self) -> float:
        """Standard deviation of a steady measurement on all held-out images; 0 if unknown."""
        known = self.predictor.calibration.noise  # of measurements as they are
        return min(measurement_noise(self._steady(self._rows)) or known, known)

    def _within(self, budget: Budget, limits: dict[str, tuple[Any, float]], archs: list[Arch]) -> list[Arch]:
        """The architectures that meet the budget by their latest measured latency."""
        others = {name: limit for name, limit in limits.items() if name != "latency_ms"}
        keeps = _keeps(others, archs) & [self.timings[arch].ms <= (budget.latency_ms or math.inf) for arch in archs]
        return [arch for arch, keep in zip(archs, keeps, strict=True) if keep]

    def _ranked(self, budget: Budget, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates by accuracy, best first; appended to searches.jsonl."""
        ranked = sorted(candidates, key=lambda c: (-c.expected_top1, c.timing.ms))
        for c in ranked:
            finalist = Finalist(
                c.arch, c.timing.ms, c.accuracy.top1, c.accuracy.value, c.accuracy.images, c.predicted_top1, c.predicted_ms,
                str(self.device), budget, self.run.metric,
            )  # fmt: skip
            with recording("these finalists are"):
                append_line(self.run.folder / "searches.jsonl", json_of(finalist))
        return ranked

    def measure(self, archs: list[Arch]) -> list[Candidate]:
        """Latency and held-out accuracy of different networks."""
        return self._candidates(self.times(archs))

    def _candidates(self, timings: Mapping[Arch, Timing]) -> list[Candidate]:
        """Measure the accuracies that are not known yet; a prefix that networks share is computed once."""
        archs = list(timings)
        if new := [arch for arch in archs if arch not in self.accuracies]:
            held_out = self.splits.held_out.sample(self.images)
            rows = measure_group(
                self.run, self.supernet, self.splits, new,
                held_out=held_out, calibration=self.calibration, statistics=self.statistics,
            )  # fmt: skip
            self.accuracies |= {row.arch: row for row in rows}
        genes = self.run.space.genes(archs)
        expected: list[Any] = [None] * len(archs) if self.table is None else self.table.estimate(genes).tolist()
        # Clipped, unlike in the search: that several are predicted beyond 100 % says nothing about their order.
        mean, std = self.predictor.predict_with_error(genes, measured=False)
        few = self.images < len(self.splits.held_out)
        steady = self._steady([self.accuracies[arch] for arch in archs])
        offset = float(np.mean([row.value for row in steady] - mean)) if few else 0.0
        noise = self._noise * math.sqrt(max(1.0, len(self.splits.held_out) / self.images))
        predicted = zip(mean.tolist(), std.tolist(), expected, strict=True)
        return [
            Candidate(arch, *numbers, self.accuracies[arch], timings[arch], row, noise, offset)
            for arch, numbers, row in zip(archs, predicted, steady, strict=True)
        ]

    def times(self, archs: Sequence[Arch]) -> dict[Arch, Timing]:
        """Latencies of different networks, timed in turns."""
        if self.device.imported and self.table is not None:
            found = [self._estimated(ms) for ms in self.table.estimate(archs).tolist()]
        else:
            plans = [self.run.space.lower(arch, self.run.num_classes) for arch in archs]
            found = measure_networks([(plan, None) for plan in plans], self.device, patience_s=PATIENCE_S, anchor=self.anchor)
        return dict(zip(archs, found, strict=True))

    def time(self, arch: Arch) -> Timing:
        """Latency of one network, alone."""
        return self.times([arch])[arch]

    def _estimated(self, ms: float) -> Timing:
        """The estimate, with the 90 % quantile of its relative errors, where no time can be measured."""
        assert self.table is not None  # imported devices have one
        errors = self.table.errors
        off = float(np.quantile(np.abs(np.array(errors.predicted) / np.array(errors.measured) - 1), 0.9))
        return Timing(ms, ms * (1 - off), ms * (1 + off), 0)

    @property
    def hardware(self) -> str:
        """Processor and runtime as text."""
        if self.table is not None:
            return self.table.hardware
        here = available(self.device.runtime)
        return f"{self.device.host or here.processor}, {self.device.runtime} {here.version}"

    @property
    def anchor(self) -> tuple[Plan, float] | None:
        """The network whose time makes measurements comparable with the table's estimates."""
        return None if self.table is None else self.table.anchor
