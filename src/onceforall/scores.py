"""What can be said of a classifier beyond top-1: per class, balanced over classes, against chance, and of two networks on the same
images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common.readable import paired_difference, percent, wilson
from .errors import DataError

Counts = NDArray[np.int64]

METRICS = {"top1": "top-1", "balanced": "balanced accuracy", "macro_f1": "macro F1", "map": "mAP"}  # see `task.Task.metrics`
UNEVEN = 3.0  # images of the largest class by those of the smallest, from where on top-1 alone would mislead
CLASS_HEADER = ("class", "images", "recall", "precision", "F1")
BINS = 15  # of confidence, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


def told_of(top1: float, map: float | None) -> tuple[str, float]:
    """What results are reported in: the name and value of top-1, or of mean average precision where there is one."""
    return (METRICS["top1"], top1) if map is None else (METRICS["map"], map)


def scores_in_words(metric: str, scores: Mapping[str, Any], interval: tuple[float, float] | None = None) -> str:
    """Scores by their names in `METRICS`, None where they are not known: by a run's metric, and what results are reported in.

    The interval is of the first.
    """
    names = dict.fromkeys((metric, "top1" if scores.get("map") is None else "map"))
    told = [f"{METRICS[name]} {percent(scores[name])}" for name in names if scores.get(name) is not None]
    if told and interval is not None:
        told[0] += " ({} to {})".format(*map(percent, interval))
    return ", ".join(told)


def balanced_of(images: Counts, right: Counts) -> float:
    """The mean of the classes' recalls, of those that have images, from (classes,) images and right ones."""
    here = images > 0
    return float((right[here] / images[here]).mean())


def macro_f1_of(images: Counts, right: Counts, said: Counts) -> float:
    """The mean of the classes' F1, of those that have images or are `said` of some, from (classes,) counts."""
    total = images + said
    return float((2 * right[total > 0] / total[total > 0]).mean())


