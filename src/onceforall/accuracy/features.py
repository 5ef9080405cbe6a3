"""What a predictor sees of a network: every choice, and a summary (size, resolution, what each stage adds up to)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..costs import CostTable, macs_table, params_table, segment_table
from ..genes import Genes
from ..space import Space

__all__ = ["Features", "Matrix"]

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Features:
    """Features of gene rows; the summary comes first, `summary_size` columns, then one-hot choices."""

    space: Space

    @cached_property
    def _costs(self) -> tuple[CostTable, CostTable]:
        table = segment_table(self.space, num_classes=10)
        return macs_table(table), params_table(table)

    @cached_property
    def _sums(self) -> Matrix:
        """(2 × columns × choices + …, sums): what each stage's present blocks add up to, as a matrix on the one-hot choices."""
        rows = []
        stages = [(kind, s) for s in range(len(self.space.stages)) for kind in ("depth", "kernel", "expand_ratio")]
        for column in self.space.columns:
            if len(column.choices) > 1:
                for value in column.choices:
                    rows.append([value if (column.kind, column.stage) == which else 0.0 for which in stages])
        return np.array(rows, np.float32).reshape(len(rows), len(stages))

    @property
    def summary_size(self) -> int:
        return 3 + self._sums.shape[1]

    def __call__(self, genes: Genes) -> Matrix:
        """(n, features) float32."""
        choices = self.space.encode(genes)
        macs, params = (np.log(table.estimate(genes))[:, None] for table in self._costs)
        resolution = np.log(np.array(self.space.resolutions, np.float64))[genes[:, :1]]
        return np.concatenate([macs, params, resolution, choices @ self._sums, choices], 1, dtype=np.float32, casting="same_kind")
