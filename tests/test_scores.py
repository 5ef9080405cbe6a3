"""Scores of a classifier, against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from onceforall.calibrate import Tally
from onceforall.errors import DataError
from onceforall.scores import METRICS, Confusion, Difference, default_metric, imbalance, mcnemar, score_difference
from onceforall.tasks.task import MULTICLASS

CLASSES = 4
NAMES = ["a", "b", "c", "d"]
Answers = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.choice(CLASSES, n, p=[0.7, 0.2, 0.1, 0.0])
    said = np.where(rng.random(n) < 0.6, labels, rng.integers(0, CLASSES, n))
    return labels, said, rng.random(n)


@given(answers())
def test_as_scikit_learn(found: Answers) -> None:
    labels, said, confidence = found
    one = Confusion.of(*found, CLASSES)
    assert (one.counts == confusion_matrix(labels, said, labels=range(CLASSES))).all()
    assert one.images == len(labels)
    assert one.top1 == pytest.approx((labels == said).mean())
    recalls = [(said[labels == c] == c).mean() for c in np.unique(labels)]
    assert one.balanced == pytest.approx(np.mean(recalls))
    if set(said) <= set(labels) and len(set(labels)) > 1:  # scikit-learn warns of the others
        assert one.balanced == pytest.approx(balanced_accuracy_score(labels, said))
    assert one.macro_f1 == pytest.approx(f1_score(labels, said, average="macro", zero_division=0.0))
    precision, recall, f1, images = precision_recall_fscore_support(labels, said, labels=range(CLASSES), zero_division=np.nan)
    for i, row in enumerate(one.by_class(NAMES)):
        assert (row.name, row.images) == (NAMES[i], images[i])
        assert row.precision is None if np.isnan(precision[i]) else row.precision == pytest.approx(precision[i])
        assert row.recall is None if np.isnan(recall[i]) else row.recall == pytest.approx(recall[i])
        assert row.f1 == pytest.approx(0 if np.isnan(f1[i]) else f1[i])
    assert one.majority == np.bincount(labels).max() / len(labels)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs((labels == said)[inside].mean() - confidence[inside].mean())
    assert one.calibration_error == pytest.approx(error, abs=1e-6 + 2 * (np.abs(confidence * 15 % 1) < 1e-9).mean())


@given(answers(), answers())
def test_parts_add_up(first: Answers, second: Answers) -> None:
    both = Confusion.of(*first, CLASSES) + Confusion.of(*second, CLASSES)
    whole = Confusion.of(*(np.concatenate(pair) for pair in zip(first, second, strict=True)), CLASSES)
    assert (both.counts == whole.counts).all()
    assert np.allclose(both.confidence, whole.confidence)
    again = Confusion.from_json(both.to_json())
    assert (again.counts == both.counts).all()
    assert (again.confidence == both.confidence).all()


def test_chance_is_told_from_skill() -> None:
    labels = np.repeat([0, 1], [300, 8])
    always = Confusion.of(labels, np.zeros(308, int), np.ones(308), 2)
    assert always.top1 == always.majority == pytest.approx(0.974, abs=1e-3)
    assert always.balanced == 0.5
    half = Confusion.of(labels, 1 - labels, np.ones(308), 2)
    assert [half.baseline(name) for name in MULTICLASS.metrics] == pytest.approx([always.score(n) for n in MULTICLASS.metrics])
    assert [always.score(metric) for metric in MULTICLASS.metrics] == [always.top1, always.balanced, always.macro_f1]
    assert always.mistaken(["ok", "broken"]) == [("broken", "ok", 8)]
    assert (imbalance(labels), default_metric(labels), default_metric(np.repeat([0, 1], [3, 1]))) == (37.5, "balanced", "top1")


def test_standard_errors_are_those_of_repeated_draws() -> None:
    rng, n = np.random.default_rng(0), np.array([200, 40])
    recall = np.array([0.9, 0.7])
    drawn = []
    for _ in range(2000):
        labels = np.repeat([0, 1], n)
        right = rng.random(n.sum()) < recall[labels]
        drawn.append(Confusion.of(labels, np.where(right, labels, 1 - labels), np.ones(n.sum()), 2))
    spread = {metric: np.std([one.score(metric) for one in drawn]) for metric in ("top1", "balanced")}
    told = {metric: np.mean([one.standard_error(metric) for one in drawn]) for metric in ("top1", "balanced")}  # type: ignore[arg-type]
    assert told["balanced"] == pytest.approx(spread["balanced"], rel=0.1)
    assert told["top1"] == pytest.approx(spread["top1"], rel=0.1)
    for metric, truth in (("top1", float(np.average(recall, weights=n))), ("balanced", recall.mean())):
        held = np.mean([low <= truth <= high for low, high in (one.interval(metric) for one in drawn)])
        assert 0.92 < held < 0.98


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    wanted = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("data", [{}, {"counts": [[1, 2]], "confidence": []}, {"counts": "x", "confidence": 3}])
def test_what_is_no_confusion_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not a confusion matrix"):
        Confusion.from_json(data)


@given(answers(), st.integers(1, 7))
def test_batch_by_batch_in_torch(found: Answers, size: int) -> None:
    """What `evaluate` counts in torch, against the confusion matrix."""
    labels, said, _ = found
    logits = torch.nn.functional.one_hot(torch.from_numpy(said), CLASSES).float() * 5
    counted = Tally()
    for x, y in zip(logits.split(size), torch.from_numpy(labels).split(size), strict=True):
        counted.add(x, y)
    accuracy, one = counted.accuracy(), Confusion.of(labels, said, np.ones(len(labels)), CLASSES)
    for metric in MULTICLASS.metrics:
        assert accuracy.score(metric) == pytest.approx(one.score(metric))
    n = np.bincount(labels)[np.bincount(labels) > 0]
    assert counted.effective_images() == max(1, round(len(n) ** 2 / (1 / n).sum()))


@given(answers(), st.sampled_from(["top1", "balanced", "macro_f1"]), st.integers(0, 2**32))
def test_difference_of_two_networks(found: Answers, metric: str, seed: int) -> None:
    labels, first, confidence = found
    second = np.where(np.random.default_rng(seed).random(len(labels)) < 0.7, first, 0)
    value, low, high = score_difference(metric, labels, first, second)
    scores = [Confusion.of(labels, said, confidence, CLASSES).score(metric) for said in (first, second)]
    assert value == pytest.approx(scores[0] - scores[1])
    assert low <= high
    back = score_difference(metric, labels, second, first)
    assert back[0] == pytest.approx(-value, abs=1e-12)
    if metric != "macro_f1":  # whose interval is of random draws
        assert back[1:] == pytest.approx((-high, -low), abs=1e-12)
    same = score_difference(metric, labels, first, first)
    assert same[0] == 0
    assert same[1] <= 0 <= same[2]


@pytest.mark.parametrize("metric", ["top1", "balanced", "macro_f1"])
@pytest.mark.parametrize("sizes", [(60, 60, 60), (150, 40, 12)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(metric: str, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    labels, big = np.repeat(range(3), sizes), np.repeat(range(3), [size * 2000 for size in sizes])

    def predict(truth: np.ndarray) -> list[np.ndarray]:  # two networks that often agree; the first is better at the last class
        shared, own = (
            rng.random(len(truth)) < 0.6,
            rng.random((2, len(truth))) < np.where(truth == 2, [[0.7], [0.4]], [[0.6], [0.65]]),
        )
        return [np.where(shared | right, truth, (truth + 1) % 3) for right in own]

    wide = predict(big)
    true = np.subtract(*(Confusion.of(big, said, np.ones(len(big)), 3).score(metric) for said in wide))
    trials = 300 if metric != "macro_f1" else 150
    held = sum(low <= true <= high for _, low, high in (score_difference(metric, labels, *predict(labels)) for _ in range(trials)))
    assert 0.9 < held / trials < 0.995


@pytest.mark.parametrize(
    ("metric", "counts", "decided"),
    [("top1", (60, 50), "top1"), ("top1", (90, 20), "balanced"), ("macro_f1", (60, 50), "macro_f1")],
)
def test_where_top1_would_mislead_a_second_score_is_compared(metric: str, counts: tuple[int, ...], decided: str) -> None:
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], counts)
    first, second = (np.where(rng.random(len(labels)) < p, labels, 1 - labels) for p in (0.9, 0.6))
    found = Difference.between(metric, labels, first, second)
    assert found.metric == decided
    assert found.top1 == Difference.of(first == labels, second == labels).top1
    told = found.told("a", "b")
    if decided == "top1":
        assert found.score is None
        assert told == Difference.of(first == labels, second == labels).told("a", "b")
    else:
        assert found.score == score_difference(decided, labels, first, second)
        difference, low, high = (100 * value for value in found.score)
        assert told.endswith(f"; {METRICS[decided]} {difference:+.2f} points [{low:+.2f}, {high:+.2f}]: more than chance")
