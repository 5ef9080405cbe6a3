"""Who wins within a budget, and from how many devices on ours takes less, on made-up numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from onceforall.cli.commands import verdict_line
from onceforall.common.readable import wilson
from onceforall.common.records import as_record
from onceforall.errors import FileError
from onceforall.pipeline import Budget
from onceforall.pipeline.comparison.versus import FORMAT, Comparison, Costs, Rival, Verdict, summary
from onceforall.pipeline.comparison.versus import verdict as decide
from onceforall.report.compared import _verdict
from onceforall.scores import balanced_of

N = 200


def rival(name: str, right: int, **changes: Any) -> Rival:
    """A network that tells the first `right` of the test images right."""
    facts: dict[str, Any] = {"ours": name.startswith("ours"), "resolution": 24, "macs": 1000, "params": 100, "ms": 2.0}
    facts |= {"ms_low": 1.9, "ms_high": 2.1, "held_out": right / N, "test": right / N, "images": N}
    return Rival(name, **facts | changes)


def verdict(budget: Budget, of: list[str], ours: Rival | None, fixed: list[Rival], right: dict[str, Any]) -> Verdict:
    """By top-1, of networks that get these images right."""
    predicted = {name: np.where(hits, 0, 1) for name, hits in right.items()}
    return decide(budget, of, ours, fixed, metric="top1", labels=np.zeros(N, int), predicted=predicted)


def rights(**first: int) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    return {name: np.arange(N) < number for name, number in first.items()}


def test_ours_wins_beyond_doubt() -> None:
    found = verdict(Budget(latency_ms=2.0), ["a"], rival("ours", 180), [rival("a", 160)], rights(ours=180, a=160))
    assert (found.ours, found.fixed, found.winner, found.certain) == ("ours", "a", "ours", True)
    assert found.difference == pytest.approx(0.1)
    assert found.low is not None
    assert found.high is not None
    assert 0.05 < found.low < 0.1 < found.high < 0.15  # Agresti and Min: (20 ± 1.96 √(21 − 400 / 202)) / 202


def test_the_fixed_network_wins_within_chance() -> None:
    found = verdict(Budget(latency_ms=2.0), ["a"], rival("ours", 160), [rival("a", 162)], rights(ours=160, a=162))
    assert found.winner == "fixed"
    assert found.difference == pytest.approx(-0.01)
    assert not found.certain


def test_equal_accuracies_of_other_images_are_equal() -> None:
    right = {"ours": np.arange(N) % 2 == 0, "a": np.arange(N) % 2 == 1}
    found = verdict(Budget(latency_ms=2.0), [], rival("ours", 100), [rival("a", 100)], right)
    assert (found.winner, found.difference, found.certain) == ("equal", 0.0, False)
    assert found.high is not None
    assert found.high > 0.1  # the networks disagree on every image, so that chance has much to say


def test_the_fixed_network_is_chosen_by_held_out_images_among_those_that_keep_the_budget() -> None:
    fixed = [
        rival("small", 150, ms=1.0),
        rival("luckiest on test images", 190, ms=1.5, held_out=0.70),
        rival("large", 199, ms=3.0, macs=5000),
        rival("best", 170, ms=2.0, held_out=0.9),
        rival("best but slower", 171, ms=2.01, held_out=0.9),
    ]
    right = {one.name: np.arange(N) < round(one.test * N) for one in fixed} | rights(ours=175)
    assert verdict(Budget(latency_ms=2.0), [], rival("ours", 175), fixed, right).fixed == "best"
    assert verdict(Budget(latency_ms=1.0), [], rival("ours", 175), fixed, right).fixed == "small"
    assert verdict(Budget(macs=1000), [], rival("ours", 175), fixed, right).fixed == "best"  # of equals the faster one
    assert verdict(Budget(macs=5000), [], rival("ours", 175), fixed, right).fixed == "large"
    assert verdict(Budget(params=99), [], rival("ours", 175), fixed, right).fixed is None


def test_who_keeps_no_budget_does_not_win() -> None:
    right = rights(ours=190, a=160)
    none = verdict(Budget(latency_ms=0.5), [], None, [rival("a", 160)], right)
    assert (none.winner, none.difference, none.certain) == ("none", None, False)
    assert verdict(Budget(latency_ms=0.5), [], rival("ours", 190, ms=0.4, ms_low=0.39), [rival("a", 160)], right).winner == "ours"
    assert verdict(Budget(latency_ms=2.0), [], None, [rival("a", 160)], right).winner == "fixed"
    late = verdict(Budget(latency_ms=2.0), [], rival("ours", 190, ms=2.3, ms_low=2.2), [rival("a", 160)], right)
    assert late.over
    assert late.winner == "fixed"
    assert late.difference == pytest.approx(0.15)  # told all the same


def test_a_latency_within_its_interval_keeps_the_budget() -> None:
    found = verdict(Budget(latency_ms=2.0), [], rival("ours", 190, ms=2.05), [rival("a", 160)], rights(ours=190, a=160))
    assert not found.over
    assert found.winner == "ours"


def test_summary_counts_every_budget() -> None:
    budget = Budget(latency_ms=2.0)
    verdicts = [
        Verdict(budget, (), "ours", "a", False, 0.1, 0.05, 0.15),
        Verdict(budget, (), "ours", "a", False, 0.0, -0.05, 0.05),
        Verdict(budget, (), "ours", "a", False, -0.1, -0.15, -0.05),
        Verdict(budget, (), "ours", "a", True, 0.1, 0.05, 0.15),  # too slow
        Verdict(budget, (), None, "a"),
    ]
    text = "ours is at least as accurate in 2 of 5 budgets; beyond doubt (95 %) better in 1, worse in 1"
    found = Comparison("key", "cpu", "a processor", (), (), tuple(verdicts), Costs(9, 1, 4))
    assert summary(found) == text
    assert " accurate by balanced accuracy in 2 of " in summary(replace(found, metric="balanced"))


def test_a_network_that_was_too_slow_is_said_to_be_so() -> None:
    """Whatever its accuracy; "within chance" is about accuracies that decide."""
    late = verdict(Budget(latency_ms=2.0), [], rival("ours", 190, ms=2.3, ms_low=2.2), [rival("a", 160)], rights(ours=190, a=160))
    found = Comparison("key", "cpu", "", (rival("a", 160),), (rival("ours", 190),), (late,), Costs(9, 1, 4))
    words = "fixed{} ours took longer than the budget when timed again"
    assert verdict_line(late, found).endswith(f"): {words.format(', as')}")
    winner = _verdict(late, {"ours": 0.95, "a": 0.8})[1]
    assert winner == words.format(":")


def test_the_run_s_metric_decides() -> None:
    """Ours finds the rare class, the fixed network the frequent one more often."""
    labels = np.repeat([0, 1], [180, 20])
    ours, fixed = np.where(labels == 0, 0, 1), np.zeros(N, int)
    ours[:30] = 1  # 150 + 20 right, of theirs 180
    rivals = [
        rival("ours", 170, balanced=balanced_accuracy_score(labels, ours)),
        rival("a", 180, balanced=balanced_accuracy_score(labels, fixed)),
    ]
    predicted = {"ours": ours, "a": fixed}
    by = {
        metric: decide(Budget(macs=1000), [], rivals[0], rivals[1:], metric=metric, labels=labels, predicted=predicted)
        for metric in ("top1", "balanced")
    }
    assert by["top1"].winner == "fixed"
    assert by["balanced"].winner == "ours"
    assert by["balanced"].certain
    assert by["balanced"].difference == pytest.approx(rivals[0].score("balanced") - rivals[1].score("balanced"))


@pytest.mark.parametrize(
    ("once", "each", "fixed", "devices"),
    [
        (100.0, 1.0, 101.0, 1),
        (100.0, 1.0, 51.0, 2),
        (100.0, 1.0, 50.0, 3),
        (0.0, 1.0, 2.0, 1),
        (100.0, 2.0, 2.0, None),
        (1.0, 3.0, 2.0, None),
    ],
)
def test_break_even(once: float, each: float, fixed: float, devices: int | None) -> None:
    costs = Costs(once, each, fixed)
    assert costs.break_even == devices
    assert costs.rows() == [(k, once + k * each, k * fixed) for k in (1, 3, 10)]
    if devices is not None:
        assert once + devices * each <= devices * fixed
        assert devices == 1 or once + (devices - 1) * each > (devices - 1) * fixed


def read(data: Any) -> Comparison:
    return as_record(data, Comparison, Path("result.json"), FORMAT)


def test_json_round_trip() -> None:
    found = verdict(Budget(latency_ms=2.0), ["a"], rival("ours", 160), [rival("a", 162)], rights(ours=160, a=162))
    whole = Comparison(
        "key", "cpu", "a processor", (rival("a", 162, seconds=3.0),), (rival("ours", 160),), (found,), Costs(9, 1, 4)
    )
    text = json.dumps(whole.to_json())
    assert read(json.loads(text)) == whole
    assert json.loads(text)["verdicts"][0]["winner"] == "fixed"
    assert json.loads(text)["costs"]["break_even"] == 3
    for wrong in (
        {"format": "onceforall.comparison/0"},
        {**json.loads(text), "fixed": [{"name": "a"}]},
        {**json.loads(text), "costs": 1},
    ):
        with pytest.raises(FileError):
            read(wrong)


def test_the_mean_of_the_classes() -> None:
    """Against scikit-learn; a class without images does not count."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 200, p=[0.8, 0.15, 0.05])
    predicted = np.where(rng.random(200) < 0.6, labels, 0)
    images = np.bincount(labels)
    found = balanced_of(images, np.bincount(labels, predicted == labels))
    assert found == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert balanced_of(images, np.zeros(4, int)) == 0


def test_comparisons_of_before_have_no_mean_of_the_classes() -> None:
    found = verdict(Budget(latency_ms=2.0), ["a"], rival("ours", 160), [rival("a", 162)], rights(ours=160, a=162))
    rivals = rival("a", 162, balanced=0.5), rival("ours", 160, balanced=0.6)
    data = Comparison("key", "cpu", "a processor", rivals[:1], rivals[1:], (found,), Costs(9, 1, 4), uneven=5.0).to_json()
    assert read(data).uneven == 5
    del data["uneven"]
    del data["metric"]
    for one in (*data["fixed"], *data["ours"]):
        for name in ("balanced", "macro_f1", "interval"):
            del one[name]
    old = read(json.loads(json.dumps(data)))
    assert old.uneven == 1
    assert old.metric == "top1"
    assert old.ours[0].between == wilson(0.8, N)
    assert {one.balanced for one in (*old.fixed, *old.ours)} == {None}