@dataclass(frozen=True)
class _ClassScores:
    """One class.

    Args:
        name: of the class.
        images: that have its label.
        recall: the share of them that the network says are of this class; None without images.
        precision: of the images that it says are of this class, the share that are; None where it says so of none.
        f1: the harmonic mean of both; 0 where one is 0 or None.
    """

    name: str
    images: int
    recall: float | None
    precision: float | None
    f1: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """Which classes a network takes for which.

    Args:
        counts: (classes, classes) images by their label (rows) and what the network says (columns).
        confidence: (3, 15) by confidence in bins of a fifteenth: images, those that are right, sum of the confidences.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], said: NDArray[np.int64], confidence: NDArray[np.float64], classes: int) -> "Confusion":
        """From the label, the answer and its probability of each image, (n,) each."""
        counts = np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)
        place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
        weights = (None, labels == said, confidence)
        return cls(counts, np.stack([np.bincount(place, w, BINS).astype(float) for w in weights]))

    @classmethod
    def of_probabilities(
        cls, labels: NDArray[np.int64], probabilities: NDArray[np.float64]
    ) -> tuple["Confusion", NDArray[np.bool_]]:
        """From the label of each image, (n,), and what a network says of it, (n, classes); and which are right, (n,)."""
        said = probabilities.argmax(1)
        return cls.of(labels, said, probabilities.max(1), probabilities.shape[1]), said == labels

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts + other.counts, self.confidence + other.confidence)

    @property
    def images(self) -> int:
        """How many."""
        return int(self.counts.sum())

    @property
    def top1(self) -> float:
        """The share that is right."""
        return float(np.trace(self.counts)) / self.images

    @property
    def balanced(self) -> float:
        """The mean of the classes' recalls, of those that have images."""
        return balanced_of(self.counts.sum(1), np.diag(self.counts))

    @property
    def macro_f1(self) -> float:
        """The mean of the classes' F1, of those that have images or are said of some."""
        return macro_f1_of(self.counts.sum(1), np.diag(self.counts), self.counts.sum(0))

    @property
    def majority(self) -> float:
        """Top-1 of saying the class with most images, always: chance, as top-1 sees it."""
        return float(self.counts.sum(1).max()) / self.images

    @property
    def calibration_error(self) -> float:
        """How far confidence and accuracy are apart in the mean (expected calibration error, 15 bins of equal width)."""
        _, right, confidence = self.confidence
        return float(np.abs(right - confidence).sum()) / self.images

    def score(self, metric: str) -> float:
        """The score by the metric's name."""
        return {"top1": self.top1, "balanced": self.balanced, "macro_f1": self.macro_f1}[metric]

    def standard_error(self, metric: str) -> float:
        """Standard error of a score from which images were drawn: binomial for top-1, from the classes' recalls for others.

        Of macro F1 it is taken to be that of balanced accuracy: a rough guide, since it leaves out how precision scatters.
        """
        if metric == "top1":
            return math.sqrt(self.top1 * (1 - self.top1) / self.images)
        n = self.counts.sum(1)
        recall = np.diag(self.counts)[n > 0] / n[n > 0]
        smoothed = (np.diag(self.counts)[n > 0] + 1) / (n[n > 0] + 2)  # a recall of 0 or 1 of few images is not certain
        return float(np.sqrt((smoothed * (1 - smoothed) / n[n > 0]).sum())) / len(recall)

    def interval(self, metric: str) -> tuple[float, float]:
        """95 % interval of a score, as far as `standard_error` goes; Wilson's of top-1."""
        if metric == "top1":
            return wilson(self.top1, self.images)
        value, half = self.score(metric), 1.96 * self.standard_error(metric)
        return max(0.0, value - half), min(1.0, value + half)

    def by_class(self, names: Sequence[str]) -> list[_ClassScores]:
        """One for each class, in the order of the labels."""
        found = []
        for i, name in enumerate(names):
            right, images, said = (int(x) for x in (self.counts[i, i], self.counts[i].sum(), self.counts[:, i].sum()))
            f1 = 2 * right / (images + said) if images + said else 0.0
            found.append(_ClassScores(name, images, right / images if images else None, right / said if said else None, f1))
        return found

    def rows(self, names: Sequence[str]) -> list[list[str]]:
        """`by_class` as cells below `CLASS_HEADER`."""
        return [
            [
                row.name,
                f"{row.images:,}",
                *("–" if share is None else percent(share) for share in (row.recall, row.precision, row.f1)),
            ]
            for row in self.by_class(names)
        ]

    def mistaken(self, names: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent mistakes: label, answer, images."""
        return [(names[label], names[said], images) for label, said, images in self.mistakes(most)]

    def mistakes(self, most: int = 10) -> list[tuple[int, int, int]]:
        """The same, classes by their numbers."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [(int(r), int(c), int(wrong[r, c])) for r, c in zip(rows, columns, strict=True) if wrong[r, c]]

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {"counts": self.counts.tolist(), "confidence": self.confidence.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Confusion":
        """What `to_json` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            counts, confidence = np.array(data["counts"], np.int64), np.array(data["confidence"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a confusion matrix ({error})") from None
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or confidence.shape != (3, BINS):
            raise DataError(f"not a confusion matrix: shapes {counts.shape} and {confidence.shape}")
        return cls(counts, confidence)


def imbalance_of(images: Counts) -> float:
    """Images of the largest class by those of the smallest, of the classes that have any, from (classes,) images."""
    return float(images.max() / images[images > 0].min())


def imbalance(labels: NDArray[np.int64]) -> float:
    """Images of the largest class by those of the smallest, of the classes that have any."""
    return imbalance_of(np.bincount(labels))


def default_metric(labels: NDArray[np.int64]) -> str:
    """Balanced accuracy where classes differ by more than 3 times in their images, else top-1."""
    return "balanced" if imbalance(labels) > UNEVEN else "top1"


def mcnemar(gained: int, lost: int) -> float:
    """The probability that chance alone splits the images that only one of two networks gets right as unevenly as this, or more.

    McNemar's exact test, two-sided.

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
    """Two networks on the same images.

    Args:
        gained: images that only the first gets right.
        lost: images that only the second gets right.
        images: in all.
    """

    gained: int
    lost: int
    images: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "Difference":
        """Compare by which images each gets right, (n,) each, in the same order."""
        return cls(int((first & ~second).sum()), int((second & ~first).sum()), len(first))

    @property
    def top1(self) -> float:
        """Top-1 of the first less that of the second."""
        return (self.gained - self.lost) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of that."""
        return paired_difference(self.gained, self.lost, self.images)

    @property
    def chance(self) -> float:
        """The probability of such a difference, or a larger one, between networks that are equally good (McNemar's exact test)."""
        return mcnemar(self.gained, self.lost)

    def told(self, first: str, second: str) -> str:
        """Whether one of two networks of these names is better, or that may be chance."""
        alone = f"{first} alone is right on {self.gained:,} of {self.images:,} images, {second} alone on {self.lost:,}"
        low, high = self.interval
        points = f"{100 * self.top1:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
        verdict = "more than chance" if self.chance < 0.05 else "this may be chance"
        return f"{alone}: {points}, p = {self.chance:.2g} (McNemar): {verdict}"
