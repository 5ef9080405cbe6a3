"""Costs that add up over segments, for whole gene matrices: one table lookup per segment and row.

`SegmentTable` lists every segment that any architecture of a space can contain, once per combination of the choices it
depends on. A `CostTable` gives each of them a number (MACs, parameters, bytes, measured milliseconds) and folds the
numbers of a row by sum or maximum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np

from .arch import Arch, Block, Stage
from .genes import Genes
from .plan import Segment
from .space import Space
from .structure import Factor, Terms

CHUNK = 4096  # rows estimated at a time: they stay in the cache
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Slot:
    """One position in the network and the segments that can occupy it.

    Args:
        name: the segment's name.
        columns: gene columns that decide which segment it is.
        sizes: number of choices of each of those columns, plus one for "absent".
        segments: by code (mixed radix over gene + 1), None where the block is absent or the code does not occur.
    """

    name: str
    columns: tuple[int, ...]
    sizes: tuple[int, ...]
    segments: tuple[Segment | None, ...]

    def codes(self, genes: Genes) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Index into `segments` for each row."""
        code = np.zeros(len(genes), np.int32)
        for column, size in zip(self.columns, self.sizes, strict=True):
            code *= size
            code += genes[:, column]
            code += 1
        return code


@dataclass(frozen=True)
class SegmentTable:
    """Every segment that a space can have at each position; see `segment_table`."""

    space: Space
    slots: tuple[Slot, ...]

    def distinct(self) -> list[Segment]:
        """One segment for each distinct computation, in order of first appearance."""
        return list(self._numbered[0])

    def costs(self, cost: Callable[[Segment], float], fold: Literal["sum", "max"] = "sum") -> "CostTable":
        """A cost table for this space; `cost` is called once for each distinct computation."""
        distinct, numbers = self._numbered
        costs = np.array([*(float(cost(segment)) for segment in distinct), 0.0])  # the last for absent segments
        return CostTable(self, tuple(costs[slot] for slot in numbers), fold)

    @cached_property
    def _numbered(self) -> tuple[list[Segment], tuple[np.ndarray[Any, np.dtype[np.intp]], ...]]:
        """The distinct segments, and for each slot the indices of its segments among them (-1: none).

        Cached, since comparing all segments of a full-size space takes longer than most cost lookups.
        """
        found: dict[int, Segment] = {}
        places: dict[Any, int] = {}
        numbers = []
        for slot in self.slots:
            indices = [-1] * len(slot.segments)
            for i, segment in enumerate(slot.segments):
                if segment is not None:
                    indices[i] = places.setdefault(segment.signature, len(places))
                    found[indices[i]] = segment
            numbers.append(np.array(indices, np.intp))
        return list(found.values()), tuple(numbers)


@dataclass(frozen=True)
class CostTable:
    """A cost for every segment of a space; an estimate folds the costs of a row's segments."""

    segments: SegmentTable
    values: tuple[Floats, ...]
    fold: Literal["sum", "max"] = "sum"

    def estimate(self, archs: Sequence[Arch] | Genes) -> Floats:
        """The cost of each architecture, float64 (n,).

        Raises:
            ArchError: as `Space.rows`.
        """
        genes = self.segments.space.rows(archs)
        radix, first, flat = self._lookup
        total = np.zeros(len(genes))
        for at in range(0, len(genes), CHUNK):
            codes = (genes[at : at + CHUNK] + np.float32(1)) @ radix + first
            terms = flat[codes.astype(np.int32)]
            total[at : at + CHUNK] = terms.sum(1) if self.fold == "sum" else terms.max(1)
        return total

    @cached_property
    def _lookup(self) -> tuple[Any, Any, Floats]:
        """A radix (columns, slots), offsets (slots,) and all values: (genes + 1) @ radix + offsets indexes the values.

        The radix is float32, whose matrix product is fast, and exact here: there are far fewer than 2^24 values.
        """
        slots = self.segments.slots
        radix = np.zeros((len(self.segments.space.columns), len(slots)), np.float32)
        for s, slot in enumerate(slots):
            for i, column in enumerate(slot.columns):
                radix[column, s] = np.prod(slot.sizes[i + 1 :])
        first = np.cumsum([0, *(len(values) for values in self.values[:-1])])
        return radix, first.astype(np.float32), np.concatenate(self.values)

    def structure(self) -> Terms:
        """One term per slot of the network."""
        factors = [
            Factor(slot.columns, values.reshape(slot.sizes)) for slot, values in zip(self.segments.slots, self.values, strict=True)
        ]
        return Terms(tuple(factors), largest=self.fold == "max")


