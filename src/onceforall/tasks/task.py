"""The task of a network: predict one of several classes, or any number of labels, per image. Everything that differs is defined
here: the loss, probabilities, metrics and tallies. torch is only imported where needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..scores import Confusion, default_metric
from .label_scores import LabelAnswers

if TYPE_CHECKING:
    from torch import Tensor

    from ..calibrate import LabelTally, Tally

Labels = NDArray[Any]  # (n,) int64, or (n, classes) float32 of 0 and 1
Weights = tuple[float, ...]
TINY = 1e-38  # about the smallest normal float32, the dtype of files' probabilities
HALF_ULP = 2.0**-25  # probabilities closer to 1 than this may have been rounded to 1


@dataclass(frozen=True)
class Task:
    """Everything that differs between tasks. Logits are (n, classes); labels as in `Labels`, or shares of classes in mixed images.

    Args:
        name: value of `--task`.
        metrics: its metrics, names in `scores.METRICS`; results are reported in the first.
        activation: "softmax" or "sigmoid", which turns logits into probabilities.
        loss: mean loss over images in nats, from logits and labels, with label smoothing and class weights.
        rows: reshapes logits to distributions (rows, outcomes) for divergences; also returns the number of rows per image.
        probabilities: turns logits into probabilities.
        logits: turns probabilities into logits, up to a constant for each image.
        loss_at_first: loss of an untrained network, from the number of classes.
        chance: score of an untrained network, from the labels of training images and the number of classes.
        default_metric: default metric, from the labels of training images.
        weights: class weights, from the labels of training images, the number of classes and `Recipe.balance`.
        log_odds: for each class the logarithm of how frequent it is in training images, from their labels, the number of classes
            and the class weights.
        tally: creates a tally of correct predictions.
        answers: combines labels and probabilities of some images into an object that can be added to others.
    """

    name: str
    metrics: tuple[str, ...]
    activation: str
    loss: Callable[[Tensor, Tensor, float, Weights], Tensor]
    rows: Callable[[Tensor], tuple[Tensor, int]]
    probabilities: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    loss_at_first: Callable[[int], float]
    chance: Callable[[Labels, int], float]
    default_metric: Callable[[Labels], str]
    weights: Callable[[Labels, int, float], Weights]
    log_odds: Callable[[Labels, int, Weights], NDArray[np.float64]]
    tally: Callable[[], Tally | LabelTally]
    answers: Callable[[Labels, Labels], Any]

    @property
    def several(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.activation == "sigmoid"


def task_of(name: str | None) -> Task:
    """The task of this name; None for one class per image.

    Raises:
        DataError: an unknown name.
    """
    if name is not None and name not in TASKS:
        raise DataError(f"--task {name}: choose from {', '.join(TASKS)}")
    return TASKS[name or "multiclass"]


def require_metric(name: str | None, task: str | None = None) -> None:
    """Check that this is a metric of the task, or None.

    Raises:
        DataError: it is not.
    """
    known = task_of(task).metrics
    if name is not None and name not in known:
        others = [other.name for other in TASKS.values() if name in other.metrics]
        hint = f", or give --task {others[0]}" if others and task is None else ""
        raise DataError(f"--metric {name}{f' with --task {task}' if task else ''}: choose from {', '.join(known)}{hint}")


def require_multiclass(task: Task, what: str, instead: str) -> None:
    """Check that images have one class.

    Raises:
        DataError: they may have several labels, which `what` does not support yet.
    """
    if task.several:
        raise DataError(f"{what} does not support runs of --task {task.name} yet: {instead}")


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Weights = ()) -> Tensor:
    """Cross-entropy with images weighted by class. Torch's weights would also weight the smoothing mass of other classes."""
    from torch.nn import functional as F

    if not weights:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    factors = logits.new_tensor(weights)
    image_weights = factors[labels] if labels.ndim == 1 else labels @ factors
    return (image_weights * each).sum() / image_weights.sum()


