"""Every change of one choice that a space knows, as arrays, so that thousands of rows are changed by a few numpy calls."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ..genes import Genes, canonical
from ..space import Space

__all__ = ["Changes", "changes_of"]

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
KINDS = ("kernel", "expand_ratio", "heads")  # choices of a block, in the order of their columns


@dataclass(frozen=True, eq=False)
class Changes:
    """A list of changes: of the resolution, of a width, of a block's choices at once, of a depth by one step.

    Args:
        space: what is changed.
        groups: for each change a number; of one group only one change can be made at a time.
        columns: that are set (changes, 3), the first one again where they are fewer; of a depth, its column.
        values: what these columns are set to (changes, 3); for a depth, the choices of the blocks that appear.
        steps: +1 or -1 for depths, else 0.
    """

    space: Space
    groups: Ints
    columns: Table
    values: Genes
    steps: Ints

    def __len__(self) -> int:
        return len(self.groups)

    def possible(self, rows: Genes) -> Bools:
        """Which changes make another network of which row (rows, changes)."""
        first = rows[:, self.columns[:, 0]]
        sizes = np.array([len(column.choices) for column in self.space.columns])[self.columns[:, 0]]
        differs = (first >= 0) & np.any([rows[:, c] != v for c, v in zip(self.columns.T, self.values.T, strict=True)], axis=0)
        deeper = (first + self.steps >= 0) & (first + self.steps < sizes)
        result: Bools = np.where(self.steps != 0, deeper, differs)
        return result

    def apply(self, rows: Genes, which: Ints) -> Genes:
        """Row i after change which[i], which must be possible."""
        rows, at = rows.copy(), np.arange(len(rows))
        depth = self.steps[which] != 0
        rows[at[depth], self.columns[which[depth], 0]] += self.steps[which[depth]].astype(np.int16)
        plain = which[~depth]
        rows[at[~depth][:, None], self.columns[plain]] = self.values[plain]
        new = np.zeros_like(rows)
        for c, column in enumerate(self.space.columns):
            if column.kind in KINDS:
                new[:, c] = self.values[which, KINDS.index(column.kind)]
        return canonical(self.space.columns, np.where((rows < 0) & depth[:, None], new, rows))


@lru_cache(maxsize=8)
def changes_of(space: Space) -> Changes:
    """All changes of a space."""
    found: list[tuple[int, ...]] = []
    for c, column in enumerate(space.columns):
        if column.kind in ("resolution", "width"):
            found += [(c, c, c, c, v, v, v, 0) for v in range(len(column.choices))]
        elif column.kind in ("kernel", "depth"):
            choices = space.stages[column.stage].of_block
            looks = list(product(*(range(len(values)) for _, values in choices)))
            if column.kind == "kernel":
                own = [*range(c, c + len(choices)), c][:3]
                found += [(c, *own, *[*look, look[0]][:3], 0) for look in looks]
            elif len(column.choices) > 1:
                found += [(c, c, c, c, *[*look, 0][:3], 1) for look in looks]
                found.append((c, c, c, c, 0, 0, 0, -1))
    table = np.array(found, np.int64).reshape(len(found), 8)
    return Changes(space, table[:, 0], table[:, 1:4], table[:, 4:7].astype(np.int16), table[:, 7])
