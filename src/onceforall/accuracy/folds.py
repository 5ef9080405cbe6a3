"""Folds of measured networks, and ensembles that have one member without each fold."""

from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Matrix
from .model import Learnt, Model

__all__ = ["FOLDS", "Folds", "across_folds", "deal", "families"]

Folds = np.ndarray[Any, np.dtype[np.int64]]
FOLDS = 10


def families(space: Space, genes: Genes) -> Folds:
    """(n,) equal numbers for networks that are alike in their resolution and the first half of their stages.

    Networks that were drawn as a tree have near relatives in it. What is predicted for a network by a model that knows these is no
    sign of how others are predicted, so relatives stay together in cross-validation.
    """
    first = [c for c, column in enumerate(space.columns) if column.stage < len(space.stages) // 2]
    return np.asarray(np.unique(genes[:, first], axis=0, return_inverse=True)[1]).reshape(-1)


def deal(groups: Folds, rng: np.random.Generator) -> Folds:
    """A fold for each network; networks of one group come into one fold, folds are about equal.

    Args:
        groups: (n,) equal numbers for networks that are alike, such as branches of one tree.
        rng: deals groups of one size in its order.
    """
    names, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    number = min(FOLDS, len(names))
    filled, fold = np.zeros(number), np.zeros(len(names), np.int64)
    order = rng.permutation(len(names))
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        fold[name] = filled.argmin()
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[of], np.int64)


def across_folds(model: Model, members: Matrix, folds: Folds) -> Learnt:
    """What a model of several members learnt: each network is predicted by the member that was made without its fold.

    Args:
        model: whose mean is that of its members.
        members: (folds, n) what each member predicts for the measured networks.
        folds: (n,).
    """
    std = np.sqrt(len(members) - 1) * members.std(0)
    return Learnt(model, members[folds, np.arange(len(folds))], std)
