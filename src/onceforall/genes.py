"""Operations on gene matrices, vectorized over rows: many architectures at the cost of a few numpy calls.

A gene matrix is int16 (n, columns): each entry indexes its column's choices, -1 marks the choices of an absent block.
Every function returns canonical rows: equal networks have equal rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np

from .errors import ArchError

Genes = np.ndarray[tuple[int, int], np.dtype[np.int16]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
CHUNK = 4096  # rows checked at a time: they stay in the cache
Kind = Literal["resolution", "width", "depth", "kernel", "expand_ratio", "heads"]


@dataclass(frozen=True, slots=True)
class Column:
    """One choice: its kind, its values, and its position (stage and block, -1 where not applicable)."""

    kind: Kind
    choices: tuple[Any, ...]
    stage: int = -1
    block: int = -1


def sample(columns: Sequence[Column], rng: np.random.Generator, n: int) -> Genes:
    """n rows with every choice drawn uniformly and independently."""
    return canonical(columns, rng.integers(0, _sizes(columns), (n, len(columns)), np.int16))


def mutate(columns: Sequence[Column], genes: Genes, rng: np.random.Generator, probability: float) -> Genes:
    """Redraw each entry with the given probability; all choices of a block that appears are redrawn."""
    fresh = rng.integers(0, _sizes(columns), genes.shape, np.int16)
    redraw = (rng.random(genes.shape) < probability) | (genes < 0)
    return canonical(columns, np.where(redraw, fresh, genes))


def cross(columns: Sequence[Column], first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
    """Take each entry from either parent at random, row by row; a block that only one parent has comes from that parent."""
    take_first = rng.random(first.shape) < 0.5
    child = np.where(take_first, first, second)
    return canonical(columns, np.where(child < 0, np.maximum(first, second), child))


def neighbours(columns: Sequence[Column], row: np.ndarray[tuple[int], np.dtype[np.int16]]) -> Genes:
    """All rows one step away from one row: see `Space.neighbours`."""
    rows = []
    for c, column in enumerate(columns):
        if row[c] < 0:
            continue
        if column.kind != "depth":
            for value in range(len(column.choices)):
                if value != row[c]:
                    rows.append(_changed(row, {c: value}))
            continue
        slots = [i for i, other in enumerate(columns) if other.stage == column.stage and other.block >= 0]
        if row[c] > 0:
            rows.append(_changed(row, {c: int(row[c]) - 1}))
        if row[c] + 1 < len(column.choices):
            sizes = {columns[i].kind: len(columns[i].choices) for i in slots}
            for values in product(*map(range, sizes.values())):
                chosen = dict(zip(sizes, values, strict=True))
                absent = {i: chosen[columns[i].kind] for i in slots if row[i] < 0}
                rows.append(_changed(row, {c: int(row[c]) + 1, **absent}))
    return canonical(columns, np.array(rows, np.int16).reshape(len(rows), len(columns)))


def canonical(columns: Sequence[Column], genes: Genes) -> Genes:
    """The same rows with -1 in the choices of every absent block."""
    blocks, depths, values, order = _places(tuple(columns))
    present = values[np.arange(len(values)), genes[:, depths]][:, order[0]] > order[1]
    genes = genes.copy()
    genes[:, blocks] = np.where(present, genes[:, blocks], np.int16(-1))
    return genes


def check(columns: Sequence[Column], genes: Genes) -> None:
    """Check that every row is a canonical architecture.

    Raises:
        ArchError: wrong shape or type, an index out of range, an absent block with choices or a present one without.
    """
    if genes.ndim != 2 or genes.shape[1] != len(columns):
        raise ArchError(f"a gene matrix of this space has shape (n, {len(columns)}), this one has {genes.shape}")
    if not np.issubdtype(genes.dtype, np.integer):
        raise ArchError(f"a gene matrix holds whole numbers, this one holds {genes.dtype}")
    for at in range(0, len(genes), CHUNK):
        _check(columns, np.ascontiguousarray(genes[at : at + CHUNK].T))


def _check(columns: Sequence[Column], turned: Genes) -> None:
    """`check` for a transposed matrix (columns, n), whose columns are contiguous in memory: ten times faster."""
    low, high = turned.min(1).tolist(), turned.max(1).tolist()
    for c, column in enumerate(columns):
        least = -1 if column.block >= 0 else 0
        if low[c] < least or high[c] >= len(column.choices):
            raise ArchError(f"column {c} ({column.kind}) has an index outside {least}..{len(column.choices) - 1}")
    depth_of = _depth_of(columns)
    blocks, known = list(depth_of), sorted(set(depth_of.values()))
    depths = np.array([np.array(columns[depth].choices, np.int16)[turned[depth]] for depth in known])
    stages = np.searchsorted(known, [depth_of[block] for block in blocks])
    present = depths[stages] > np.array([columns[block].block for block in blocks], np.int16)[:, None]
    wrong = present != (turned[blocks] >= 0)
    if wrong.any():
        first = int(wrong.any(1).argmax())
        if present[first, wrong[first].argmax()]:
            block = blocks[first]
            raise ArchError(f"column {block} ({columns[block].kind}) is -1 although the block is present")
        raise ArchError("a row describes a block beyond its stage's depth: pass the matrix through canonical() first")


def one_hot(columns: Sequence[Column], genes: Genes) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Features (n, total choices of the columns with more than one), float32."""
    parts = [
        (genes[:, c, None] == np.arange(len(column.choices), dtype=np.int16)).astype(np.float32)
        for c, column in enumerate(columns)
        if len(column.choices) > 1
    ]
    return np.concatenate(parts, 1) if parts else np.zeros((len(genes), 0), np.float32)


def _sizes(columns: Sequence[Column]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.array([len(column.choices) for column in columns], np.int16)


def _depth_of(columns: Sequence[Column]) -> dict[int, int]:
    """For each block column, the column of its stage's depth."""
    depth_at = {column.stage: c for c, column in enumerate(columns) if column.kind == "depth"}
    return {c: depth_at[column.stage] for c, column in enumerate(columns) if column.block >= 0}


@lru_cache(maxsize=16)
def _places(columns: tuple[Column, ...]) -> tuple[Ints, Ints, Ints, tuple[Ints, Ints]]:
    """Block columns; depth columns; the depth choices of each; and for each block column, the index of its depth column and the
    block's number."""
    depth_of = _depth_of(columns)
    depths = sorted(set(depth_of.values()))
    values = np.zeros((len(depths), max((len(columns[d].choices) for d in depths), default=0)), np.int64)
    for row, d in zip(values, depths, strict=True):
        row[: len(columns[d].choices)] = columns[d].choices
    stages = np.array([depths.index(d) for d in depth_of.values()], np.int64)
    numbers = np.array([columns[block].block for block in depth_of], np.int64)
    return np.array(list(depth_of), np.int64), np.array(depths, np.int64), values, (stages, numbers)


def _changed(row: np.ndarray[tuple[int], np.dtype[np.int16]], values: dict[int, int]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    row = row.copy()
    row[list(values)] = list(values.values())
    return row
