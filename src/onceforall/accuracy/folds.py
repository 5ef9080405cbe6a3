"""Folds of measured networks, and ensembles that have one member without each fold."""

from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Matrix
from .model import Floats, Learnt, Model

__all__ = ["FOLDS", "OTHERS", "Folds", "across_folds", "deal", "families", "jackknife"]

Folds = np.ndarray[Any, np.dtype[np.int64]]
FOLDS = 10
OTHERS = 300  # random networks at which members are compared


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
    if len(groups) and (groups == groups[0]).all():
        groups = np.arange(len(groups))
    names, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    number = min(FOLDS, len(names))
    filled, fold = np.zeros(number), np.zeros(len(names), np.int64)
    order = rng.permutation(len(names))
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        fold[name] = filled.argmin()
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[of], np.int64)


def across_folds(model: Model, members: Matrix, folds: Folds, others: Genes) -> Learnt:
    """What a model of several members learnt: each network is predicted by the member that was made without its fold.

    How far apart members are is seen at other networks. At the measured ones it would tell whether they know the measurement.

    Args:
        model: whose mean is that of its members.
        members: (folds, n) what each member predicts for the measured networks.
        folds: (n,).
        others: networks that were not measured.
    """
    apart = float(np.sqrt(np.mean(model.mean_and_std(others)[1] ** 2)))
    return Learnt(model, members[folds, np.arange(len(folds))], np.full(len(folds), apart))


def jackknife(members: Matrix) -> Floats:
    """Standard deviation of the mean of members of which each was made without one fold (folds, n)."""
    std: Floats = np.sqrt(len(members) - 1) * members.std(0)
    return std
