"""Changes of networks as arrays: all changes of a space, rows one or two steps away, and all rows of a small space.

Thousands of rows are changed by a few numpy calls.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np

from ..genes import Genes, canonical
from ..space import Space

Row = np.ndarray[tuple[int], np.dtype[np.int16]]
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
KINDS = ("kernel", "expand_ratio", "heads")  # choices of a block, in the order of their columns


def keys(genes: Genes) -> Ints:
    """One int64 per row, equal for equal rows; different rows collide with probability 2^-64."""
    weights = np.random.default_rng(genes.shape[1]).integers(-(2**63), 2**63 - 1, genes.shape[1], np.int64)
    return np.asarray((genes.astype(np.int64) + 1) @ (weights | 1))


def distinct(genes: Genes) -> Genes:
    """The rows without duplicates, in the same order."""
    return genes[np.sort(np.unique(keys(genes), return_index=True)[1])]


@dataclass(frozen=True, eq=False)
class Changes:
    """A list of changes: to the resolution, to a width, to a block's choices (all at once), or to a depth by one step.

    Args:
        groups: group of each change; only one change per group can be made at a time.
        columns: columns that a change sets (changes, 3), the first one repeated if there are fewer; for a depth, its column.
        values: new values of these columns (changes, 3); for a depth, the choices of the blocks that appear.
        steps: +1 or -1 for depths, else 0.
    """

    space: Space
    groups: Ints
    columns: Table
    values: Genes
    steps: Ints

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def sizes(self) -> Ints:
        """Number of choices of each column."""
        return np.array([len(column.choices) for column in self.space.columns])

    @cached_property
    def kinds(self) -> Ints:
        """For each column of a block, the index in `KINDS` of its kind; 0 for other columns."""
        return np.array([KINDS.index(column.kind) if column.kind in KINDS else 0 for column in self.space.columns])

    def possible(self, rows: Genes) -> Bools:
        """Which changes actually change which rows (rows, changes)."""
        first = rows[:, self.columns[:, 0]]
        differs = rows[:, self.columns[:, 0]] != self.values[:, 0]
        for i in (1, 2):  # a loop is three times faster than an array with one more dimension
            differs |= rows[:, self.columns[:, i]] != self.values[:, i]
        differs &= first >= 0
        deeper = (first + self.steps >= 0) & (first + self.steps < self.sizes[self.columns[:, 0]])
        return np.where(self.steps != 0, deeper, differs)

    def apply(self, rows: Genes, which: Ints) -> Genes:
        """The rows, each after one change: row i after change which[i], which must be possible."""
        rows, at = rows.copy(), np.arange(len(rows))
        depth = self.steps[which] != 0
        rows[at[depth], self.columns[which[depth], 0]] += self.steps[which[depth]].astype(np.int16)
        plain = which[~depth]
        rows[at[~depth][:, None], self.columns[plain]] = self.values[plain]
        new = self.values[which][:, self.kinds]
        return canonical(self.space.columns, np.where((rows < 0) & depth[:, None], new, rows))


@lru_cache(maxsize=8)
def changes_of(space: Space) -> Changes:
    """All changes of a space."""
    changes: list[tuple[int, ...]] = []  # group, 3 columns, 3 values, step
    for c, column in enumerate(space.columns):
        if column.kind in ("resolution", "width"):
            changes += [(c, c, c, c, v, v, v, 0) for v in range(len(column.choices))]
        elif column.kind in ("kernel", "depth"):
            choices = space.stages[column.stage].of_block
            blocks = list(product(*(range(len(values)) for _, values in choices)))
            if column.kind == "kernel":
                columns = [*range(c, c + len(choices)), c][:3]
                changes += [(c, *columns, *[*block, block[0]][:3], 0) for block in blocks]
            elif len(column.choices) > 1:
                changes += [(c, c, c, c, *[*block, 0][:3], 1) for block in blocks]
                changes.append((c, c, c, c, 0, 0, 0, -1))
    table = np.array(changes, np.int64).reshape(len(changes), 8)
    return Changes(space, table[:, 0], table[:, 1:4], table[:, 4:7].astype(np.int16), table[:, 7])


def near(space: Space, row: Row) -> tuple[Genes, Ints]:
    """All rows that differ from a row in one choice, as in `Space.neighbours`, and the column that was changed."""
    changes = changes_of(space)
    which = np.flatnonzero(changes.possible(row[None])[0])
    rows = changes.apply(np.repeat(row[None], len(which), 0), which)
    deeper, differs = changes.steps[which] != 0, rows != row
    single = deeper | (differs.sum(1) == 1)  # some changes set all choices of a block at once
    columns = np.where(deeper, changes.groups[which], differs.argmax(1))
    return rows[single], columns[single]


def pairs(columns: Ints) -> tuple[Ints, Ints]:
    """Index pairs (first < second) of moves that change different columns."""
    first, second = np.triu_indices(len(columns), 1)
    different = columns[first] != columns[second]
    return first[different], second[different]


def combine(space: Space, row: Row, moves: Genes, *chosen: Ints) -> Genes:
    """Rows with several moves made at once; `chosen[0][i]`, `chosen[1][i]`, … are the moves of result i."""
    total = np.broadcast_to(row, (len(chosen[0]), len(row)))
    for indices in chosen:
        total = total + (moves[indices] - row)
    return settle(space, total)


def settle(space: Space, totals: Genes) -> Genes:
    """Make sums of a row and several moves canonical, dropping changes to blocks that no longer exist."""
    sizes = np.array([len(column.choices) for column in space.columns], np.int16)
    return canonical(space.columns, np.clip(totals, -1, sizes - 1))


def second_steps(space: Space, row: Row, moves: Genes) -> Genes:
    """Neighbors of the neighbors with another depth than the row: two-step changes that `pairs` does not cover."""
    depths = [c for c, column in enumerate(space.columns) if column.kind == "depth"]
    rows = [near(space, move)[0] for move in moves[(moves[:, depths] != row[depths]).any(1)]]
    return np.concatenate([moves[:0], *rows])


def every(space: Space) -> Genes:
    """All rows of a space. Call it only if `space.count()` is small."""
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
    """Every combination of one row from each part, concatenated."""
    result = parts[0]
    for part in parts[1:]:
        result = np.concatenate([np.repeat(result, len(part), 0), np.tile(part, (len(result), 1))], 1)
    return result
