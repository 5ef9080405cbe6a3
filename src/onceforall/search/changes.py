"""Every change of one choice that a space knows, as arrays, so that thousands of rows are changed by a few numpy calls."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..genes import Genes, canonical
from ..space import Space

__all__ = ["Changes", "changes_of"]

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Changes:
    """A list of changes: of the resolution, of a width, of a block's kernel and ratio at once, of a depth by one step.

    Args:
        space: what is changed.
        groups: for each change a number; of one group only one change can be made at a time.
        first: column that is set, or whose depth changes.
        second: a second column that is set, or the first again.
        values: what the two columns are set to (changes, 2); for a depth, kernel and ratio of the blocks that appear.
        steps: +1 or -1 for depths, else 0.
    """

    space: Space
    groups: Ints
    first: Ints
    second: Ints
    values: Genes
    steps: Ints

    def __len__(self) -> int:
        return len(self.groups)

    def possible(self, rows: Genes) -> Bools:
        """Which changes make another network of which row (rows, changes)."""
        a, b = rows[:, self.first], rows[:, self.second]
        sizes = np.array([len(column.choices) for column in self.space.columns])[self.first]
        differs = (a >= 0) & ((a != self.values[:, 0]) | (b != self.values[:, 1]))
        deeper = (a + self.steps >= 0) & (a + self.steps < sizes)
        result: Bools = np.where(self.steps != 0, deeper, differs)
        return result

    def apply(self, rows: Genes, which: Ints) -> Genes:
        """Row i after change which[i], which must be possible."""
        rows, at = rows.copy(), np.arange(len(rows))
        depth = self.steps[which] != 0
        rows[at, self.first[which]] = np.where(depth, rows[at, self.first[which]] + self.steps[which], self.values[which, 0])
        plain = ~depth
        rows[at[plain], self.second[which][plain]] = self.values[which, 1][plain]
        kernels = np.array([column.kind == "kernel" for column in self.space.columns])
        new = np.where(kernels, self.values[which, :1], self.values[which, 1:])
        return canonical(self.space.columns, np.where((rows < 0) & depth[:, None], new, rows))


@lru_cache(maxsize=8)
def changes_of(space: Space) -> Changes:
    """All changes of a space."""
    found: list[tuple[int, int, int, int, int, int]] = []
    columns = space.columns
    for c, column in enumerate(columns):
        if column.kind in ("resolution", "width"):
            found += [(c, c, c, v, v, 0) for v in range(len(column.choices))]
        elif column.kind in ("kernel", "depth"):
            kernel = c if column.kind == "kernel" else c + 1
            looks = [(k, e) for k in range(len(columns[kernel].choices)) for e in range(len(columns[kernel + 1].choices))]
            if column.kind == "kernel":
                found += [(c, c, c + 1, k, e, 0) for k, e in looks]
            elif len(column.choices) > 1:
                found += [(c, c, c, k, e, 1) for k, e in looks]
                found.append((c, c, c, 0, 0, -1))
    table = np.array(found, np.int64).reshape(len(found), 6)
    return Changes(space, table[:, 0], table[:, 1], table[:, 2], table[:, 3:5].astype(np.int16), table[:, 5])
