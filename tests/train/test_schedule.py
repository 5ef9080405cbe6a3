"""Schedules: the paper's numbers, learning rates, JSON, and strategies that stay inside the space of their phase."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Space
from onceforall.errors import TrainingError
from onceforall.train import STRATEGIES, Phase, Recipe, Schedule, progressive_shrinking, work_per_step
from onceforall.train.schedule import learning_rate
from onceforall.train.schemes import PAPER_EPOCHS, PAPER_RATES, PAPER_SUBNETS

PAPER = onceforall.space("mobilenet_v3")
SMALL = onceforall.space("mobilenet_v3", width=0.25, resolutions=(16, 24), depths=(1, 2), strides=(1, 1, 2, 2, 2, 1, 1))


def shrinking(space: Space, steps: int = 1000, rate: float = 1.0) -> Schedule:
    return progressive_shrinking(
        space, steps=steps, rate=rate, recipe=Recipe(), epochs=PAPER_EPOCHS, rates=PAPER_RATES, subnets=PAPER_SUBNETS
    )


def test_the_papers_phases() -> None:
    steps_per_epoch = 625  # 1.28 million images in batches of 2,048
    schedule = shrinking(PAPER, 605 * steps_per_epoch, rate=2.6)
    phases = schedule.phases
    assert [phase.name for phase in phases] == ["largest", "kernel", "depth-2", "depth-3", "expand-2", "expand-3"]
    assert [phase.steps / steps_per_epoch for phase in phases] == pytest.approx([180, 125, 25, 125, 25, 125], abs=0.01)
    assert [phase.rate for phase in phases] == pytest.approx([2.6, 0.96, 0.08, 0.24, 0.08, 0.24])
    assert [phase.subnets for phase in phases] == [1, 1, 2, 2, 4, 4]
    assert [phase.distil for phase in phases] == [False, True, True, True, True, True]
    assert [phase.sort for phase in phases] == [None, None, None, None, 1, 2]
    kept = [PAPER.keep_largest(**phase.keep).stages[0] for phase in phases]
    assert [c.kernels for c in kept] == [(7,)] + [(3, 5, 7)] * 5
    assert [c.depths for c in kept] == [(4,), (4,), (3, 4), (2, 3, 4), (2, 3, 4), (2, 3, 4)]
    assert [c.expand_ratios for c in kept] == [(6,), (6,), (6,), (6,), (4, 6), (3, 4, 6)]
    assert PAPER.keep_largest(**phases[-1].keep) == PAPER
    assert all(PAPER.keep_largest(**phase.keep).resolutions == PAPER.resolutions for phase in phases)
    assert phases[1].warmup_steps == 5 * steps_per_epoch
    assert schedule.teacher_step == phases[0].steps


@pytest.mark.parametrize(
    ("choices", "names"),
    [
        ({"kernels": (3,), "depths": (2,), "expand_ratios": (3,)}, ["largest"]),
        ({"kernels": (3, 5), "depths": (1, 2), "expand_ratios": (3, 4)}, ["largest", "kernel", "depth", "expand"]),
        ({"kernels": (3, 5), "depths": (2,), "expand_ratios": (2, 3, 4)}, ["largest", "kernel", "expand-2", "expand-3"]),
        ({"kernels": (3,), "depths": (1, 2, 3, 4), "expand_ratios": (6,)}, ["largest", "depth-2", "depth-3", "depth-4"]),
    ],
)
def test_fewer_choices_have_fewer_phases(choices: dict[str, tuple[int, ...]], names: list[str]) -> None:
    schedule = shrinking(onceforall.space("mobilenet_v3", width=0.25, **choices), 100)
    assert [phase.name for phase in schedule.phases] == names
    assert schedule.teacher_step == (100 if len(names) == 1 else schedule.phases[0].steps)


@given(st.integers(6, 10**6))
def test_phases_cover_the_steps(steps: int) -> None:
    schedule = shrinking(PAPER, steps)
    assert schedule.steps == sum(phase.steps for phase in schedule.phases) == steps
    assert all(0 <= phase.warmup_steps < phase.steps for phase in schedule.phases)
    start = 0
    for phase in schedule.phases:
        assert schedule.at(start) == (phase, 0)
        assert schedule.at(start + phase.steps - 1) == (phase, phase.steps - 1)
        start += phase.steps
    with pytest.raises(IndexError):
        schedule.at(steps)


def test_too_few_steps() -> None:
    with pytest.raises(TrainingError, match="5 steps for 6 phases: train for more epochs"):
        shrinking(PAPER, 5)


@given(st.integers(1, 500), st.integers(0, 50), st.floats(1e-6, 10))
def test_learning_rate(steps: int, warmup: int, rate: float) -> None:
    warmup = min(warmup, steps - 1)
    phase = Phase("a", {}, steps, warmup, rate)
    rates = [learning_rate(phase, step) for step in range(steps)]
    for step in range(warmup):
        assert rates[step] == pytest.approx(rate * (step + 1) / warmup)
    for step in range(warmup, steps):
        assert rates[step] == pytest.approx(rate * math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2)
    assert max(rates) == pytest.approx(rate)
    assert min(rates) > 0


# -- JSON ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [PAPER, SMALL])
def test_json_round_trip(space: Space) -> None:
    schedule = shrinking(space)
    text = schedule.to_json()
    assert Schedule.from_json(text) == schedule
    assert Schedule.from_json(text).to_json() == text


def fuzzed(data: Any, path: list[int], value: Any) -> Any:
    """`data` with the part that `path` leads to replaced."""
    if not path or not isinstance(data, dict | list) or not data:
        return value
    keys = list(data) if isinstance(data, dict) else range(len(data))
    key = keys[path[0] % len(keys)]
    changed = dict(data) if isinstance(data, dict) else list(data)
    changed[key] = fuzzed(data[key], path[1:], value)
    return changed


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.integers(0, 20), max_size=4), VALUES)
def test_json_that_is_no_schedule(path: list[int], value: Any) -> None:
    data = json.loads(shrinking(SMALL).to_json())
    try:
        schedule = Schedule.from_json(json.dumps(fuzzed(data, path, value)))
    except TrainingError as error:
        assert "\n" not in str(error)  # noqa: PT017  # a changed value may be a good one
    else:
        assert all(phase.steps >= 0 and SMALL.keep_largest(**phase.keep).count() for phase in schedule.phases)
        assert all(learning_rate(phase, step) >= 0 for phase in schedule.phases for step in range(3))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "null", '{"format": "onceforall.schedule/2"}', "NaN"])
def test_texts_that_are_no_schedules(text: str) -> None:
    with pytest.raises(TrainingError, match="schedule"):
        Schedule.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "phase 'a': steps is -1: it must be a whole number of at least 0"),
        ({"steps": 4, "warmup_steps": 100}, "phase 'a': warmup_steps is 100 and steps is 4: give at most"),
        ({"steps": True}, "steps is True"),
        ({"rate": 0.0}, "rate is 0.0: it must be a number above 0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"subnets": 0}, "subnets is 0"),
        ({"strategy": "best"}, "strategy is 'best': choose from uniform, ends, sandwich, all_sizes, best_up"),
        ({"keep": {"kernel": 1}}, "keep is 'kernel': choose from widths, depths, kernels, expand_ratios"),
        ({"sort": 0}, "sort is 0"),
    ],
)
def test_phases_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(Phase("a", {"kernels": 1}, 10, 1, 0.1), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch size is 0: it must be a whole number of at least 1"),
        ({"optimizer": "adam"}, "optimizer is 'adam': choose from sgd, adamw"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5: it must be a number from 0 to 0.999"),
        ({"clip": math.inf}, "clip is inf"),
        ({"zero_residual": 1}, "zero_residual is 1: it must be true or false"),
    ],
)
def test_recipes_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(Recipe(), **change)


def test_phases_need_names_of_their_own() -> None:
    phase = Phase("a", {}, 1, 0, 1.0)
    with pytest.raises(TrainingError, match="give at least one phase, and each a unique name"):
        Schedule((phase, phase), Recipe())
    with pytest.raises(TrainingError, match="give at least one phase"):
        Schedule((), Recipe())


# -- strategies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(number=st.integers(1, 6), seed=st.integers(0, 10**6), phase=st.integers(0, 5))
def test_strategies(strategy: str, number: int, seed: int, phase: int) -> None:
    space = PAPER.keep_largest(**shrinking(PAPER).phases[phase].keep)
    groups = STRATEGIES[strategy](space, number, np.random.default_rng(seed))
    assert len(groups) == number
    archs = [arch for group in groups for arch in group]
    assert len({arch.resolution for arch in archs}) == 1
    for arch in archs:
        space.check(arch)
    assert groups == STRATEGIES[strategy](space, number, np.random.default_rng(seed))


def test_ends_and_sandwich_hold_the_ends() -> None:
    rng = np.random.default_rng(0)
    drawn = [STRATEGIES["ends"](PAPER, 2, rng)[0][0] for _ in range(50)]
    largest = sum(arch == PAPER.largest(arch.resolution) for arch in drawn)
    assert largest + sum(arch == PAPER.smallest(arch.resolution) for arch in drawn) == 50
    assert 10 < largest < 40
    archs = [arch for (arch,) in STRATEGIES["sandwich"](PAPER, 4, rng)]
    assert archs[:2] == [PAPER.largest(archs[0].resolution), PAPER.smallest(archs[0].resolution)]


def test_uniform_draws_what_the_space_samples() -> None:
    rng = np.random.default_rng(0)
    archs = [arch for _ in range(200) for (arch,) in STRATEGIES["uniform"](SMALL, 2, rng)]
    for stage in range(5):
        assert {arch.stages[stage].depth for arch in archs} == {1, 2}
        assert {b.kernel for arch in archs for b in arch.stages[stage].blocks} == {3, 5, 7}
    assert {arch.resolution for arch in archs} == {16, 24}


# -- work ------------------------------------------------------------------------------------------------------------------


def test_work_of_a_step() -> None:
    space = onceforall.space("mobilenet_v3", width=0.25, resolutions=(32,), depths=(1, 2), kernels=(3,), expand_ratios=(3,))
    schedule = replace(shrinking(space), recipe=Recipe(batch_size=8))
    first, depth = work_per_step(schedule, space, 10)
    largest, smallest = (space.lower(arch, 10).macs for arch in (space.largest(), space.smallest()))
    assert first == 8 * 3 * largest
    assert 8 * (2 * 3 * smallest + largest) < depth < 8 * (2 * 3 * largest + largest)
