"""Turn tied labels into units and groups, and the sizes of all dimensions into sums over groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from ..graph import DimPart, Own, Size, Value
from ..ops import leaves
from .labels import Array, Labels, Reason, collapsed
from .trace import BATCH, Trace

FIXED = -1


@dataclass
class Units:
    """The units and groups that the entries of all dimensions belong to.

    Args:
        group: index of each label's group, -1 if it is fixed.
        rank: index of each label's unit in its group.
        sizes: number of units in each group.
        heads: groups of attention heads.
        classes: the group of the classifier's outputs, or -1.
        components: index of each label's set of tied labels, which can only be removed as a whole.
    """

    labels: Labels
    group: Array
    rank: Array
    sizes: list[int]
    heads: set[int]
    classes: int
    components: Array
    known: dict[int, tuple[set[int], int, Array]] = field(default_factory=dict)  # by id, as `labels` keeps the factors alive

    def groups_of(self, name: str) -> set[int]:
        """Groups in the dimensions of a step's results."""
        return {group for factors in self.labels.values[name] for factor in factors for group in self._facts(factor)[0]}

    def groups_of_weight(self, name: str) -> set[int]:
        """Groups in the dimensions of a tensor."""
        return {group for factor in self.labels.weights[name] for group in self._facts(factor)[0]}

    def along(self, factors: Sequence[Array], dim: int, elastic: set[int]) -> Array | None:
        """The labels along a dimension, if some of them belong to elastic groups."""
        for factor in factors:
            groups, carrier, line = self._facts(factor)
            if carrier == dim and groups & elastic:
                return line
        return None

    def _facts(self, factor: Array) -> tuple[set[int], int, Array]:
        """The groups in a factor, the dimension along which their units differ, and the labels along it."""
        if id(factor) not in self.known:
            group = self.group[factor]
            groups = set(np.unique(group).tolist()) - {FIXED}
            carrier = -1
            if groups:
                units = collapsed(np.where(group == FIXED, FIXED, group * (self.rank.max() + 1) + self.rank[factor]))
                carrier = next((dim for dim, size in enumerate(units.shape) if size > 1), -1)
            line = factor
            for axis in range(factor.ndim):
                if axis != carrier:
                    line = line.take([0], axis)
            self.known[id(factor)] = groups, carrier, line.ravel()
        return self.known[id(factor)]

    def parts(self, line: Array, elastic: set[int]) -> tuple[DimPart, ...]:
        """The runs of units in a line of labels.

        Raises:
            OrderError: the units are not in order.
        """
        group = np.where(np.isin(self.group[line], list(elastic)), self.group[line], FIXED)
        rank = np.where(group == FIXED, 0, self.rank[line])
        edges = np.flatnonzero((np.diff(group) != 0) | (np.diff(rank) != 0)) + 1
        starts = np.concatenate([[0], edges]).tolist()
        counts = np.diff([*starts, len(line)]).tolist()
        found: list[DimPart] = []
        expected = 0
        for start, count in zip(starts, counts, strict=True):
            g, r = int(group[start]), int(rank[start])
            if g == FIXED:
                found.append(DimPart(FIXED, count, 1))
                expected = 0
                continue
            if r == 0:
                found.append(DimPart(g, 1, count))
            elif found and found[-1].group == g and r == expected and found[-1].each == count:
                found[-1] = DimPart(g, r + 1, count)
            else:
                raise OrderError(g)
            expected = r + 1
        for part in found:
            if part.group != FIXED and part.units != self.sizes[part.group]:
                raise OrderError(part.group)
        return tuple(found)

    def size(self, base: Size, line: Array | None, elastic: set[int]) -> Size:
        """The size of a dimension that has `base` entries in the largest network."""
        if line is None:
            return base
        batch = base.batch
        if batch:
            rows, columns = line.reshape(BATCH, -1), line.reshape(-1, BATCH)
            if (rows == rows[0]).all():
                line = rows[0]
            elif (columns == columns[:, :1]).all():
                line = columns[:, 0]
            else:
                raise OrderError(int(self.group[line].max()))
        ((times, _),) = base.terms
        terms: dict[int, int] = {}
        for part in self.parts(line, elastic):
            terms[part.group] = terms.get(part.group, 0) + (part.units if part.group == FIXED else part.each)
        if isinstance(times, tuple):
            return Size(tuple((tuple(number * t // len(line) for t in times), g) for g, number in terms.items()), batch)
        return Size(tuple((number, g) for g, number in terms.items()), batch)


class OrderError(Exception):
    """The units of a group are in an order in which the first ones cannot be cut out."""

    def __init__(self, group: int) -> None:
        super().__init__(group)
        self.group = group


def resolve(trace: Trace, labels: Labels) -> Units:
    """Find units and groups. Labels are tied or fixed until no removal of a unit leaves a hole in a tensor."""
    classes = None if any(reason.step == "output" for _, reason in labels.fixed) else _outputs(trace, labels)
    for _ in range(20):
        components = labels.components()
        fixed = _fixed(labels, components)
        if not _mend(labels, components, fixed):
            break
    units = _groups(labels, components, fixed, classes)
    if classes is None or units.classes != FIXED:
        return units
    labels.fix([classes], Reason("output", "", "the model returns them"))  # returned values do not form a group
    return resolve(trace, labels)


def _is_read(labels: Labels, group: Array, number: int) -> bool:
    """Whether the columns of a weight belong to the group, so that a layer reads its units."""
    factors = (factor for factors in labels.weights.values() for factor in factors)
    return any(max(factor.shape[1:], default=1) > 1 and bool((group[factor] == number).any()) for factor in factors)


def _outputs(trace: Trace, labels: Labels) -> Array | None:
    """Fix what the model returns; if it is a classifier, return the labels of its classes instead."""
    returned = [leaf for leaf in leaves(trace.output) if isinstance(leaf, Value | Own)]
    only = returned[0].name if len(returned) == 1 and isinstance(returned[0], Value) else None
    factors = [] if only is None or only == "x" else [factor for factor in labels.values[only][0] if factor.size > 1]
    if only is not None and len(factors) == 1 and len(labels.shapes[only][0]) == 2:
        (factor,) = factors
        if factor.shape[1] > 1 and factor.shape[0] == 1:
            return factor.ravel()
    for leaf in returned:
        for factors in labels.values[leaf.name] if isinstance(leaf, Value) else [labels.weights[leaf.name]]:
            labels.fix(factors, Reason("output", "", "the model returns them"))
    return None


def _fixed(labels: Labels, components: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which labels are fixed."""
    marked = np.zeros(components.max() + 1 if len(components) else 0, bool)
    for array, _ in labels.fixed:
        marked[components[array]] = True
    if labels.copies:
        made = np.zeros(len(marked), bool)
        for factors in labels.weights.values():
            for factor in factors:
                if factor.ndim > 1 and factor.shape[0] > 1:  # rows
                    made[components[factor]] = True
        copies = components[np.concatenate(labels.copies)]
        marked[copies[~made[copies]]] = True
    return marked[components] if len(components) else marked


def _all_factors(labels: Labels) -> Iterator[Array]:
    for factors in (*chain.from_iterable(labels.values.values()), *labels.weights.values()):
        yield from factors


def _mend(labels: Labels, components: Array, fixed: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
    """Tie labels whose removal would leave a hole in a tensor; return whether there were any."""
    mended = False
    for factor in _all_factors(labels):
        removable = collapsed(np.where(fixed[factor], FIXED, components[factor]))
        long = [dim for dim, size in enumerate(removable.shape) if size > 1]
        if len(long) > 1:
            labels.tie_along(factor, long[1:])
            mended = True
    return mended


def _groups(labels: Labels, components: Array, fixed: np.ndarray[Any, np.dtype[np.bool_]], classes: Array | None) -> Units:
    count = int(components.max()) + 1 if len(components) else 0
    elastic = np.zeros(count, bool)
    elastic[components[~fixed]] = True
    signature = np.zeros(count, np.uint64)
    rng = np.random.default_rng(0)
    for factor in _all_factors(labels):
        mark = rng.integers(1, 2**63, dtype=np.uint64)
        own, numbers = np.unique(components[factor], return_counts=True)
        signature[own] += mark * numbers.astype(np.uint64)
    if classes is not None:
        signature[np.unique(components[classes])] += rng.integers(1, 2**63, dtype=np.uint64)
    group_of = np.full(count, FIXED, np.int64)
    rank_of = np.zeros(count, np.int64)
    kinds, numbers = np.unique(signature[elastic], return_inverse=True)
    which = np.flatnonzero(elastic)
    sizes: list[int] = []
    for kind in range(len(kinds)):
        members = which[numbers == kind]
        if len(members) > 1:
            group_of[members] = len(sizes)
            rank_of[members] = np.arange(len(members))
            sizes.append(len(members))
    group, rank = group_of[components], rank_of[components]
    heads = {int(g) for array in labels.heads for g in np.unique(group[array])} - {FIXED}
    chosen = FIXED
    if classes is not None:
        found = np.unique(group[classes])
        whole = len(found) == 1 and found[0] != FIXED and sizes[int(found[0])] == len(classes)
        if whole and not _is_read(labels, group, int(found[0])):
            chosen = int(found[0])
    return Units(labels, group, rank, sizes, heads - {chosen}, chosen, components)
