"""Which kind of model, by cross-validation, and how wide its error bars must be.

Every learner gets the same folds. What a network is predicted to be by models made without its fold is compared with what was
measured. Among kinds that are as good as the best up to chance, those are preferred whose maximum a search can prove.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..genes import Genes
from ..space import Space
from .features import Features, Matrix
from .model import Floats, Learnt, Model
from .process_model import KINDS, ProcessModel

Folds = np.ndarray[Any, np.dtype[np.int64]]
FOLDS = 10
NORMAL_90 = 1.6448536  # standard deviations within which 90 % of a normal distribution lie
MOST_COMPARED = 1000  # measured networks on which kinds are compared; the chosen one then learns from all
DEGREE = 2  # of accuracy as a curve of the loss
PENALTIES = np.geomspace(1, 1e5, 11)

# (features, gene rows, labels (n, folds + 1), folds (n,), rng) -> Learnt. Column k of the labels is what a model without fold k may
# know; the last column is for the model of all networks.
LEARNERS: dict[str, Callable[[Features, Genes, Matrix, Folds, np.random.Generator], Learnt]] = {
    kind: partial(ProcessModel.learn, kind) for kind in KINDS
}
PROVABLE = ("linear", "pairwise")


@dataclass(frozen=True)
class Calibration:
    """How wide error bars are: (scale × std)² + misfit² of the prediction, plus noise² of a measurement.

    Args:
        scale: of the model's own standard deviations.
        misfit: what the kind of model cannot follow, standard deviation; 0 where it cannot be distinguished from noise.
        noise: of one measurement, standard deviation.
    """

    scale: float = 1.0
    misfit: float = 0.0
    noise: float = 0.0

    def __call__(self, std: Floats, *, measured: bool) -> Floats:
        """Standard deviations of the prediction (n,), or of what a measurement would give around it."""
        noise = self.noise if measured else 0.0
        return np.sqrt((self.scale * std) ** 2 + self.misfit**2 + noise**2)


def choose(
    space: Space, genes: Genes, accuracies: Floats, *, losses: Floats | None, noise: float | None, kinds: Sequence[str], seed: int
) -> tuple[Model, Calibration, dict[str, float]]:
    """Fit the best kind of model; see `AccuracyPredictor.fit` for the arguments.

    Returns:
        The model, the calibration of its error bars, and the cross-validated root mean square error of each kind.
    """
    features, groups = Features.of(space), families(space, genes)

    def learn(name: str, rows: Any, uses_losses: bool) -> Learnt:
        folds = deal(groups[rows], np.random.default_rng([seed, 1]))
        labels = as_measured(accuracies[rows], folds)
        if uses_losses and losses is not None:
            labels = denoised(features, genes[rows], accuracies[rows], losses[rows], folds)
        return LEARNERS[name](features, genes[rows], labels, folds, np.random.default_rng([seed, 2]))

    few = np.sort(np.random.default_rng([seed, 0]).permutation(len(genes))[:MOST_COMPARED])
    tried = {uses: learn(kinds[0], few, uses) for uses in ((False,) if losses is None else (False, True))}
    uses_losses = min(tried, key=lambda uses: np.mean((tried[uses].mean - accuracies[few]) ** 2))
    learnt = {name: tried[uses_losses] if name == kinds[0] else learn(name, few, uses_losses) for name in kinds}
    squares = {name: (one.mean - accuracies[few]) ** 2 for name, one in learnt.items()}
    name = _best(squares)
    found = learnt[name] if len(few) == len(genes) else learn(name, np.arange(len(genes)), uses_losses)
    return found.model, calibrate(found, accuracies, noise), {other: float(np.sqrt(own.mean())) for other, own in squares.items()}


def calibrate(learnt: Learnt, accuracies: Floats, noise: float | None) -> Calibration:
    """Error bars that hold 90 % of what was measured around predictions made without it.

    Args:
        accuracies: (n,) measured.
        noise: standard deviation of one measurement, if known. Else all that the model did not foresee counts as noise.
    """
    errors = accuracies - learnt.mean
    foreseen, found = float(np.mean(learnt.std**2)), float(np.mean(errors**2))
    left = max(found - foreseen, 0.05 * found, 1e-12)
    known = left if noise is None else min(noise**2, left)
    total = np.sqrt(learnt.std**2 + left)
    rank = min(int(np.ceil(0.9 * (len(errors) + 1))), len(errors))  # conformal: of the error that 90 % must not exceed
    scale = float(np.sort(np.abs(errors) / total)[rank - 1]) / NORMAL_90
    # The weights were chosen on all folds, so errors are too small by the usual factor for fitted parameters.
    scale *= float(np.sqrt(len(errors) / max(len(errors) - learnt.chosen, len(errors) / 2)))
    known = min(known, scale**2 * left)
    return Calibration(scale, float(np.sqrt(max(scale**2 * left - known, 0.0))), float(np.sqrt(known)))


def _best(squares: Mapping[str, Floats]) -> str:
    """The kind with the smallest squared errors, of provable ones if one of them is worse by less than one standard error."""
    best = min(squares, key=lambda name: squares[name].mean())

    def as_good(name: str) -> bool:
        more: Any = squares[name] - squares[best]
        return bool(more.mean() <= more.std() / np.sqrt(len(more)))

    provable = [name for name in squares if name in PROVABLE and as_good(name)]
    return min(provable or [best], key=lambda name: squares[name].mean())


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


def as_measured(accuracies: Floats, folds: Any) -> Matrix:
    """Labels for `LEARNERS`, (n, folds + 1): the accuracies themselves in each column."""
    return np.repeat(accuracies[:, None], folds.max() + 2, 1)


def denoised(features: Features, genes: Genes, accuracies: Floats, losses: Floats, folds: Any) -> Matrix:
    """Labels for `LEARNERS`, (n, folds + 1): in column k from what networks outside of fold k tell, in the last from all.

    Top-1 counts images, so chance is large in it; the mean loss tells much the same with less chance. So top-1 is written as a
    curve of the loss plus what summary features (size, resolution, sums of choices) add to that, which leaves out most of the
    chance.
    """
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
