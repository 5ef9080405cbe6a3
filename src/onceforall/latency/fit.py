"""Fit one cost per segment to the times of single segments and of whole networks.

A segment takes a different time inside a network than alone: it is fused with its neighbors, its weights come from a more distant
cache, and its input has the layout that the previous segment left. So the time alone, multiplied by one common factor, is only the
mean of a Gaussian prior for a segment's cost. Whole networks, whose time is the sum of their segments' costs plus noise, are the
observations, and the posterior mean is the table. There are two kinds of deviations from the prior mean: proportional to simple
features (weights, memory traffic, MACs, number of operations), shared by all segments; and proportional to the time itself, shared
by segments with the same place, kernels, widths or size. Their scales are chosen by marginal likelihood.

Held-out error on 60 networks, prototypes of the models fitted to 24, busy 2-core machine, ONNX Runtime, spaces of 0.2 and 0.6 ms
networks: plain sum 16.3 and 14.2 %; sum times a factor 2.2 and 2.4 %; non-negative least squares on features 1.1 and 2.3 %; this
model 0.8 and 2.2 %. Repeated measurements differed by 0.5 and 1.7 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..costs import SegmentTable
from ..genes import Genes
from ..looks import channels, kind_of, layers
from ..ops import Add, Call, Conv, Scale, Shape
from ..plan import Segment

Floats = np.ndarray[Any, np.dtype[np.float64]]
FEATURE_SPREADS = (0.03, 0.1, 0.3)  # standard deviation of each feature's share of an average network's time
SEGMENT_SPREADS = (0.02, 0.05, 0.1)  # standard deviation of a segment's individual relative deviation
NOISES = (0.003, 0.01, 0.03)  # relative standard deviation of a network's measured time


@dataclass(frozen=True, slots=True)
class _Likeness:
    """Properties that segments can share."""

    place: tuple[int, int, tuple[str, ...]]  # input and output channels, kinds of operations
    kernels: tuple[tuple[int, int], ...]  # sizes and strides
    widths: tuple[int, ...]
    size: Shape


def likeness(segment: Segment) -> _Likeness:
    """The properties of a segment, from its operations."""
    parts = layers(segment)
    calls = any(isinstance(op, Call) for op in segment.ops)
    into, out = (channels(shape) if calls else shape[0] for shape in (segment.in_shape, segment.out_shape))
    return _Likeness(
        (into, out, tuple(kind_of(op) for op in segment.ops)),
        tuple((layer.kernel, layer.stride) for layer in parts),
        tuple(width for layer in parts for width in ((layer.inputs, layer.outputs) if calls else (layer.outputs,))),
        segment.in_shape if calls else segment.in_shape[1:],
    )


def interpolate_times(segments: Sequence[Segment], known: Mapping[int, float]) -> Floats:
    """Interpolate the times of all segments from known ones (by index), linearly in MACs between segments that differ only in size.

    Raises:
        KeyError: the time of no segment like this one is known.
    """
    groups: dict[_Likeness, list[int]] = {}
    for i in known:
        groups.setdefault(replace(likeness(segments[i]), size=()), []).append(i)
    times = np.zeros(len(segments))
    for i, segment in enumerate(segments):
        if i in known:
            times[i] = known[i]
            continue
        like = sorted(groups[replace(likeness(segment), size=())], key=lambda j: segments[j].macs)
        times[i] = np.interp(segment.macs, [segments[j].macs for j in like], [known[j] for j in like])
    return times


def compositions(table: SegmentTable, genes: Genes) -> Floats:
    """Number of times each of `table.distinct()` occurs in each network (rows, segments)."""
    index = {segment.signature: i for i, segment in enumerate(table.distinct())}
    counts = np.zeros((len(genes), len(index)))
    for slot in table.slots:
        for row, code in enumerate(slot.codes(genes)):
            segment = slot.segments[code]
            if segment is not None:
                counts[row, index[segment.signature]] += 1
    return counts


def fit_costs(segments: Sequence[Segment], alone: Floats, counts: Floats, networks: Floats) -> Floats:
    """Fit the cost of each segment in ms, above 0.

    Args:
        segments: all segments of the networks.
        alone: time of each segment on its own, ms.
        counts: occurrences of each segment in each measured network (networks, segments).
        networks: measured times of the networks, ms.
    """
    expected = alone * np.median(networks / (counts @ alone))
    features = np.array([_features(segment) for segment in segments], float)
    per_network = (counts @ features).mean(0)
    features = np.column_stack([features[:, per_network > 0] / per_network[per_network > 0] * networks.mean(), expected])
    shared = features @ (counts @ features).T
    individual = _kernel(segments) * np.outer(expected, expected) @ counts.T  # (segments, networks), as shared
    rest = networks - counts @ expected
    best, costs = -np.inf, expected
    for feature, segment, noise in product(FEATURE_SPREADS, SEGMENT_SPREADS, NOISES):
        covariance = feature**2 * shared + segment**2 * individual
        factor = np.linalg.cholesky(counts @ covariance + np.diag((noise * networks) ** 2))
        white = np.linalg.solve(factor, rest)
        likelihood = -white @ white / 2 - np.log(np.diag(factor)).sum()
        if likelihood > best:
            best, costs = likelihood, expected + covariance @ np.linalg.solve(factor.T, white)
    return np.maximum(costs, 0.05 * expected)


def _features(segment: Segment) -> tuple[float, ...]:
    """Cost features of a segment: a constant, weights, memory traffic, MACs, convolutions, gates, shortcuts."""
    working = [op for op in segment.ops if isinstance(op, Conv | Add | Scale) or (isinstance(op, Call) and not op.fused)]
    traffic = sum(prod(op.shape) + prod(segment.in_shape) for op in working)
    kinds = [sum(isinstance(op, kind) for op in segment.ops) for kind in (Conv, Scale, Add)]
    if calls := [op for op in working if isinstance(op, Call)]:
        weighted = sum(bool(op.macs) for op in calls)
        kinds = [weighted, len(calls) - weighted, 0]
    return (1, segment.params, traffic, segment.macs, *kinds)


def _kernel(segments: Sequence[Segment]) -> Floats:
    """Prior covariance of relative deviations, for segments of the same place; more if kernels, widths or size also match."""
    likes = [likeness(segment) for segment in segments]
    place, size = _equal([like.place for like in likes]), _equal([like.size for like in likes])
    kernels, widths = _equal([like.kernels for like in likes]), _equal([like.widths for like in likes])
    return np.asarray(place * (0.4 + 0.3 * (kernels + widths + size + np.eye(len(likes)))))


def _equal(values: Sequence[object]) -> Floats:
    """Matrix of 1 where two values are equal, else 0."""
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    ids = np.array([numbers[value] for value in values])
    return np.asarray(ids[:, None] == ids, float)