def macs_table(segments: SegmentTable) -> CostTable:
    """Multiply-accumulates for one image."""
    return segments.costs(lambda segment: segment.macs)


def params_table(segments: SegmentTable) -> CostTable:
    """Learnable parameters."""
    return segments.costs(lambda segment: segment.params)


def memory_table(segments: SegmentTable) -> CostTable:
    """Peak float32 activation memory in bytes for one image, as `Plan.peak_memory_bytes`."""
    return segments.costs(lambda segment: 4 * segment.peak_activations, "max")


def flash_table(segments: SegmentTable) -> CostTable:
    """Bytes of the weights in int8 (`Segment.int8_bytes`), which a microcontroller keeps in flash beside its program."""
    return segments.costs(lambda segment: segment.int8_bytes)


def ram_table(segments: SegmentTable) -> CostTable:
    """Peak int8 activation memory in bytes for one image: a quarter of `memory_table`."""
    return segments.costs(lambda segment: segment.peak_activations, "max")


def segment_table(space: Space, num_classes: int) -> SegmentTable:
    """Every segment of the space, found by lowering one architecture per combination of choices.

    Uniform architectures are enough, because a segment depends on its block's choices, its stage's width and the width of the stage
    before, or, between stages, on both widths. Widths alternate between even and odd stages, so that all pairs occur.
    """
    names, columns = _slots(space, num_classes)
    sizes = [tuple(len(space.columns[c].choices) + 1 for c in cols) for cols in columns]
    found: list[dict[int, Segment]] = [{} for _ in names]
    options = zip(*((s.kernels, s.expand_ratios, s.heads, s.widths) for s in space.stages), strict=True)
    kernels, ratios, heads, widths = (range(max(map(len, values))) for values in options) if space.stages else [range(1)] * 4
    for resolution in space.resolutions:
        for *of_block, even, odd in product(kernels, ratios, heads, widths, widths):
            stages = []
            for s, c in enumerate(space.stages):
                values = zip((c.kernels, c.expand_ratios, c.heads), of_block, strict=True)
                block = Block(*(choices[min(index, len(choices) - 1)] for choices, index in values))  # type: ignore[arg-type]
                width = c.widths[min(odd if s % 2 else even, len(c.widths) - 1)]
                stages.append(Stage(width, (block,) * c.depths[-1]))
            arch = Arch(resolution, tuple(stages))
            genes = space.genes([arch])
            for i, segment in enumerate(space.lower(arch, num_classes).segments):
                code = int(Slot(segment.name, columns[i], sizes[i], ()).codes(genes)[0])
                found[i].setdefault(code, segment)
    slots = tuple(
        Slot(name, cols, size, tuple(table.get(code) for code in range(int(np.prod(size)))))
        for name, cols, size, table in zip(names, columns, sizes, found, strict=True)
    )
    return SegmentTable(space, slots)


def _slots(space: Space, num_classes: int) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names of all segments of the largest architecture, and the gene columns that each depends on (`Space.lowering`)."""
    width_at = {column.stage: c for c, column in enumerate(space.columns) if column.kind == "width"}
    choices_at: dict[tuple[int, int], list[int]] = {}
    for c, column in enumerate(space.columns):
        choices_at.setdefault((column.stage, column.block), []).append(c)
    names, columns, stage = [], [], -1
    for segment in space.lower(space.largest(), num_classes).segments:
        names.append(segment.name)
        if segment.name.startswith("stages."):
            stage, block = map(int, segment.name.split(".")[1:])
            before = (width_at[stage - 1],) if block == 0 and stage > 0 else ()
            columns.append((0, *before, width_at[stage], *choices_at[stage, block]))
        else:
            columns.append((0, *(width_at[s] for s in (stage, stage + 1) if s in width_at)))
    return names, columns
