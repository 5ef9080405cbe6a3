"""What to measure for a latency table, and how to turn the times into costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from .. import genes as gene_ops
from ..costs import CostTable, SegmentTable, macs_table, segment_table
from ..errors import DeviceError
from ..genes import Genes
from ..ops import Op, Shape
from ..plan import Plan, Segment
from ..space import Space
from .fit import compositions, fit_costs, interpolate_times
from .table import LatencyErrors

LEAST = 5  # minimum number of networks in a space for a table
FOLDS = 5
LEAST_TO_STOP = 20  # minimum number of networks for a reliable cross-validation
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure.

    Args:
        resolutions: maximum number of resolutions at which segments are timed; other resolutions are interpolated.
        fit: networks to fit the table to.
        test: held-out networks to test the table. A space with fewer than `fit + test` networks is split 3 : 2.
        passes: groups in which each network is timed; each reload may make it a few percent faster or slower.
        rounds: bursts per group, twice as many if intervals are wide and it takes only seconds; see `time_calls`.
        limit: noise of the networks' times above which the machine is rejected; see `time_calls`.
        target: cross-validated mean relative error on half of the networks to fit, at which the other half is skipped.
    """

    resolutions: int = 5
    fit: int = 80
    test: int = 50
    passes: int = 6
    rounds: int = 10
    limit: float = 0.25
    target: float = 0.0


QUICK = Effort(resolutions=3, fit=24, test=16, passes=3, rounds=8)


class Design:
    """The segments and networks of a space to time.

    Args:
        space: the space of the latency table.
        seed: seed for drawing the networks to fit and to test.

    Attributes:
        pieces: plans of single segments.
        first: plans of half of the networks to fit and all networks to test, shuffled.
        more: plans of the other half of the networks to fit.
        genes: gene rows of the networks to fit and of the networks to test.

    Raises:
        DeviceError: the space has too few networks for a table.
    """

    def __init__(self, space: Space, num_classes: int, effort: Effort, seed: int) -> None:
        self._table = segment_table(space, num_classes)
        self._segments = self._table.distinct()
        self._chosen = _at_resolutions(self._table, self._segments, effort.resolutions)
        fitted, self._tested = _draw(self._table, effort, seed)
        self._fitted = np.concatenate([fitted[::2], fitted[1::2]])  # each half from the smallest to the largest
        self._half = len(fitted[::2])
        self.genes = self._fitted, self._tested
        genes = np.concatenate([fitted[::2], self._tested])
        self._order = np.random.default_rng(seed).permutation(len(genes))
        self.pieces = [Plan((self._segments[i],)) for i in self._chosen]
        self.first = [space.lower(arch, num_classes) for arch in space.archs(genes[self._order])]
        self.more = [space.lower(arch, num_classes) for arch in space.archs(fitted[1::2])]

    def sum_of_pieces(self, pieces_ms: Sequence[float]) -> CostTable:
        """The cost of every segment timed on its own, for estimates by plain summation, without whole networks.

        Args:
            pieces_ms: times of `pieces`.
        """
        return self._costs(self._alone(pieces_ms))

    def expected_error(self, pieces_ms: Sequence[float], first_ms: Sequence[float]) -> float:
        """Mean relative error by cross-validation on the first half of the networks to fit; infinite for fewer than 20.

        Args:
            pieces_ms: times of `pieces`.
            first_ms: times of `first`.
        """
        if self._half < LEAST_TO_STOP:
            return float("inf")
        alone = self._alone(pieces_ms)
        counts, times = compositions(self._table, self._fitted[: self._half]), self._sorted(first_ms)[: self._half]
        errors = []
        for fold in range(FOLDS):
            out = np.arange(self._half) % FOLDS == fold
            costs = fit_costs(self._segments, alone, counts[~out], times[~out])
            errors.extend(np.abs(counts[out] @ costs / times[out] - 1))
        return float(np.mean(errors))

    def fit(
        self, pieces_ms: Sequence[float], first_ms: Sequence[float], more_ms: Sequence[float] = ()
    ) -> tuple[CostTable, LatencyErrors]:
        """The cost of every segment inside a network, and the errors on the networks to test.

        Args:
            pieces_ms: times of `pieces`.
            first_ms: times of `first`.
            more_ms: times of `more`, if they were measured.
        """
        first = self._sorted(first_ms)
        times = np.concatenate([first[: self._half], np.array(more_ms, float)])
        counts = compositions(self._table, self._fitted[: len(times)])
        costs = self._costs(fit_costs(self._segments, self._alone(pieces_ms), counts, times))
        return costs, LatencyErrors(tuple(costs.estimate(self._tested).tolist()), tuple(first[self._half :].tolist()))

    def _alone(self, pieces_ms: Sequence[float]) -> Floats:
        """The time of every segment on its own, interpolated from those of `pieces`."""
        return interpolate_times(self._segments, dict(zip(self._chosen, pieces_ms, strict=True)))

    def _costs(self, ms: Floats) -> CostTable:
        by_signature = {segment.signature: float(cost) for segment, cost in zip(self._segments, ms, strict=True)}
        return self._table.costs(lambda segment: by_signature[segment.signature])

    def _sorted(self, first_ms: Sequence[float]) -> Floats:
        """Times of the networks to fit, followed by those of the networks to test."""
        times = np.zeros(len(first_ms))
        times[self._order] = first_ms
        return times


def key_of(plan: Plan) -> str:
    """A key that is equal for plans with the same computation on the same shapes."""
    return sha256(repr([segment.signature for segment in plan.segments]).encode()).hexdigest()[:20]


def _at_resolutions(table: SegmentTable, segments: Sequence[Segment], most: int) -> list[int]:
    """Indices of the segments to time, at up to `most` resolutions including the smallest and the largest."""
    resolutions = len(table.space.resolutions)
    timed = np.unique(np.linspace(0, resolutions - 1, min(most, resolutions)).round().astype(int))
    wanted: set[tuple[Shape, tuple[Op, ...]]] = set()
    for slot in table.slots:
        by_resolution = np.array(slot.segments, object).reshape(slot.sizes[0], -1)
        wanted.update(segment.signature for segment in by_resolution[timed + 1].ravel() if segment is not None)
    return [i for i, segment in enumerate(segments) if segment.signature in wanted]


def _draw(table: SegmentTable, effort: Effort, seed: int) -> tuple[Genes, Genes]:
    """Networks to fit (the smallest, the largest, and others spread evenly over MACs) and other networks to test.

    Uniform samples have similar MACs, but a search also visits the extremes. So each row draws its genes around a size level of its
    own; every other network to test is drawn uniformly, like `Space.sample`.
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
        raise DeviceError(f"this space has {space.count()} networks and a table needs {LEAST}: time each one with measure_networks")
    order = wide[np.argsort(macs_table(table).estimate(wide), kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, fit).round().astype(int))]
    used = {row.tobytes() for row in chosen}
    others = {row.tobytes(): row for pair in zip(rng.permutation(wide), uniform, strict=True) for row in pair}
    others |= {row.tobytes(): row for row in pool}
    rest = [row for key, row in others.items() if key not in used][:test]
    return chosen, np.array(rest)
