"""Scores of a classifier beyond top-1: per class, balanced over classes, against chance, and between two networks on the same
images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common.readable import between, paired_difference, percent, wilson
from .errors import DataError

Counts = NDArray[np.int64]

METRICS = {"top1": "top-1", "balanced": "balanced accuracy", "macro_f1": "macro F1", "map": "mAP"}  # see `task.Task.metrics`
UNEVEN = 3.0  # ratio of the largest class's size to the smallest's above which top-1 alone would mislead
CLASS_HEADER = ("class", "images", "recall", "precision", "F1")
DRAWS = 1000  # of the bootstrap
BINS = 15  # of confidence, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


def told_of(top1: float, map: float | None) -> tuple[str, float]:
    """Name and value of the reported score: mean average precision where there is one, else top-1."""
    return (METRICS["top1"], top1) if map is None else (METRICS["map"], map)


def scores_in_words(metric: str, scores: Mapping[str, Any], interval: tuple[float, float] | None = None) -> str:
    """The scores of a run's metric and of the metric in which results are reported, as text.

    Args:
        metric: the run's metric.
        scores: by their names in `METRICS`; None if unknown.
        interval: of the first score.
    """
    names = dict.fromkeys((metric, "top1" if scores.get("map") is None else "map"))
    texts = [f"{METRICS[name]} {percent(scores[name])}" for name in names if scores.get(name) is not None]
    if texts:
        texts[0] += between(interval)
    return ", ".join(texts)


def balanced_of(images: Counts, right: Counts) -> float:
    """Mean recall over classes with images, from counts (classes,) of images and correct ones."""
    here = images > 0
    return float((right[here] / images[here]).mean())


def macro_f1_of(images: Counts, right: Counts, predicted: Counts) -> float:
    """Mean F1 over classes with images or predictions, from counts (classes,) of images, correct ones and predictions."""
    total = images + predicted
    return float((2 * right[total > 0] / total[total > 0]).mean())


@dataclass(frozen=True)
class _ClassScores:
    """Scores of one class.

    Args:
        name: name of the class.
        images: images with this label.
        recall: share of these images predicted as this class; None without images.
        precision: share of the images predicted as this class that have its label; None without predictions.
        f1: harmonic mean of both; 0 where either is 0 or None.
    """

    name: str
    images: int
    recall: float | None
    precision: float | None
    f1: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix, with the data for calibration.

    Args:
        counts: (classes, classes) images by label (rows) and prediction (columns).
        confidence: (3, 15) for 15 equal bins of confidence: images, correct ones, sum of the confidences.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @classmethod
    def of(
        cls, labels: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float64], classes: int
    ) -> "Confusion":
        """From each image's label, predicted class and its probability, (n,) each."""
        counts = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
        place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
        weights = (None, labels == predicted, confidence)
        return cls(counts, np.stack([np.bincount(place, w, BINS).astype(float) for w in weights]))

    @classmethod
    def of_probabilities(
        cls, labels: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> tuple["Confusion", NDArray[np.bool_]]:
        """From each image's label (n,) and probabilities (n, classes); also returns which predictions are right, (n,)."""
        predicted = probabilities.argmax(1)
        return cls.of(labels, predicted, probabilities.max(1), probabilities.shape[1]), predicted == labels

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts + other.counts, self.confidence + other.confidence)

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    @property
    def top1(self) -> float:
        """Share of images predicted correctly."""
        return float(np.trace(self.counts)) / self.images

    @property
    def balanced(self) -> float:
        """Mean recall over classes with images."""
        return balanced_of(self.counts.sum(1), np.diag(self.counts))

    @property
    def macro_f1(self) -> float:
        """Mean F1 over classes with images or predictions."""
        return macro_f1_of(self.counts.sum(1), np.diag(self.counts), self.counts.sum(0))

    @property
    def majority(self) -> float:
        """Top-1 of always predicting the largest class: the chance level of top-1."""
        return float(self.counts.sum(1).max()) / self.images

    @property
    def calibration_error(self) -> float:
        """Mean gap between confidence and accuracy (expected calibration error, 15 bins of equal width)."""
        _, right, confidence = self.confidence
        return float(np.abs(right - confidence).sum()) / self.images

    def score(self, metric: str) -> float:
        """The score by the metric's name."""
        return {"top1": self.top1, "balanced": self.balanced, "macro_f1": self.macro_f1}[metric]

    def baseline(self, metric: str) -> float:
        """The score of always predicting the largest class: the chance level."""
        images = self.counts.sum(1)
        here = int((images > 0).sum())
        return {"top1": self.majority, "balanced": 1 / here, "macro_f1": 2 * self.majority / (1 + self.majority) / here}[metric]

    def standard_error(self, metric: str) -> float:
        """Standard error of a score due to the sample of images: binomial for top-1, from the per-class recalls for others.

        Macro F1 uses the value of balanced accuracy: a rough guide, since it ignores the variance of precision.
        """
        if metric == "top1":
            return math.sqrt(self.top1 * (1 - self.top1) / self.images)
        n = self.counts.sum(1)
        recall = np.diag(self.counts)[n > 0] / n[n > 0]
        smoothed = (np.diag(self.counts)[n > 0] + 1) / (n[n > 0] + 2)  # with few images, a recall of 0 or 1 is not certain
        return float(np.sqrt((smoothed * (1 - smoothed) / n[n > 0]).sum())) / len(recall)

    def interval(self, metric: str) -> tuple[float, float]:
        """95 % interval of a score: Wilson's for top-1, else by `standard_error`."""
        if metric == "top1":
            return wilson(self.top1, self.images)
        value, half = self.score(metric), 1.96 * self.standard_error(metric)
        return max(0.0, value - half), min(1.0, value + half)

    def by_class(self, names: Sequence[str]) -> list[_ClassScores]:
        """Scores of each class, in label order."""
        found = []
        for i, name in enumerate(names):
            right, images, predicted = (int(x) for x in (self.counts[i, i], self.counts[i].sum(), self.counts[:, i].sum()))
            f1 = 2 * right / (images + predicted) if images + predicted else 0.0
            shares = right / images if images else None, right / predicted if predicted else None
            found.append(_ClassScores(name, images, *shares, f1))
        return found

    def rows(self, names: Sequence[str]) -> list[list[str]]:
        """`by_class` as cells below `CLASS_HEADER`."""
        rows = self.by_class(names)
        return [[row.name, f"{row.images:,}", *map(percent, (row.recall, row.precision, row.f1))] for row in rows]

    def mistaken(self, names: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent mistakes: label, predicted class, number of images."""
        return [(names[label], names[predicted], images) for label, predicted, images in self.mistakes(most)]

    def mistakes(self, most: int = 10) -> list[tuple[int, int, int]]:
        """Like `mistaken`, with class indices instead of names."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [(int(r), int(c), int(wrong[r, c])) for r, c in zip(rows, columns, strict=True) if wrong[r, c]]

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {"counts": self.counts.tolist(), "confidence": self.confidence.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Confusion":
        """Read the result of `to_json`.

        Raises:
            DataError: not a confusion matrix.
        """
        try:
            counts, confidence = np.array(data["counts"], np.int64), np.array(data["confidence"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a confusion matrix ({error}): evaluate again") from None
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or confidence.shape != (3, BINS):
            raise DataError(f"not a confusion matrix: shapes {counts.shape} and {confidence.shape}")
        return cls(counts, confidence)


def imbalance_of(images: Counts) -> float:
    """Ratio of images in the largest and the smallest non-empty class, from counts (classes,)."""
    return float(images.max() / images[images > 0].min())


def imbalance(labels: NDArray[np.int64]) -> float:
    """Ratio of images in the largest and the smallest non-empty class."""
    return imbalance_of(np.bincount(labels))


def default_metric(labels: NDArray[np.int64]) -> str:
    """Balanced accuracy if class sizes differ by more than a factor of 3, else top-1."""
    return "balanced" if imbalance(labels) > UNEVEN else "top1"


def mcnemar(gained: int, lost: int) -> float:
    """p-value of McNemar's exact test, two-sided: how likely chance alone gives a split at least this uneven.

    Args:
        gained: images that only the first gets right.
        lost: images that only the second gets right.
    """
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


@dataclass(frozen=True)
class Difference:
    """Comparison of two networks on the same images.

    Args:
        gained: images that only the first gets right.
        lost: images that only the second gets right.
        images: all images.
        metric: another score that counts, if top-1 alone would mislead.
        score: the difference in it and its paired 95 % interval; see `score_difference`.
    """

    gained: int
    lost: int
    images: int
    metric: str = "top1"
    score: tuple[float, float, float] | None = None

    @classmethod
    def between(cls, metric: str, labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> "Difference":
        """Compare the predicted classes, (n,) each, by the metric too; in place of "top1" by "balanced" for uneven classes."""
        if metric == "top1":
            metric = default_metric(labels)
        score = None if metric == "top1" else score_difference(metric, labels, first, second)
        return replace(cls.of(first == labels, second == labels), metric=metric, score=score)

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "Difference":
        """Compare the images that each network gets right, (n,) each, in the same order."""
        return cls(int((first & ~second).sum()), int((second & ~first).sum()), len(first))

    @property
    def top1(self) -> float:
        """Top-1 of the first minus top-1 of the second."""
        return (self.gained - self.lost) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference in top-1."""
        return paired_difference(self.gained, self.lost, self.images)

    @property
    def chance(self) -> float:
        """The probability of such a difference, or a larger one, between networks that are equally good (McNemar's exact test)."""
        return mcnemar(self.gained, self.lost)

    def told(self, first: str, second: str) -> str:
        """A sentence on whether one of the two named networks is better, or the difference may be chance."""
        alone = f"{first} alone is right on {self.gained:,} of {self.images:,} images, {second} alone on {self.lost:,}"
        points = _points(self.top1, *self.interval)
        verdict = "more than chance" if self.chance < 0.05 else "this may be chance"
        words = f"{alone}: {points}, p = {self.chance:.2g} (McNemar): {verdict}"
        if self.score is None:
            return words
        _, low, high = self.score
        verdict = "this may be chance" if low <= 0 <= high else "more than chance"
        return f"{words}; {METRICS[self.metric]} {_points(*self.score)}: {verdict}"


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"


def score_difference(
    metric: str, labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[float, float, float]:
    """The first network's score minus the second's on the same images, and the paired 95 % interval of the difference.

    The interval of top-1 is Agresti and Min's. For balanced accuracy, the variances of the classes are summed, each with half an
    image added to the four cells as they do, so that a small class without a difference is not taken as certain. For macro F1, a
    bootstrap over images gives the variance, to which the same half images add.

    Args:
        labels: of the images, (n,).
        first: classes that the first network predicts, (n,).
        second: classes that the second network predicts, (n,).
    """
    counts = Difference.of(first == labels, second == labels)
    if metric == "top1":
        return counts.top1, *counts.interval
    if metric == "balanced":
        images = np.bincount(labels)
        here = images > 0
        gained = np.bincount(labels, (first == labels) & (second != labels))[here]
        lost = np.bincount(labels, (second == labels) & (first != labels))[here]
        n = images[here]
        value = float(((gained - lost) / n).mean())
        variance = (gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2) ** 2
        half = 1.96 * float(np.sqrt(variance.sum())) / len(n)
        return value, value - half, value + half

    size = int(max(labels.max(), first.max(), second.max())) + 1
    kinds, images = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)  # alike for the scores

    def difference(weights: NDArray[np.int64]) -> float:
        all_images, scores = np.bincount(kinds[0], weights, size), list[float]()
        for predicted in kinds[1:]:
            right = np.bincount(kinds[0], weights * (predicted == kinds[0]), size)
            scores.append(macro_f1_of(all_images, right, np.bincount(predicted, weights, size)))
        return scores[0] - scores[1]

    draws = np.random.default_rng(0).multinomial(len(labels), images / len(labels), DRAWS)
    n = np.bincount(labels)
    added = float((1 / (n[n > 0] + 2.0) ** 2).sum()) / int((n > 0).sum()) ** 2
    value, half = difference(images), 1.96 * math.sqrt(float(np.var([difference(weights) for weights in draws])) + added)
    return value, value - half, value + half
