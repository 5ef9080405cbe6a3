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
from .folds import Folds, deal, families
from .labels import denoised, plain
from .model import Floats, Learnt, Model
from .perceptrons import PerceptronsModel
from .process_model import KINDS, ProcessModel
from .trees import TreesModel

__all__ = ["LEARNERS", "NORMAL_90", "Calibration", "Choice", "calibrate", "choose"]

NORMAL_90 = 1.6448536  # 90 % of a normal distribution lie within so many standard deviations
MANY = 100  # measured networks from which on kinds other than processes are worth trying
MOST_COMPARED = 1000  # measured networks on which kinds are compared; the chosen one then learns from all

# (features, gene rows, labels (n, folds + 1), folds (n,), rng) -> Learnt. Column k of the labels is what a model without fold k may
# know; the last column is for the model of all networks.
LEARNERS: dict[str, Callable[[Features, Genes, Matrix, Folds, np.random.Generator], Learnt]] = {
    **{kind: partial(ProcessModel.learn, kind) for kind in KINDS},
    "trees": TreesModel.learn,
    "perceptrons": PerceptronsModel.learn,
}
PROVABLE = ("linear", "pairwise")


@dataclass(frozen=True)
class Calibration:
    """How wide error bars are: (scale × std)² + misfit² of the prediction, plus noise² of a measurement.

    Args:
        scale: of the model's own standard deviations.
        misfit: what the kind of model cannot follow, standard deviation; 0 where it cannot be told from noise.
        noise: of one measurement, standard deviation.
    """

    scale: float = 1.0
    misfit: float = 0.0
    noise: float = 0.0

    def __call__(self, std: Floats, *, measured: bool) -> Floats:
        """Standard deviations of the prediction (n,), or of what a measurement would give around it."""
        noise = self.noise if measured else 0.0
        return np.sqrt((self.scale * std) ** 2 + self.misfit**2 + noise**2)


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen.

    Args:
        model: the chosen model.
        calibration: of its error bars.
        candidates: cross-validated root mean square error of each kind that was tried.
        uses_losses: whether the labels were made with the losses.
    """

    model: Model
    calibration: Calibration
    candidates: Mapping[str, float]
    uses_losses: bool


def choose(
    space: Space,
    genes: Genes,
    accuracies: Floats,
    *,
    losses: Floats | None,
    noise: float | None,
    kinds: Sequence[str] | None,
    seed: int,
) -> Choice:
    """Fit the best kind of model; see `AccuracyPredictor.fit` for the arguments."""
    features, groups = Features.of(space), families(space, genes)
    names = list(kinds or (LEARNERS if len(genes) >= MANY else KINDS))
    few = np.sort(np.random.default_rng([seed, 0]).permutation(len(genes))[:MOST_COMPARED])
    folds = deal(groups[few], np.random.default_rng([seed, 1]))
    labels = {False: plain(accuracies[few], folds)}
    if losses is not None:
        labels[True] = denoised(features, genes[few], accuracies[few], losses[few], folds)

    def learn(name: str, uses_losses: bool) -> Learnt:
        return LEARNERS[name](features, genes[few], labels[uses_losses], folds, np.random.default_rng([seed, 2]))

    tried = {uses_losses: learn(names[0], uses_losses) for uses_losses in labels}
    uses_losses = min(tried, key=lambda which: _rmse(tried[which], accuracies[few]))
    learnt = {name: tried[uses_losses] if name == names[0] else learn(name, uses_losses) for name in names}
    name = _best(learnt, accuracies[few])
    candidates = {other: _rmse(found, accuracies[few]) for other, found in learnt.items()}
    found = learnt[name]
    if len(few) < len(genes):
        folds = deal(groups, np.random.default_rng([seed, 1]))
        all_labels = plain(accuracies, folds)
        if uses_losses and losses is not None:
            all_labels = denoised(features, genes, accuracies, losses, folds)
        found = LEARNERS[name](features, genes, all_labels, folds, np.random.default_rng([seed, 2]))
    return Choice(found.model, calibrate(found, accuracies, noise), candidates, uses_losses)


def calibrate(learnt: Learnt, accuracies: Floats, noise: float | None) -> Calibration:
    """Error bars that hold 90 % of what was measured around predictions made without it.

    Args:
        learnt: the model.
        accuracies: (n,) measured.
        noise: standard deviation of one measurement, if known. Else all that the model did not foresee counts as noise.
    """
    errors = accuracies - learnt.mean
    foreseen, found = float(np.mean(learnt.std**2)), float(np.mean(errors**2))
    left = max(found - foreseen, 0.05 * found, 1e-12)
    known = left if noise is None else min(noise**2, left)
    total = np.sqrt(learnt.std**2 + left)
    rank = min(int(np.ceil(0.9 * (len(errors) + 1))), len(errors))  # of the error that so many must not exceed
    scale = float(np.sort(np.abs(errors) / total)[rank - 1]) / NORMAL_90
    scale *= float(np.sqrt(len(errors) / max(len(errors) - learnt.chosen, len(errors) / 2)))  # errors are too small by so much
    known = min(known, scale**2 * left)
    return Calibration(scale, float(np.sqrt(max(scale**2 * left - known, 0.0))), float(np.sqrt(known)))


def _rmse(learnt: Learnt, accuracies: Floats) -> float:
    return float(np.sqrt(np.mean((learnt.mean - accuracies) ** 2)))


def _best(learnt: Mapping[str, Learnt], accuracies: Floats) -> str:
    """The kind with the smallest error, of provable ones if one of them is worse by less than one standard error at most."""
    squares = {name: (found.mean - accuracies) ** 2 for name, found in learnt.items()}
    best = min(squares, key=lambda name: squares[name].mean())

    def as_good(name: str) -> bool:
        more: Any = squares[name] - squares[best]
        return bool(more.mean() <= more.std() / np.sqrt(len(more)))

    provable = [name for name in squares if name in PROVABLE and as_good(name)]
    return min(provable or [best], key=lambda name: squares[name].mean())
