"""Average precision against scikit-learn, thresholds against trying all of them, intervals against what they must hold."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from onceforall.calibrate import LabelTally
from onceforall.errors import DataError
from onceforall.pipeline.fleet import FleetRow
from onceforall.tasks.label_scores import LABEL_HEADER, LabelAnswers, LabelScores, average_precision, best_thresholds, bootstrap
from onceforall.tasks.task import TASKS, Task, require_metric, task_of


def made(seed: int, images: int = 40, classes: int = 5, levels: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which one never occurs, and probabilities with many ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < 0.3).astype(np.float32)
    labels[:, 0] = 0
    labels[0, 1:] = 1
    return labels, (np.round((rng.random((images, classes)) + 0.3 * labels) / 1.3 * levels) / levels).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 20))
def test_average_precision_is_that_of_scikit_learn(seed: int, images: int, levels: int) -> None:
    labels, scores = made(seed, images, levels=levels)
    found = average_precision(labels, scores)
    assert np.isnan(found[0])
    for i in range(1, labels.shape[1]):
        assert found[i] == pytest.approx(average_precision_score(labels[:, i], scores[:, i]))


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_thresholds_have_the_highest_f1_of_all(seed: int, images: int) -> None:
    labels, scores = made(seed, images)
    thresholds = best_thresholds(labels, scores)
    assert thresholds[0] == 0.5
    for i in range(1, labels.shape[1]):
        tried = [f1_score(labels[:, i], scores[:, i] >= t, zero_division=0) for t in np.unique(scores[:, i])]
        assert f1_score(labels[:, i], scores[:, i] >= thresholds[i], zero_division=0) == pytest.approx(max(tried))


def test_a_threshold_lies_between_two_images() -> None:
    labels, scores = np.array([[1.0], [1.0], [0.0]]), np.array([[0.9], [0.6], [0.2]])
    assert best_thresholds(labels, scores)[0] == pytest.approx(0.4)


def test_batch_by_batch_in_torch() -> None:
    labels, scores = made(1)
    counted = LabelTally()
    logits = torch.from_numpy(scores).logit(eps=1e-3)
    for x, y in zip(logits.split(7), torch.from_numpy(labels).split(7), strict=True):
        counted.add(x, y)
    found = counted.accuracy()
    assert found.map == pytest.approx(np.nanmean(average_precision(labels, logits.numpy())))
    assert found.score("map") == found.map
    assert found.told == ("mAP", found.map)
    first = logits.argmax(1).numpy()
    assert found.top1 == pytest.approx(labels[np.arange(len(labels)), first].mean())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels)) * labels.shape[1]
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    n = labels.sum(0)[1:]
    assert counted.effective_images() == len(labels) < round(4**2 / (1 / n).sum()), "never more than there are"


def test_scores_of_labels() -> None:
    labels, scores = made(2)
    answers = LabelAnswers((labels[:10],), (scores[:10],)) + LabelAnswers((labels[10:],), (scores[10:],))
    thresholds = answers.thresholds()
    found = answers.scores(thresholds)
    names = [f"label {i}" for i in range(labels.shape[1])]
    rows = found.by_label(names)
    assert (rows[0].images, rows[0].average_precision, rows[0].recall) == (0, None, None)
    assert rows[2].prevalence == pytest.approx(labels[:, 2].mean())
    assert rows[2].f1 == pytest.approx(f1_score(labels[:, 2], scores[:, 2] >= thresholds[2]))
    assert found.chance == pytest.approx(labels[:, 1:].mean())
    assert found.interval is not None
    assert found.interval[0] < found.map < found.interval[1]
    assert all(len(row) == len(LABEL_HEADER) for row in found.rows(names))
    again = LabelScores.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    with pytest.raises(DataError, match="not scores of labels"):
        LabelScores.from_json({**found.to_json(), "counts": [[1]]})


def test_an_interval_of_a_difference() -> None:
    labels, scores = made(3, images=200)
    assert bootstrap(labels, scores, scores) == (0.0, 0.0)
    low, high = bootstrap(labels, labels + 0.0, scores, draws=50) or (0.0, 0.0)
    assert 0 < low < 1 - np.nanmean(average_precision(labels, scores)) < high
    assert bootstrap(np.zeros((3, 2)), np.ones((3, 2))) is None


def test_losses_of_a_task() -> None:
    """Binary cross-entropy as torch has it; softmax and cross-entropy stay what they were; divergences of two outcomes a label."""
    task = task_of("multilabel")
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([[0.0, 1, 1]] * 4)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1).mean()
    assert torch.allclose(task.loss(logits, labels, 0.0, ()), plain)
    smoothed = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels * 0.9 + 0.05, reduction="none").sum(1).mean()
    assert torch.allclose(task.loss(logits, labels, 0.1, ()), smoothed)
    rows, times = task.rows(logits)
    assert rows.shape == (12, 2)
    assert torch.allclose(rows.softmax(1)[:, 1].view(4, 3), logits.sigmoid())
    hard = torch.nn.functional.cross_entropy(rows, labels.flatten().long())
    assert torch.allclose(times * hard, plain)
    weights = task.weights(np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.float32), 2, 1.0)
    assert weights == pytest.approx((1 / 3, 3.0))
    assert task.weights(np.ones((2, 2), np.float32), 2, 0.0) == ()
    weighed = task.loss(logits[:, :2], labels[:, :2], 0.0, (5.0, 3.0))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, :2], labels[:, :2], reduction="none")
    assert torch.allclose(weighed, (expected * torch.tensor([1.0, 3.0])).sum(1).mean())


def test_names_of_tasks_and_metrics() -> None:
    assert list(TASKS) == ["multiclass", "multilabel"]
    with pytest.raises(DataError, match="--task several: choose from multiclass, multilabel"):
        task_of("several")
    with pytest.raises(DataError, match="--metric top1 with --task multilabel: choose from map"):
        require_metric("top1", "multilabel")
    with pytest.raises(DataError, match="--metric map: choose from top1, balanced, macro_f1"):
        require_metric("map")
    require_metric("map", "multilabel")


def test_nothing_is_said_aloud() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LabelAnswers((np.zeros((2, 2)),), (np.ones((2, 2)),)).scores(np.array([0.5, 0.5])).map == 0.0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_logits_behind_probabilities(task: Task) -> None:
    logits = 4 * torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    probabilities = task.probabilities(logits)
    assert torch.allclose(task.probabilities(task.logits(probabilities)), probabilities.double(), atol=1e-6)
    labels = (logits > 1).float() if task.several else torch.arange(50) % 6
    before, after = (float(task.loss(each, labels, 0.0, ())) for each in (logits, task.logits(probabilities)))
    assert after == pytest.approx(before, rel=1e-4)
    assert torch.isfinite(task.logits(torch.tensor([[0.0, 1.0]]))).all()


def test_a_fleet_has_no_interval_of_map() -> None:
    assert FleetRow("board", test=0.5, images=100, metric="mAP").interval is None
    assert FleetRow("board", test=0.5, images=100).interval == pytest.approx((0.404, 0.596), abs=1e-3)
