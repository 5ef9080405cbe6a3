"""What a network learns to tell of an image: one of several classes, or any number of labels. Whatever differs between the two
stands here: the loss, probabilities, metrics, and what is counted. torch is loaded where it is needed only."""

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
TINY = 1e-38  # of float32, in which files give probabilities
HALF_ULP = 2.0**-25  # by so much a probability below 1 may have been rounded to 1


@dataclass(frozen=True)
class Task:
    """What differs between tasks. Logits are (n, classes); labels as in `Labels`, or shares of classes where images are mixed.

    Args:
        name: as `--task` takes it.
        metrics: that it can be judged by, names in `scores.METRICS`; the first is what results are reported in.
        activation: of the logits, "softmax" or "sigmoid": what makes probabilities of them.
        loss: of logits and labels, with label smoothing and weights of classes: a mean over the images, in nats.
        rows: logits as those of distributions (rows, outcomes), and how many rows an image has, for divergences between networks.
        probabilities: of logits.
        logits: of probabilities, up to a constant for each image.
        loss_at_first: of a network that has learnt nothing, given the number of classes.
        chance: the score of a network that has learnt nothing, by the labels of training images, given the number of classes.
        default_metric: for training images with these labels.
        weights: of classes, given the labels of training images, the number of classes and `Recipe.balance`; see each.
        tally: what counts what networks get right.
        answers: labels and probabilities of some images, to be added up.
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
    tally: Callable[[], Tally | LabelTally]
    answers: Callable[[Labels, Labels], Any]

    @property
    def several(self) -> bool:
        """An image may have any number of labels."""
        return self.activation == "sigmoid"


def task_of(name: str | None) -> Task:
    """The task of a name; None is one class an image.

    Raises:
        DataError: there is none of that name.
    """
    if name is not None and name not in TASKS:
        raise DataError(f"--task {name}: choose from {', '.join(TASKS)}")
    return TASKS[name or "multiclass"]


def require_metric(name: str | None, task: str | None = None) -> None:
    """Do nothing if this is a metric of the task, or None.

    Raises:
        DataError: it is none.
    """
    known = task_of(task).metrics
    if name is not None and name not in known:
        others = [other.name for other in TASKS.values() if name in other.metrics]
        hint = f", or give --task {others[0]}" if others and task is None else ""
        raise DataError(f"--metric {name}{f' with --task {task}' if task else ''}: choose from {', '.join(known)}{hint}")


def require_multiclass(task: Task, what: str, instead: str) -> None:
    """Do nothing if an image has one class.

    Raises:
        DataError: it may have several labels, which `what` cannot do yet.
    """
    if task.several:
        raise DataError(f"{what} does not take runs of --task {task.name} yet: {instead}")


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Weights = ()) -> Tensor:
    """Cross-entropy; images count by their class. Torch's own weights would also weigh what smoothing gives to other classes."""
    from torch.nn import functional as F

    if not weights:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    factors = logits.new_tensor(weights)
    own = factors[labels] if labels.ndim == 1 else labels @ factors
    return (own * each).sum() / own.sum()


def _binary_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Weights = ()) -> Tensor:
    """Summed over the labels, so that each logit has gradients as large as a class's in cross-entropy, and learning rates hold.

    Smoothing moves 0 and 1 towards ½ by half of it. Weights are of the images that have a label.
    """
    from torch.nn import functional as F

    positive = logits.new_tensor(weights) if weights else None
    wanted = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=positive, reduction="sum")
    return loss / len(logits)


def _pairs(logits: Tensor) -> tuple[Tensor, int]:
    """Each label as a distribution of two outcomes, whose softmax is the sigmoid: (n · classes, 2)."""
    import torch

    return torch.stack([torch.zeros_like(logits), logits], -1).flatten(0, 1), logits.shape[1]


def class_weights(labels: Labels, classes: int, balance: float) -> Weights:
    """Factors of the loss by class, for the training images' labels (n,): n^-balance, one in the mean over all images.

    Classes without images count as if they had one.
    """
    if not balance:
        return ()
    images = np.bincount(labels, minlength=classes)
    factors = np.maximum(1, images) ** -float(balance)
    return tuple((factors * (images.sum() / (images * factors).sum())).tolist())


def label_weights(labels: Labels, classes: int, balance: float) -> Weights:
    """Factors of the loss on the images that have a label, (n, classes): (images without it / images with it)^balance.

    With a balance of 1 those with and those without count alike.
    """
    if not balance:
        return ()
    having = labels.sum(0)
    return tuple(((np.maximum(1, len(labels) - having) / np.maximum(1, having)) ** float(balance)).tolist())


def _multiclass() -> Task:
    def tally() -> Tally:
        from ..calibrate import Tally

        return Tally()

    return Task(
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
        tally=tally,
        answers=lambda labels, probabilities: Confusion.of_probabilities(labels, probabilities)[0],
    )


def _multilabel() -> Task:
    def tally() -> LabelTally:
        from ..calibrate import LabelTally

        return LabelTally()

    return Task(
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
        tally=tally,
        answers=lambda labels, probabilities: LabelAnswers((labels,), (probabilities.astype(np.float32),)),
    )


TASKS = {task.name: task for task in (_multiclass(), _multilabel())}
MULTICLASS = TASKS["multiclass"]
