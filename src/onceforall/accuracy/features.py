"""A predictor's features of a network: its choices, their sums per stage (both linear in the choices), and its size."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..costs import CostTable, macs_table, params_table, segment_table
from ..genes import Column, Genes, one_hot
from ..resolutions import side_of
from ..space import Space

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
SAMPLE = 2000  # random networks to estimate the distribution of sizes
RIDGE = 1e-3
NAMES = ("sizes", "summary_center", "summary_scale")


@dataclass(frozen=True, eq=False)
class Features:
    """Features of gene rows, made by `of` or from the arrays of another instance.

    Args:
        sizes: (f, 2) matrix that maps one-hot choices to approximate log(MACs) and log(parameters), standardized.
        summary_center: (3,) mean of log(MACs), log(parameters) and log(resolution) over random networks.
        summary_scale: (3,) their standard deviations.
    """

    space: Space
    sizes: Matrix
    summary_center: np.ndarray[Any, np.dtype[np.float64]]
    summary_scale: np.ndarray[Any, np.dtype[np.float64]]

    @classmethod
    def of(cls, space: Space) -> "Features":
        """The features of a space, fitted to a fixed random sample of its networks."""
        blank = cls(space, np.zeros((0, 2)), np.zeros(3), np.ones(3))
        genes = space.sample_genes(np.random.default_rng(0), SAMPLE)
        logs = blank.summary(genes)
        center, scale = logs.mean(0), np.maximum(logs.std(0), 1e-6)
        x = blank.choices(genes)
        sizes = np.linalg.solve(x.T @ x + RIDGE * SAMPLE * np.eye(x.shape[1]), x.T @ ((logs - center) / scale)[:, :2])
        return cls(space, sizes, center, scale)

    @classmethod
    def read(cls, space: Space, arrays: Mapping[str, Any]) -> "Features":
        """Restore features from the result of `arrays`, which may contain other arrays too.

        Raises:
            LookupError, TypeError, ValueError: they are missing, or not for this space.
        """
        features = cls(space, *(arrays[name] for name in NAMES))
        shapes = features.sizes.shape, features.summary_center.shape, features.summary_scale.shape
        if shapes != ((len(features.center), 2), (3,), (3,)) or not (features.summary_scale > 0).all():
            raise ValueError("not the features of this space")
        return features

    def arrays(self) -> dict[str, Any]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in NAMES}

    @cached_property
    def center(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(f,) share of uniform random networks that have each choice."""
        center: list[float] = []
        for column in self.space.columns:
            if len(column.choices) > 1:
                depths = self.space.stages[column.stage].depths if column.block >= 0 else (0,)
                present = sum(depth > column.block for depth in depths) / len(depths)
                center += [present / len(column.choices)] * len(column.choices)
        return np.array(center)

    def choices(self, genes: Genes) -> Matrix:
        """(n, f) one-hot choices, about 0 on average."""
        return one_hot(self.space.columns, genes) - self.center

    def summary(self, genes: Genes) -> Matrix:
        """(n, 3) log(MACs), log(parameters) and log(resolution), standardized."""
        resolution = np.array([side_of(r) for r in self.space.resolutions])[genes[:, 0]]
        logs = np.log(np.stack([*(table.estimate(genes) for table in self._costs), resolution], 1))
        return np.asarray((logs - self.summary_center) / self.summary_scale)

    @cached_property
    def maps(self) -> Mapping[str, Matrix]:
        """Matrices (f, d) by name, which map choices to d features: each kind of choice alone; the values of the columns; their
        sums per stage; the size; and all choices."""
        columns = [(column, value) for column in self.space.columns for value in column.choices if len(column.choices) > 1]
        eye = np.eye(len(columns))
        maps: dict[str, Matrix] = {
            kind: eye[:, [c.kind == kind for c, _ in columns]] for kind in dict.fromkeys(c.kind for c, _ in columns)
        }
        numbers = [(c, _number(c, v), _number(c, c.choices[0]), _number(c, c.choices[-1])) for c, v in columns]
        maps["value"] = _grouped([((c.kind, c.stage, c.block), 2 * v / (low + high) - 1) for c, v, low, high in numbers])
        maps["sums"] = _grouped([((c.kind, c.stage), v / high) for c, v, _, high in numbers])
        return {**maps, "size": self.sizes, "choices": eye}

    @cached_property
    def _costs(self) -> tuple[CostTable, CostTable]:
        table = segment_table(self.space, num_classes=10)
        return macs_table(table), params_table(table)


def _number(column: Column, value: Any) -> float:
    return side_of(value) if column.kind == "resolution" else float(value)


def _grouped(entries: list[tuple[tuple[Any, ...], float]]) -> Matrix:
    """(entries, distinct keys): each entry's value in the column of its key."""
    keys = list(dict.fromkeys(key for key, _ in entries))
    matrix = np.zeros((len(entries), len(keys)))
    for row, (key, value) in zip(matrix, entries, strict=True):
        row[keys.index(key)] = value
    return matrix
