"""Changes of one network: which rows are one or two choices away, and how to list a small space entirely."""

import numpy as np

from ..genes import Genes, canonical, neighbours
from ..space import Space

__all__ = ["Row", "combine", "every", "keys", "pairs", "primary", "second_steps", "settle"]

Row = np.ndarray[tuple[int], np.dtype[np.int16]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


def keys(genes: Genes) -> Ints:
    """One int64 per row, equal for equal rows; different rows collide with odds of 2^-64."""
    weights: Ints = np.random.default_rng(genes.shape[1]).integers(-(2**63), 2**63 - 1, genes.shape[1], np.int64)
    names: Ints = (genes.astype(np.int64) + 1) @ (weights | 1)
    return names


def primary(space: Space, row: Row, moves: Genes) -> Ints:
    """For each neighbour of the row, the column that was chosen anew: its depth if that changed, else the changed one."""
    changed = moves != row
    depths = np.array([column.kind == "depth" for column in space.columns])
    columns: Ints = np.where((changed & depths).any(1), (changed & depths).argmax(1), changed.argmax(1))
    return columns


def pairs(columns: Ints) -> tuple[Ints, Ints]:
    """Index pairs (first < second) of moves that change different columns."""
    first, second = np.triu_indices(len(columns), 1)
    different = columns[first] != columns[second]
    return first[different], second[different]


def combine(space: Space, row: Row, moves: Genes, *chosen: Ints) -> Genes:
    """Rows with several moves made at once; chosen[0][i], chosen[1][i], … are the moves of result i."""
    total = np.broadcast_to(row, (len(chosen[0]), len(row)))
    for indices in chosen:
        total = total + (moves[indices] - row)
    return settle(space, total)


def settle(space: Space, totals: Genes) -> Genes:
    """Make sums of a row and several moves canonical: what the moves did to blocks that are gone is dropped."""
    sizes = np.array([len(column.choices) for column in space.columns], np.int16)
    return canonical(space.columns, np.clip(totals, -1, sizes - 1))


def second_steps(space: Space, row: Row, moves: Genes) -> Genes:
    """Neighbours of those neighbours that have other blocks than the row: two-step changes that `pairs` leaves out."""
    depths = [c for c, column in enumerate(space.columns) if column.kind == "depth"]
    rows = [neighbours(space.columns, move) for move in moves[(moves[:, depths] != row[depths]).any(1)]]
    return np.concatenate([moves[:0], *rows])


def every(space: Space) -> Genes:
    """All rows of a space. Call it only where `space.count()` is small."""
    parts = [np.arange(len(space.resolutions), dtype=np.int16)[:, None]]
    for stage in space.stages:
        blocks = _grid(*(_arange(len(values)) for _, values in stage.of_block))
        rows = []
        for d, depth in enumerate(stage.depths):
            chosen = _grid(_arange(len(stage.widths)), np.array([[d]], np.int16), *[blocks] * depth)
            absent = np.full((len(chosen), blocks.shape[1] * (stage.depths[-1] - depth)), -1, np.int16)
            rows.append(np.concatenate([chosen, absent], 1))
        parts.append(np.concatenate(rows))
    return _grid(*parts)


def _arange(n: int) -> Genes:
    return np.arange(n, dtype=np.int16)[:, None]


def _grid(*parts: Genes) -> Genes:
    """Every combination of a row of each part, side by side."""
    result = parts[0]
    for part in parts[1:]:
        result = np.concatenate([np.repeat(result, len(part), 0), np.tile(part, (len(result), 1))], 1)
    return result