def _binary_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Weights = ()) -> Tensor:
    """Summed over labels, so that gradients per logit are as large as in cross-entropy and the same learning rates work.

    Smoothing moves 0 and 1 toward ½ by half its value. Weights apply to the images with a label.
    """
    from torch.nn import functional as F

    positive = logits.new_tensor(weights) if weights else None
    wanted = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=positive, reduction="sum")
    return loss / len(logits)


def _pairs(logits: Tensor) -> tuple[Tensor, int]:
    """Turn each label into a distribution over two outcomes, whose softmax is the sigmoid: (n · classes, 2)."""
    import torch

    return torch.stack([torch.zeros_like(logits), logits], -1).flatten(0, 1), logits.shape[1]


def class_weights(labels: Labels, classes: int, balance: float) -> Weights:
    """Factors of the loss by class, from training labels (n,): class size to the power of -balance, with mean 1 over all images.

    Classes without images count as if they had one.
    """
    if not balance:
        return ()
    images = np.bincount(labels, minlength=classes)
    factors = np.maximum(1, images) ** -float(balance)
    return tuple((factors * (images.sum() / (images * factors).sum())).tolist())


def class_log_odds(labels: Labels, classes: int, weights: Weights = ()) -> NDArray[np.float64]:
    """Logarithms of the classes' shares of all images, from labels (n,), each image counted by the weight of its class."""
    images = np.maximum(1, np.bincount(labels, minlength=classes)) * np.array(weights or 1.0)
    return np.asarray(np.log(images / images.sum()))


def label_log_odds(labels: Labels, classes: int, weights: Weights = ()) -> NDArray[np.float64]:
    """Logarithms of (images with the label, counted by its weight, / images without it), from labels (n, classes)."""
    positives = labels.sum(0)
    return np.asarray(np.log(np.maximum(1, positives) * np.array(weights or 1.0) / np.maximum(1, len(labels) - positives)))


def label_weights(labels: Labels, classes: int, balance: float) -> Weights:
    """Factors of the loss on images with a label, from labels (n, classes): (images without it / images with it)^balance.

    With a balance of 1, images with and without the label count equally.
    """
    if not balance:
        return ()
    positives = labels.sum(0)
    return tuple(((np.maximum(1, len(labels) - positives) / np.maximum(1, positives)) ** float(balance)).tolist())


def _tally() -> Tally:
    from ..calibrate import Tally

    return Tally()


def _label_tally() -> LabelTally:
    from ..calibrate import LabelTally

    return LabelTally()


TASKS = {
    "multiclass": Task(
        name="multiclass",
        metrics=("top1", "balanced", "macro_f1"),
        activation="softmax",
        loss=_cross_entropy,
        rows=lambda logits: (logits, 1),
        probabilities=lambda logits: logits.softmax(1),
        logits=lambda probabilities: probabilities.double().clamp_min(TINY).log(),
        loss_at_first=lambda classes: math.log(max(2, classes)),
        chance=lambda labels, classes: 1 / classes,
        default_metric=default_metric,
        weights=class_weights,
        log_odds=class_log_odds,
        tally=_tally,
        answers=lambda labels, probabilities: Confusion.of_probabilities(labels, probabilities)[0],
    ),
    "multilabel": Task(
        name="multilabel",
        metrics=("map",),
        activation="sigmoid",
        loss=_binary_cross_entropy,
        rows=_pairs,
        probabilities=lambda logits: logits.sigmoid(),
        logits=lambda probabilities: probabilities.double().logit(eps=HALF_ULP),
        loss_at_first=lambda classes: classes * math.log(2),
        chance=lambda labels, classes: float(labels.mean()),
        default_metric=lambda labels: "map",
        weights=label_weights,
        log_odds=label_log_odds,
        tally=_label_tally,
        answers=lambda labels, probabilities: LabelAnswers((labels,), (probabilities.astype(np.float32),)),
    ),
}
MULTICLASS = TASKS["multiclass"]
