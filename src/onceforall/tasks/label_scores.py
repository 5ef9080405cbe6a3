"""Scores of a network that predicts several labels per image: average precision, thresholds, and each label at its threshold.

Labels are (n, classes), 1 where an image has the label. Scores are (n, classes), probabilities or any monotonic function of them
where only the order counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.readable import percent
from ..errors import DataError

Numbers = NDArray[Any]
Floats = NDArray[np.float64]

LABEL_HEADER = ("label", "images", "average precision", "chance", "threshold", "recall", "precision", "F1")
UNSURE = 0.5  # threshold of a label that no held-out image has
DRAWS = 200  # of the bootstrap
MOST_DRAWN = 20_000_000  # numbers per draw: more would take minutes


@dataclass(frozen=True, eq=False)
class _Ranked:
    """For each label, the images ranked by score, highest first.

    Attributes:
        order: (n, classes) indices of the images.
        labels: (n, classes) float64, in that order.
        scores: (n, classes), in that order.
        ends: (n, classes) last position with the same score, since no threshold separates ties.
    """

    order: NDArray[np.int64]
    labels: Floats
    scores: Numbers
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Numbers, scores: Numbers) -> "_Ranked":
        order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, order, 0)
        last = np.ones(ranked.shape, bool)
        last[:-1] = ranked[:-1] != ranked[1:]
        n = len(ranked)
        ends = np.minimum.accumulate(np.where(last, np.arange(n)[:, None], n)[::-1])[::-1]
        return cls(order, np.take_along_axis(labels, order, 0).astype(np.float64), ranked, ends)

    def right(self) -> Floats:
        """(n, classes) number of images with the label down to each position, including ties."""
        return np.asarray(np.take_along_axis(self.labels.cumsum(0), self.ends, 0))


def average_precision(labels: Numbers, scores: Numbers) -> Floats:
    """Per label Σ (R_k - R_(k-1)) P_k over its thresholds k, with recall R and precision P; NaN if no image has the label.

    Without interpolation, like scikit-learn's `average_precision_score`.
    """
    ranked = _Ranked.of(labels, scores)
    precision = ranked.right() / (ranked.ends + 1)
    images = ranked.labels.sum(0)
    sums: Floats = (precision * ranked.labels).sum(0)
    return np.asarray(np.divide(sums, images, out=np.full(len(images), np.nan), where=images > 0))


def mean_average_precision(labels: Numbers, scores: Numbers) -> float:
    """Mean average precision over the labels that occur; 0 if none does."""
    precisions = average_precision(labels, scores)
    return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 0.0


def best_thresholds(labels: Numbers, probabilities: Numbers) -> Floats:
    """For each label, the probability threshold with the highest F1 on these images.

    It lies midway between two images, so that rounding in another runtime flips none. 0.5 for a label that no image has.
    """
    ranked = _Ranked.of(labels, probabilities)
    images, n = ranked.labels.sum(0), len(labels)
    best = (2 * ranked.right() / (ranked.ends + 1 + images)).argmax(0)
    columns = np.arange(len(images))
    end = ranked.ends[best, columns]
    here, below = ranked.scores[end, columns], ranked.scores[np.minimum(end + 1, n - 1), columns]
    return np.where(images > 0, (here.astype(np.float64) + below) / 2, UNSURE)


def bootstrap(
    labels: Numbers, scores: Numbers, less: Numbers | None = None, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of mean average precision by bootstrap over images (percentiles; Efron 1979).

    Args:
        labels: labels of the images.
        scores: scores of a network.
        less: scores of another network on the same images, to return the interval of the difference.

    Returns:
        None if it would take minutes, or no label occurs.
    """
    if labels.size > MOST_DRAWN or not labels.any():
        return None
    ranked = [_Ranked.of(labels, each) for each in (scores, less) if each is not None]
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        weights = np.bincount(rng.integers(len(labels), size=len(labels)), minlength=len(labels)).astype(np.float64)
        values = [_weighted(each, weights) for each in ranked]
        found.append(values[0] - (values[1] if less is not None else 0.0))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _weighted(ranked: _Ranked, weights: Floats) -> float:
    """Mean average precision with each image weighted by how often it occurs."""
    counts = weights[ranked.order]
    hits = counts * ranked.labels
    right, predicted = (np.take_along_axis(each.cumsum(0), ranked.ends, 0) for each in (hits, counts))
    images = hits.sum(0)
    sums = (hits * right / np.maximum(predicted, 1)).sum(0)
    return float((sums[images > 0] / images[images > 0]).mean()) if (images > 0).any() else 0.0


