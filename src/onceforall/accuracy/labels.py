"""Accuracies with less noise, from the mean loss on the same images.

Top-1 counts images, so chance is large in it; the mean loss tells much the same with less chance. So top-1 is written as a curve of
the loss plus what summary features (size, resolution, sums of choices) add to that, which leaves out most of the chance.
"""

from typing import Any

import numpy as np

from ..genes import Genes
from .features import Features, Matrix
from .model import Floats

__all__ = ["denoised", "plain"]

DEGREE = 2  # of the curve
PENALTIES = np.geomspace(1, 1e5, 11)


def plain(accuracies: Floats, folds: Any) -> Matrix:
    """Labels for `choose.LEARNERS`, (n, folds + 1): the accuracies themselves in each column."""
    return np.repeat(accuracies[:, None], folds.max() + 2, 1)


def denoised(features: Features, genes: Genes, accuracies: Floats, losses: Floats, folds: Any) -> Matrix:
    """Labels for `choose.LEARNERS`, (n, folds + 1): in column k from what networks outside of fold k tell, in the last from all."""
    from sklearn.linear_model import RidgeCV  # slow to load, and needed only here

    x = np.concatenate([features.summary(genes), features.choices(genes) @ features.maps["sums"]], 1)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    curve = np.vander((losses - losses.mean()) / max(losses.std(), 1e-9), DEGREE + 1)
    labels = np.empty((len(genes), folds.max() + 2))
    for fold in range(labels.shape[1]):
        rows = folds != fold  # all of them for the last column
        along = curve @ np.linalg.lstsq(curve[rows], accuracies[rows], rcond=None)[0]
        rest = RidgeCV(PENALTIES).fit(x[rows], (accuracies - along)[rows])
        labels[:, fold] = along + rest.predict(x)
    return labels
