"""Gradient-boosted trees on the genes and the size of a network: an ensemble, one boosted sequence without each fold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Features, Matrix
from .folds import OTHERS, across_folds, jackknife
from .model import Floats, Learnt

__all__ = ["TreesModel"]

DEPTH = 3
SETTINGS = {"n_estimators": 100, "learning_rate": 0.05, "max_depth": DEPTH, "subsample": 0.5, "max_features": 0.3}
NAMES = ("columns", "thresholds", "leaves", "starts")
CHUNK = 2048  # rows predicted at a time


@dataclass(frozen=True, eq=False)
class TreesModel:
    """Made by `learn` or `read`. Every tree is whole: node i has the children 2i + 1 and 2i + 2, 7 nodes and 8 leaves.

    Args:
        features: of networks.
        n: number of measured networks.
        columns: (members, trees, 7) of the input that each node looks at.
        thresholds: the same shape; larger values go to the second child.
        leaves: (members, trees, 8) what each leaf adds.
        starts: (members,) sums without the trees.
    """

    features: Features
    n: int
    columns: Any
    thresholds: Any
    leaves: Any
    starts: Floats

    @classmethod
    def learn(cls, features: Features, genes: Genes, labels: Matrix, folds: Any, rng: np.random.Generator) -> Learnt:
        """Fit to measured gene rows; see `choose.LEARNERS` for the arguments."""
        from sklearn.ensemble import GradientBoostingRegressor  # slow to load, and needed only here

        x, members, starts = _inputs(features, genes), [], []
        for fold in range(labels.shape[1] - 1):
            rows = folds != fold
            start = labels[rows, fold].mean()
            boosted = GradientBoostingRegressor(**SETTINGS, random_state=int(rng.integers(2**31)))
            boosted.fit(x[rows], labels[rows, fold] - start)
            whole = [_whole(tree.tree_) for tree in boosted.estimators_[:, 0]]
            members.append([np.stack(arrays) for arrays in zip(*whole, strict=True)])
            starts.append(start + float(boosted.init_.constant_.item()))
        columns, thresholds, leaves = (np.stack(arrays) for arrays in zip(*members, strict=True))
        leaves = (SETTINGS["learning_rate"] * leaves).astype(np.float32)
        model = cls(features, len(genes), columns, thresholds, leaves, np.array(starts))
        return across_folds(model, model._members(genes), folds, features.space.sample_genes(rng, OTHERS))

    @classmethod
    def read(cls, space: Space, description: Mapping[str, Any], arrays: Mapping[str, Any]) -> "TreesModel":
        """From what `description` and `arrays` gave.

        Raises:
            LookupError, TypeError, ValueError: they do not belong together.
        """
        model = cls(Features.read(space, arrays), int(description["n"]), *(arrays[name] for name in NAMES))
        members, trees, leaves = model.leaves.shape
        nodes = members, trees, 2**DEPTH - 1
        shapes = model.columns.shape, model.thresholds.shape, model.starts.shape
        if leaves != 2**DEPTH or shapes != (nodes, nodes, (members,)):
            raise ValueError("arrays that do not belong together")
        if not 0 <= model.columns.min() <= model.columns.max() < len(space.columns) + 3:
            raise ValueError("a tree looks at an input that does not exist")
        return model

    @property
    def kind(self) -> str:
        """ "trees"."""
        return "trees"

    def mean(self, genes: Genes) -> Floats:
        """Predicted accuracies (n,)."""
        return self.mean_and_std(genes)[0]

    def mean_and_std(self, genes: Genes) -> tuple[Floats, Floats]:
        """Predicted accuracies and their jackknife standard deviations, each (n,)."""
        members = self._members(genes)
        return members.mean(0), jackknife(members)

    def structure(self) -> None:
        """None: trees are no quadratic function."""

    def description(self) -> dict[str, Any]:
        """How many networks were measured."""
        return {"model": "trees", "n": self.n}

    def arrays(self) -> dict[str, Any]:
        """All trees, and what the features need."""
        return {**{name: getattr(self, name) for name in NAMES}, **self.features.arrays()}

    def _members(self, genes: Genes) -> Matrix:
        """(members, n) what each member predicts."""
        members, trees, nodes = self.columns.shape
        columns, thresholds = self.columns.reshape(-1), self.thresholds.reshape(-1)
        leaves = self.leaves.reshape(-1)
        first = np.arange(members * trees) * nodes
        result = np.empty((members, len(genes)))
        for at in range(0, len(genes), CHUNK):
            x = _inputs(self.features, genes[at : at + CHUNK])
            rows = np.arange(len(x), dtype=np.int32)[:, None] * x.shape[1]
            node = np.zeros((len(x), members * trees), np.int32)
            for _ in range(DEPTH):
                place = first + node
                node = 2 * node + 1 + (x.reshape(-1)[rows + columns[place]] > thresholds[place])
            values = leaves[np.arange(members * trees) * (nodes + 1) + node - nodes]
            result[:, at : at + CHUNK] = values.reshape(len(x), members, trees).sum(2).T
        return np.asarray(self.starts[:, None] + result)


def _inputs(features: Features, genes: Genes) -> Any:
    """(n, columns + 3) float32: genes as they are, since choices are in order, and the summary."""
    return np.concatenate([genes, features.summary(genes)], 1).astype(np.float32)


def _whole(tree: Any) -> tuple[Any, Any, Any]:
    """Columns, thresholds and leaves of a tree in which every branch goes down to the last level."""
    columns, thresholds = np.zeros(2**DEPTH - 1, np.int32), np.zeros(2**DEPTH - 1, np.float32)
    leaves = np.zeros(2**DEPTH)
    at = {0: 0}  # node of the whole tree -> node of the given one
    for node in range(2 ** (DEPTH + 1) - 1):
        source = at[node]
        leaf = tree.children_left[source] < 0
        if node >= len(columns):
            leaves[node - len(columns)] = tree.value[source].item()
            continue
        if not leaf:  # float32 inputs compare with the float64 threshold as with the next float32 below it
            columns[node] = tree.feature[source]
            thresholds[node] = _below(tree.threshold[source])
        at[2 * node + 1] = source if leaf else tree.children_left[source]
        at[2 * node + 2] = source if leaf else tree.children_right[source]
    return columns, thresholds, leaves


def _below(threshold: float) -> np.float32:
    near = np.float32(threshold)
    return near if near <= threshold else np.nextafter(near, np.float32(-np.inf))