@dataclass(frozen=True)
class _OneLabel:
    """Scores of one label.

    Args:
        images: images with the label.
        average_precision: None without images.
        prevalence: share of images with the label, which is the average precision of an untrained network.
        threshold: probability from which the label is predicted.
        recall: share of the label's images for which it is predicted; None without images.
        precision: share of the images for which it is predicted that have it; None without predictions.
        f1: harmonic mean of both; 0 where either is 0 or None.
    """

    name: str
    images: int
    average_precision: float | None
    prevalence: float
    threshold: float
    recall: float | None
    precision: float | None
    f1: float


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of a network on images with any number of labels.

    Args:
        counts: (3, classes): images with each label, images for which it is predicted, and those where both are true.
        precisions: (classes,) average precisions; NaN for labels that no image has.
        thresholds: (classes,) probabilities from which labels are predicted.
        interval: 95 % interval of the mean average precision; None if it was not computed.
    """

    images: int
    counts: NDArray[np.int64]
    precisions: Floats
    thresholds: Floats
    interval: tuple[float, float] | None = None

    @property
    def map(self) -> float:
        """Mean average precision over the labels that occur."""
        here = np.isfinite(self.precisions)
        return float(self.precisions[here].mean()) if here.any() else 0.0

    @property
    def chance(self) -> float:
        """Mean average precision at chance: the mean prevalence of the labels that occur."""
        here = self.counts[0] > 0
        return float((self.counts[0][here] / self.images).mean()) if here.any() else 0.0

    @property
    def macro_f1(self) -> float:
        """Mean F1 at the thresholds, over labels with images or predictions."""
        images, predicted, right = self.counts
        total = images + predicted
        return float((2 * right[total > 0] / total[total > 0]).mean()) if total.any() else 0.0

    def by_label(self, names: Sequence[str]) -> list[_OneLabel]:
        """Scores of each label, in order."""
        found = []
        for i, name in enumerate(names):
            images, predicted, right = (int(x) for x in self.counts[:, i])
            f1 = 2 * right / (images + predicted) if images + predicted else 0.0
            average = float(self.precisions[i]) if images else None
            shares = right / images if images else None, right / predicted if predicted else None
            found.append(_OneLabel(name, images, average, images / self.images, float(self.thresholds[i]), *shares, f1))
        return found

    def rows(self, names: Sequence[str]) -> list[list[str]]:
        """`by_label` as cells below `LABEL_HEADER`."""
        shares = ("average_precision", "prevalence", "threshold", "recall", "precision", "f1")
        rows = self.by_label(names)
        return [[row.name, f"{row.images:,}", *(percent(getattr(row, share)) for share in shares)] for row in rows]

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return {
            "images": self.images,
            "counts": self.counts.tolist(),
            "average_precision": [float(x) if np.isfinite(x) else None for x in self.precisions],
            "thresholds": self.thresholds.tolist(),
            "interval": None if self.interval is None else list(self.interval),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LabelScores":
        """Read the result of `to_json`.

        Raises:
            DataError: not scores of labels.
        """
        try:
            precisions = np.array([np.nan if x is None else x for x in data["average_precision"]], np.float64)
            counts, thresholds = np.array(data["counts"], np.int64), np.array(data["thresholds"], np.float64)
            interval = None if data["interval"] is None else (float(data["interval"][0]), float(data["interval"][1]))
            images = int(data["images"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"not scores of labels ({error}): evaluate again") from None
        if counts.shape != (3, len(precisions)) or thresholds.shape != precisions.shape or images < 1:
            raise DataError(f"not scores of labels: shapes {counts.shape}, {precisions.shape} and {thresholds.shape}")
        return cls(images, counts, precisions, thresholds, interval)


@dataclass(frozen=True)
class LabelDifference:
    """Comparison of two networks on the same images: mAP of the first minus mAP of the second, and its 95 % interval or None."""

    map: float
    interval: tuple[float, float] | None
    images: int

    @classmethod
    def of(cls, first: "LabelAnswers", second: "LabelAnswers") -> "LabelDifference":
        """Compare both networks' predictions on the same images, in the same order."""
        labels, ours, theirs = first.all_labels, first.all_probabilities, second.all_probabilities
        difference = mean_average_precision(labels, ours) - mean_average_precision(labels, theirs)
        return cls(difference, bootstrap(labels, ours, theirs), len(labels))

    def told(self, first: str, second: str) -> str:
        """A sentence on whether one of the two named networks is better, or the difference may be chance."""
        points = f"{100 * self.map:+.2f} points of mAP"
        if self.interval is None:
            return f"{first} and {second}: {points}; no interval, since it would take minutes for so many images and labels"
        low, high = self.interval
        verdict = "this may be chance" if low <= 0 <= high else "more than chance"
        return f"{first} and {second}: {points} [{100 * low:+.2f}, {100 * high:+.2f}] (bootstrap): {verdict}"


@dataclass(frozen=True, eq=False)
class LabelAnswers:
    """Labels and predicted probabilities of images, (n, classes) each. Instances can be added."""

    labels: tuple[Numbers, ...]
    probabilities: tuple[Numbers, ...]

    def __add__(self, other: "LabelAnswers") -> "LabelAnswers":
        return LabelAnswers(self.labels + other.labels, self.probabilities + other.probabilities)

    @property
    def all_labels(self) -> Numbers:
        """The labels of all images."""
        return np.concatenate(self.labels)

    @property
    def all_probabilities(self) -> Numbers:
        """The probabilities of all images."""
        return np.concatenate(self.probabilities)

    def thresholds(self) -> Floats:
        """The best thresholds for these images, see `best_thresholds`."""
        return best_thresholds(self.all_labels, self.all_probabilities)

    def scores(self, thresholds: Numbers, *, interval: bool = True) -> LabelScores:
        """Scores at thresholds chosen on other images; `interval` adds the one of `bootstrap`, which takes seconds."""
        labels, probabilities = self.all_labels, self.all_probabilities
        predicted, present = probabilities >= np.asarray(thresholds), labels > 0
        counts = np.stack([present.sum(0), predicted.sum(0), (predicted & present).sum(0)]).astype(np.int64)
        precisions, between = average_precision(labels, probabilities), bootstrap(labels, probabilities) if interval else None
        return LabelScores(len(labels), counts, precisions, np.asarray(thresholds, np.float64), between)
