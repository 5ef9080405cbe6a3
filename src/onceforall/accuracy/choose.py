"""Choose the kind of model by cross-validation, and calibrate its error bars.

All learners use the same folds. A network's measurement is compared with the prediction of a model fitted without its fold. Among
kinds that are not significantly worse than the best, kinds whose maximum a search can prove are preferred.
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
NORMAL_90 = 1.6448536  # standard deviations that contain 90 % of a normal distribution
MOST_COMPARED = 1000  # maximum number of networks to compare kinds on; the chosen kind is then fitted to all
DEGREE = 2  # degree of the polynomial from loss to accuracy
PENALTIES = np.geomspace(1, 1e5, 11)

# (features, gene rows, labels (n, folds + 1), folds (n,), rng) -> Learnt. Column k of the labels is for the model fitted without
# fold k; the last column is for the model fitted to all networks.
LEARNERS: dict[str, Callable[[Features, Genes, Matrix, Folds, np.random.Generator], Learnt]] = {
    kind: partial(ProcessModel.learn, kind) for kind in KINDS
}
PROVABLE = ("linear", "pairwise")


@dataclass(frozen=True)
class Calibration:
    """The variance of a prediction: (scale × std)² + misfit², plus noise² for a measurement.

    Args:
        scale: factor of the model's standard deviations.
        misfit: standard deviation of what this kind of model cannot fit; 0 if indistinguishable from noise.
        noise: standard deviation of one measurement.
    """

    scale: float = 1.0
    misfit: float = 0.0
    noise: float = 0.0

    def __call__(self, std: Floats, *, measured: bool) -> Floats:
        """Standard deviations (n,) of the predictions, or of measurements around them."""
        noise = self.noise if measured else 0.0
        return np.sqrt((self.scale * std) ** 2 + self.misfit**2 + noise**2)


def choose(
    space: Space, genes: Genes, accuracies: Floats, *, losses: Floats | None, noise: float | None, kinds: Sequence[str], seed: int
) -> tuple[Model, Calibration, dict[str, float]]:
    """Fit the best kind of model; see `AccuracyPredictor.fit` for the arguments.

    Returns:
        The model, the calibration of its error bars, and the cross-validated root mean square error of each kind.
    """
    features, groups = Features.of(space), relatives(space, genes)

    def learn(name: str, rows: Any, uses_losses: bool) -> Learnt:
        folds = assign_folds(groups[rows], np.random.default_rng([seed, 1]))
        labels = as_measured(accuracies[rows], folds)
        if uses_losses and losses is not None:
            labels = denoised(features, genes[rows], accuracies[rows], losses[rows], folds)
        return LEARNERS[name](features, genes[rows], labels, folds, np.random.default_rng([seed, 2]))

    few = np.sort(np.random.default_rng([seed, 0]).permutation(len(genes))[:MOST_COMPARED])
    tried = {uses: learn(kinds[0], few, uses) for uses in ((False,) if losses is None else (False, True))}
    uses_losses = min(tried, key=lambda uses: np.mean((tried[uses].mean - accuracies[few]) ** 2))
    learnt = {name: tried[uses_losses] if name == kinds[0] else learn(name, few, uses_losses) for name in kinds}
    squares = {name: (result.mean - accuracies[few]) ** 2 for name, result in learnt.items()}
    name = _best(squares)
    best = learnt[name] if len(few) == len(genes) else learn(name, np.arange(len(genes)), uses_losses)
    return best.model, calibrate(best, accuracies, noise), {kind: float(np.sqrt(of.mean())) for kind, of in squares.items()}


def calibrate(learnt: Learnt, accuracies: Floats, noise: float | None) -> Calibration:
    """Calibrate error bars to contain 90 % of the measurements around held-out predictions.

    Args:
        accuracies: measured accuracies (n,).
        noise: standard deviation of one measurement. If it is None, everything that the model did not foresee counts as noise.
    """
    errors = accuracies - learnt.mean
    foreseen, actual = float(np.mean(learnt.std**2)), float(np.mean(errors**2))
    left = max(actual - foreseen, 0.05 * actual, 1e-12)
    known = left if noise is None else min(noise**2, left)
    total = np.sqrt(learnt.std**2 + left)
    rank = min(int(np.ceil(0.9 * (len(errors) + 1))), len(errors))  # conformal: the error that 90 % must not exceed
    scale = float(np.sort(np.abs(errors) / total)[rank - 1]) / NORMAL_90
    # The weights were chosen on all folds, so errors are underestimated by the usual factor for fitted parameters.
    scale *= float(np.sqrt(len(errors) / max(len(errors) - learnt.chosen, len(errors) / 2)))
    known = min(known, scale**2 * left)
    return Calibration(scale, float(np.sqrt(max(scale**2 * left - known, 0.0))), float(np.sqrt(known)))


def _best(squares: Mapping[str, Floats]) -> str:
    """The kind with the smallest squared errors; a provable kind if one is worse by less than one standard error."""
    best = min(squares, key=lambda name: squares[name].mean())

    def as_good(name: str) -> bool:
        more: Any = squares[name] - squares[best]
        return bool(more.mean() <= more.std() / np.sqrt(len(more)))

    provable = [name for name in squares if name in PROVABLE and as_good(name)]
    return min(provable or [best], key=lambda name: squares[name].mean())


def relatives(space: Space, genes: Genes) -> Folds:
    """Group indices (n,), equal for networks with the same resolution and the same first half of their stages.

    Networks sampled as a tree have close relatives. Predictions by a model that was fitted to relatives do not show how well other
    networks are predicted, so relatives stay in the same fold in cross-validation.
    """
    first = [c for c, column in enumerate(space.columns) if column.stage < len(space.stages) // 2]
    return np.asarray(np.unique(genes[:, first], axis=0, return_inverse=True)[1]).reshape(-1)


def assign_folds(groups: Folds, rng: np.random.Generator) -> Folds:
    """Assign each network to a fold; all networks of a group get the same one, and folds are about equal in size.

    Args:
        groups: (n,) equal numbers for related networks, such as branches of one tree.
        rng: shuffles groups of equal size.
    """
    if len(groups) and (groups == groups[0]).all():
        groups = np.arange(len(groups))
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    number = min(FOLDS, len(names))
    filled, fold = np.zeros(number), np.zeros(len(names), np.int64)
    order = rng.permutation(len(names))
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        fold[name] = filled.argmin()
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[group_of], np.int64)


def as_measured(accuracies: Floats, folds: Any) -> Matrix:
    """Labels for `LEARNERS`, (n, folds + 1): the accuracies themselves in each column."""
    return np.repeat(accuracies[:, None], folds.max() + 2, 1)


def denoised(features: Features, genes: Genes, accuracies: Floats, losses: Floats, folds: Any) -> Matrix:
    """Denoised labels for `LEARNERS` (n, folds + 1): column k is fitted on networks outside fold k, the last one on all.

    Top-1 counts images, so it is noisy; the mean loss carries much the same information with less noise. So top-1 is fitted as a
    polynomial of the loss plus a linear function of summary features (size, resolution, sums of choices), which removes most of the
    noise.
    """
    from sklearn.linear_model import RidgeCV  # slow to load, and needed only here

    x = np.concatenate([features.summary(genes), features.choices(genes) @ features.maps["sums"]], 1)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    curve = np.vander((losses - losses.mean()) / max(losses.std(), 1e-9), DEGREE + 1)
    labels = np.empty((len(genes), folds.max() + 2))
    for fold in range(labels.shape[1]):
        rows = folds != fold  # all rows for the last column
        along = curve @ np.linalg.lstsq(curve[rows], accuracies[rows], rcond=None)[0]
        rest = RidgeCV(PENALTIES).fit(x[rows], (accuracies - along)[rows])
        labels[:, fold] = along + rest.predict(x)
    return labels
