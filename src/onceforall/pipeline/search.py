"""`ofa search`: the most accurate network within limits; the best candidates are measured before one is chosen."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from torch.fx import GraphModule

from ..accuracy import AccuracyPredictor
from ..arch import Arch
from ..calibrate import Accuracy, evaluate
from ..costs import SegmentTable, macs_table, memory_table, params_table, segment_table
from ..errors import InfeasibleError
from ..files import append_line
from ..latency import LatencyTable, Timing, measure_networks
from ..readable import amount, memory, milliseconds
from ..search import maximise
from .evaluate import calibrated
from .predict import load_predictor
from .profile import latency_table
from .run import Run

__all__ = ["Budget", "Candidate", "Searcher", "search"]

ROUNDS = 3  # of tightening the latency limit when the measured finalists miss it


@dataclass(frozen=True)
class Budget:
    """Limits of one search; None is no limit. Latency is that of the device; memory is of activations, float32, one image."""

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    memory_bytes: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise InfeasibleError(f"the limit {name} is {value}: it must be a number above 0")

    def __str__(self) -> str:
        """In words, such as "5.00 ms, 100.0 M MACs"."""
        parts = {
            "latency_ms": milliseconds(self.latency_ms),
            "macs": f"{amount(self.macs)} MACs",
            "params": f"{amount(self.params)} parameters",
            "memory_bytes": f"{memory(self.memory_bytes)} of activations",
        }
        return ", ".join(parts[name] for name, value in asdict(self).items() if value is not None) or "no limit"


@dataclass(frozen=True)
class Candidate:
    """A finalist: predicted and measured. Accuracy is top-1 on held-out images."""

    arch: Arch
    predicted_top1: float
    predicted_ms: float
    accuracy: Accuracy
    timing: Timing


def search(
    folder: Path,
    budget: Budget,
    *,
    device: str = "cpu",
    finalists: int = 5,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda text: None,
) -> list[Candidate]:
    """The finalists of one search on a run with a profile and a predictor, measured, the choice first.

    Args:
        folder: the run directory.
        budget: what the network may cost.
        device: that was profiled.
        finalists: best predicted networks that are measured.
        seed: of the search.
        on_step: called with what is being done.

    Returns:
        Finalists that keep the budget as measured, by measured accuracy, best first; also appended to searches.jsonl.

    Raises:
        InfeasibleError: nothing in the space keeps the budget.
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    searcher = Searcher(run, latency_table(run, device), load_predictor(run), segment_table(run.space, run.num_classes))
    return searcher.find(budget, finalists=finalists, seed=seed, on_step=on_step)


class Searcher:
    """Answers one budget after the other on one run and device."""

    def __init__(self, run: Run, table: LatencyTable, predictor: AccuracyPredictor, segments: SegmentTable) -> None:
        self.run, self.table, self.predictor = run, table, predictor
        self.costs = {"macs": macs_table(segments), "params": params_table(segments), "memory_bytes": memory_table(segments)}
        self.supernet, self.splits = run.supernet(), run.splits()

    def find(self, budget: Budget, *, finalists: int, seed: int, on_step: Callable[[str], None]) -> list[Candidate]:
        """See `search`."""
        given = {name: value for name, value in asdict(budget).items() if value is not None}
        limits = {name: (self.costs[name].estimate, value) for name, value in given.items() if name in self.costs}
        aim, fastest = budget.latency_ms, 0.0
        for _ in range(ROUNDS):
            if aim is not None:
                limits["latency_ms"] = (self.table.estimate, aim)
            on_step(f"searching {amount(self.run.space.count())} networks for {budget}")
            try:
                found = maximise(self.run.space, self.predictor.predict, limits, seed=seed)
            except InfeasibleError:
                if not fastest:
                    raise
                break  # the limit was tightened beyond what the space can do
            on_step(f"measuring the best {finalists} of {found.evaluations:,} scored")
            candidates = self.measure([finalist.arch for finalist in found.top(finalists)])
            if budget.latency_ms is None or aim is None:
                return self._ranked(budget, candidates)
            if kept := [c for c in candidates if c.timing.ms <= budget.latency_ms]:
                return self._ranked(budget, kept)
            fastest = min(c.timing.ms for c in candidates)
            aim *= 0.98 * budget.latency_ms / fastest
        raise InfeasibleError(
            f"no finalist kept {budget.latency_ms:g} ms when measured, the fastest took {fastest:.3g} ms: allow more, or profile "
            "again when the machine is quiet"
        )

    def _ranked(self, budget: Budget, candidates: list[Candidate]) -> list[Candidate]:
        """By measured accuracy, best first; written to searches.jsonl."""
        ranked = sorted(candidates, key=lambda c: (-c.accuracy.top1, c.timing.ms))
        for candidate in ranked:
            self._note(budget, candidate)
        return ranked

    def measure(self, archs: list[Arch]) -> list[Candidate]:
        """Held-out accuracy and latency of networks; latencies are timed in turns."""
        networks = [calibrated(self.run, self.supernet, arch, self.splits) for arch in archs]
        accuracies = [
            evaluate(network, self.run.eval_batches(self.splits.held_out, arch.resolution))
            for arch, network in zip(archs, networks, strict=True)
        ]
        plans = [self.run.space.lower(arch, self.run.num_classes) for arch in archs]
        pairs = [(plan, cast(GraphModule, ready.network)) for plan, ready in zip(plans, networks, strict=True)]
        timings = measure_networks(pairs, self.table.device, baseline_ms=self.table.baseline_ms)
        genes = self.run.space.genes(archs)
        return [
            Candidate(arch, float(top1), float(ms), accuracy, timing)
            for arch, top1, ms, accuracy, timing in zip(
                archs, self.predictor.predict(genes), np.asarray(self.table.estimate(genes)), accuracies, timings, strict=True
            )
        ]

    def _note(self, budget: Budget, candidate: Candidate) -> None:
        record = {
            "budget": asdict(budget),
            "device": str(self.table.device),
            "arch": candidate.arch.to_json(),
            "predicted_top1": candidate.predicted_top1,
            "held_out_top1": candidate.accuracy.top1,
            "predicted_ms": candidate.predicted_ms,
            "measured_ms": candidate.timing.ms,
        }
        append_line(self.run.folder / "searches.jsonl", record)
