"""The phases of every scheme, as the papers have them."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.errors import TrainingError
from onceforall.train import SCHEMES, Phase, Recipe, Schedule
from onceforall.train.schedule import learning_rate
from small_spaces import SPACES
from tiny_training import RECIPE, SPACE, scheme


@pytest.mark.parametrize("name", SCHEMES)
@given(where=st.sampled_from(sorted(SPACES)), steps=st.integers(1, 5000), rate=st.floats(1e-4, 3))
def test_phases_cover_the_steps(name: str, where: str, steps: int, rate: float) -> None:
    try:
        schedule = scheme(name, SPACES[where], steps, rate)
    except TrainingError as error:
        assert steps < 12, "no scheme has that many phases"
        assert f"{steps} steps for" in str(error)  # noqa: PT017
        assert "train for more epochs, or use more images or a smaller batch" in str(error)  # noqa: PT017
        return
    assert schedule.steps == steps
    assert schedule.recipe == RECIPE
    assert all(0 <= phase.warmup_steps < phase.steps for phase in schedule.phases)
    assert SPACES[where].keep_largest(**schedule.phases[-1].keep) == SPACES[where], "all is trained in the end"
    rates = [learning_rate(phase, step) for phase in schedule.phases for step in {0, phase.steps // 2, phase.steps - 1}]
    assert 0 < max(rates) <= rate * (1 + 1e-9)
    assert min(rates) > 0
    text = schedule.to_json()
    assert Schedule.from_json(text) == schedule
    assert Schedule.from_json(text).to_json() == text


@pytest.mark.parametrize(("name", "phases"), [("progressive_shrinking", 6), ("coupled", 3), ("delayed_shrinking", 2)])
def test_too_few_steps(name: str, phases: int) -> None:
    space = SPACES["default"]
    with pytest.raises(TrainingError, match=f"{phases - 1} steps for {phases} phases: train for more epochs"):
        scheme(name, space, phases - 1)
    assert len(scheme(name, space, phases).phases) == phases


@given(steps=st.integers(2, 3000), warmup=st.floats(0, 0.3), delay=st.floats(0.05, 0.95), rate=st.floats(1e-3, 3))
def test_delayed_shrinking_has_one_cosine(steps: int, warmup: float, delay: float, rate: float) -> None:
    schedule = SCHEMES["delayed_shrinking"](SPACE, steps=steps, rate=rate, recipe=RECIPE, warmup=warmup, delay=delay)
    first, second = schedule.phases
    rising = first.warmup_steps
    assert rising == pytest.approx(min(warmup * steps, first.steps - 1), abs=1)
    assert first.steps == pytest.approx(delay * steps, abs=1)
    assert second.warmup_steps == 0
    found = [learning_rate(*schedule.at(step)) for step in range(steps)]
    for step in range(steps):
        if step < rising:
            assert found[step] == pytest.approx(rate * (step + 1) / rising)
        else:
            assert found[step] == pytest.approx(rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2)


def test_delayed_shrinking() -> None:
    alone, shrinking = scheme("delayed_shrinking", steps=1000).phases
    assert SPACE.keep_largest(**alone.keep).count() == len(SPACE.resolutions)
    assert (alone.steps, alone.warmup_steps, alone.distil, alone.labels) == (500, 50, False, "all")
    assert (shrinking.strategy, shrinking.teacher, shrinking.labels, shrinking.ramp) == ("sandwich", "largest", "largest", 0.25)
    assert shrinking.subnets == 4


def test_coupled_has_the_papers_proportions() -> None:
    """180 epochs alone, 25 at 0.08, 125 at 0.24 of which 5 rise, for a peak of 2.6; four networks a step."""
    alone, low, high = SCHEMES["coupled"](SPACES["default"], steps=330 * 100, rate=2.6, recipe=RECIPE, warmup=0.0).phases
    assert [phase.steps for phase in (alone, low, high)] == [18000, 2500, 12500]
    assert [phase.rate for phase in (alone, low, high)] == pytest.approx([2.6, 0.08, 0.24])
    assert [phase.warmup_steps for phase in (alone, low, high)] == [0, 0, 500]
    assert [phase.subnets for phase in (alone, low, high)] == [1, 4, 4]
    assert [phase.strategy for phase in (low, high)] == ["coupled", "coupled"]
    assert [(phase.distil, phase.teacher) for phase in (low, high)] == [(True, "frozen")] * 2
    assert SPACES["default"].keep_largest(**alone.keep).count() == len(SPACES["default"].resolutions)
    assert all(SPACES["default"].keep_largest(**phase.keep) == SPACES["default"] for phase in (low, high))


def test_sandwiches() -> None:
    """BigNAS, AlphaNet and AttentiveNAS differ in what they draw and in the divergence."""
    for name, strategy, divergence in (
        ("sandwich", "sandwich", "cross_entropy"),
        ("alphanet", "sandwich", "adaptive_alpha"),
        ("best_up", "best_up", "cross_entropy"),
    ):
        (phase,) = scheme(name, steps=100).phases
        assert (phase.strategy, phase.divergence) == (strategy, divergence)
        assert (phase.teacher, phase.labels, phase.distil, phase.subnets, phase.warmup_steps) == ("largest", "largest", True, 4, 5)
    (phase,) = scheme("single_path", steps=100).phases
    assert (phase.strategy, phase.distil, phase.labels, phase.subnets) == ("uniform", False, "all", 1)


def test_schedules_of_before_still_load() -> None:
    """What the first version of this format held."""
    schedule = scheme("progressive_shrinking", recipe=Recipe())
    data = json.loads(schedule.to_json())
    assert data["format"] == "onceforall.schedule/1"
    for phase in data["phases"]:
        for name in ("teacher", "labels", "divergence", "ramp", "cosine"):
            del phase[name]
    for name in ("clip_value", "ema"):
        del data["recipe"][name]
    assert set(data["phases"][0]) == {"name", "keep", "steps", "warmup_steps", "rate", "subnets", "strategy", "distil", "sort"}
    assert set(data["recipe"]) == {
        "batch_size", "optimizer", "momentum", "weight_decay", "label_smoothing", "dropout", "distil_weight", "zero_residual",
        "clip",
    }  # fmt: skip
    assert Schedule.from_json(json.dumps(data)) == schedule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "me"}, "teacher is 'me': choose from frozen, largest, external"),
        ({"labels": "none"}, "labels is 'none': choose from all, largest"),
        ({"divergence": "l2"}, "divergence is 'l2': choose from cross_entropy, adaptive_alpha"),
        ({"ramp": 1.5}, "ramp is 1.5: it must be a number from 0 to 1"),
        ({"cosine": (0.5, 0.5)}, "cosine is 0.5: it must be a number after its beginning and at most 1"),
        ({"cosine": (0.5, 1.5)}, "cosine is 1.5"),
        ({"cosine": (-0.1, 1.0)}, "cosine is -0.1: it must be a number from 0 to 1"),
        ({"cosine": 1.0}, "cosine is nan"),
        ({"strategy": "uniform"}, "strategy 'uniform' has no largest network to treat differently: use sandwich or best_up"),
        ({"strategy": "coupled", "teacher": "frozen"}, "strategy 'coupled' has no largest network"),
        ({"strategy": "uniform", "teacher": "frozen", "labels": "all", "ramp": 0.5}, "has no largest network"),
        ({"distil": False}, "without labels or a teacher, smaller networks learn nothing: set distil"),
        ({"sort": 1, "cosine": (0.5, 1.0)}, "sort needs a new optimizer"),
    ],
)
def test_phases_are_checked(change: dict[str, Any], message: str) -> None:
    phase = Phase("a", {}, 10, 1, 0.1, subnets=3, strategy="sandwich", teacher="largest", labels="largest")
    with pytest.raises(TrainingError, match=f"phase 'a': .*{message}"):
        replace(phase, **change)


@pytest.mark.parametrize("change", [{"ema": 1.0}, {"ema": -0.1}, {"clip_value": -1.0}, {"clip_value": math.nan}, {"ema": True}])
def test_recipes_are_checked(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(TrainingError, match=f"{name} is {value}: it must be a number from 0 to"):
        replace(RECIPE, **change)
