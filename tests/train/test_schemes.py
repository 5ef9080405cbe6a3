"""Every scheme, by name: phases, learning rates, work, and a training of a few steps that can be stopped anywhere."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny_training
from onceforall import Arch, Space
from onceforall.errors import StoppedError, TrainingError
from onceforall.train import SCHEMES, STRATEGIES, Phase, Recipe, Schedule, work_per_step
from onceforall.train.checkpoint import latest
from onceforall.train.schedule import learning_rate
from small_spaces import SPACES
from tiny_training import CLASSES, SPACE, batches, fresh, go, same

STEPS = 12
RECIPE = Recipe(batch_size=tiny_training.IMAGES, dropout=0.3, ema=0.8, clip_value=1.0)


def scheme(name: str, space: Space = SPACE, steps: int = STEPS, rate: float = 0.05, recipe: Recipe = RECIPE) -> Schedule:
    return SCHEMES[name](space, steps=steps, rate=rate, recipe=recipe)


# -- phases ----------------------------------------------------------------------------------------------------------------


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
        ({"distil": False}, "without labels and teacher the smaller networks learn nothing: set distil"),
        ({"sort": 1, "cosine": (0.5, 1.0)}, "sorting needs a fresh optimiser"),
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


# -- work ------------------------------------------------------------------------------------------------------------------


def counted(schedule: Schedule, phase: Phase, draws: int) -> float:
    """Mean MACs of a step by lowering every network that runs."""
    kept, rng, total = SPACE.keep_largest(**phase.keep), np.random.default_rng(99), 0

    def macs(arch: Arch) -> int:
        return SPACE.lower(arch, CLASSES).macs

    for _ in range(draws):
        groups = STRATEGIES[phase.strategy](kept, phase.subnets, rng)
        for group in groups:
            total += 3 * macs(group[0]) + (sum(map(macs, group)) if len(group) > 1 else 0)
        if phase.distil and phase.teacher == "frozen":
            total += macs(SPACE.largest(groups[0][0].resolution))
    return total / draws * schedule.recipe.batch_size


@pytest.mark.parametrize("name", SCHEMES)
def test_work(name: str) -> None:
    schedule = scheme(name, steps=1000)
    for phase, work in zip(schedule.phases, work_per_step(schedule, SPACE, CLASSES), strict=True):
        assert work == pytest.approx(counted(schedule, phase, 150), rel=0.15)


def test_work_of_one_resolution_is_exact() -> None:
    """A sandwich of two: the largest and the smallest, nothing is random."""
    space = SPACE.restrict(resolutions=(8,))
    schedule = SCHEMES["sandwich"](space, steps=10, rate=0.1, recipe=RECIPE, subnets=2)
    both = sum(space.lower(arch, CLASSES).macs for arch in (space.largest(), space.smallest()))
    assert work_per_step(schedule, space, CLASSES) == [3 * both * RECIPE.batch_size]


# -- trained, stopped, resumed ---------------------------------------------------------------------------------------------

RECIPES = {"sgd": RECIPE, "adamw": replace(RECIPE, optimizer="adamw", zero_residual=True, ema=0.0)}


@pytest.mark.parametrize(("name", "recipe"), [*((name, "sgd") for name in SCHEMES), ("coupled", "adamw"), ("best_up", "adamw")])
def test_stopped_after_every_step(tmp_path: Path, name: str, recipe: str) -> None:
    plan = scheme(name, recipe=RECIPES[recipe], rate=0.05 if recipe == "sgd" else 0.005)
    whole = go(tmp_path / "whole", plan)
    assert all(value.isfinite().all() for key, value in whole.items() if "running" not in key)
    for _ in range(STEPS - 1):
        with pytest.raises(StoppedError):
            go(tmp_path / "each", plan, stops=lambda step: True)
    assert same(go(tmp_path / "each", plan), whole)


def momentum(folder: Path) -> dict[str, Tensor]:
    saved = latest(folder / "checkpoints")
    assert saved is not None
    return {name: value for name, value in saved.tensors.items() if name.endswith("/momentum_buffer")}


@pytest.mark.parametrize(("name", "kept"), [("delayed_shrinking", True), ("coupled", False)])
def test_momentum_between_phases(tmp_path: Path, name: str, kept: bool) -> None:
    """The step after the first phase starts from its momentum only where the phases share a cosine."""
    plan = scheme(name, steps=20, recipe=replace(RECIPE, momentum=0.9, weight_decay=0.0, ema=0.0))
    first = plan.phases[0].steps
    with pytest.raises(StoppedError):
        go(tmp_path, plan, stops=lambda step: step == first)
    before = momentum(tmp_path)
    net = fresh()
    with pytest.raises(StoppedError):  # images without content: no gradient but that of the bias of the classifier and norms
        go(
            tmp_path,
            plan,
            supernet=net,
            stops=lambda step: True,
            data=lambda step, r: (torch.zeros(8, 3, r, r), batches(step, r)[1]),
        )
    after = momentum(tmp_path)
    stem = "optimizer.stem.first.conv.weight/momentum_buffer"
    assert before[stem].abs().max() > 0
    torch.testing.assert_close(after[stem], before[stem] * 0.9 if kept else torch.zeros_like(before[stem]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["progressive_shrinking", "coupled", "sandwich"])
def test_running_mean(tmp_path: Path, name: str) -> None:
    """Against a mean kept by hand from the weights after every step; sorting channels keeps the mean's function."""
    plan = scheme(name, recipe=replace(RECIPE, ema=0.7, dropout=0.0))
    mean = {key: p.detach().clone() for key, p in fresh().named_parameters()}
    images = batches(99, SPACE.resolutions[-1])[0]
    for step in range(1, STEPS + 1):
        phase, within = plan.at(step - 1)
        sorts = phase.sort is not None and within == 0
        decay = min(0.7, step / (step + 9))  # forgets the initial weights faster
        if step < STEPS:
            with pytest.raises(StoppedError):
                go(tmp_path, plan, stops=lambda done: True)
        else:
            final = go(tmp_path, plan)
        saved = latest(tmp_path / "checkpoints")
        assert saved is not None
        weights = {key.removeprefix("model."): value for key, value in saved.tensors.items() if key.startswith("model.")}
        ema = {key.removeprefix("ema."): value for key, value in saved.tensors.items() if key.startswith("ema.")}
        assert ema.keys() == mean.keys()
        if sorts:  # channels have new places: take the last step's part out and compare what the largest network computes
            undone = {key: (ema[key] - (1 - decay) * weights[key]) / decay for key in ema}
            assert any(not torch.allclose(undone[key], mean[key], atol=1e-4) for key in ema)
            torch.testing.assert_close(logits(undone, images), logits(mean, images), rtol=1e-3, atol=1e-4)
        else:
            for key in ema:
                torch.testing.assert_close(ema[key], mean[key] * decay + weights[key] * (1 - decay), rtol=1e-5, atol=1e-6)
        mean = ema
    assert all(torch.equal(final[key], mean[key]) for key in mean)


def logits(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    net = fresh()
    with torch.no_grad():
        for key, p in net.named_parameters():
            p.copy_(weights[key])
        return net.train()(images, SPACE.largest())


def test_what_is_validated_is_the_running_mean(tmp_path: Path) -> None:
    plan = scheme("sandwich", recipe=replace(RECIPE, ema=0.9))
    seen: list[dict[str, Tensor]] = []

    def validate(net: Any, space: Space, phase: Phase) -> list[dict[str, Any]]:
        seen.append({name: p.detach().clone() for name, p in net.named_parameters()})
        return []

    final = go(tmp_path, plan, validate=validate)
    assert len(seen) == 2
    assert all(torch.equal(final[name], value) for name, value in seen[-1].items())
    saved = latest(tmp_path / "checkpoints")
    assert saved is not None
    assert not torch.equal(saved.tensors["model.head.classifier.weight"], final["head.classifier.weight"])


def test_ramp(tmp_path: Path) -> None:
    """Nothing but the largest network learns in the first step of a ramp that starts at 0."""
    phase = Phase("a", {}, 4, 0, 0.05, subnets=2, strategy="sandwich", teacher="largest", labels="largest", ramp=0.0)
    recipe = Recipe(batch_size=8, momentum=0.0, weight_decay=0.0, dropout=0.0)
    alone = replace(phase, subnets=1)
    with pytest.raises(StoppedError):
        go(tmp_path / "ramp", Schedule((phase,), recipe), stops=lambda step: step == 1)
    with pytest.raises(StoppedError):
        go(tmp_path / "alone", Schedule((alone,), recipe), stops=lambda step: step == 1)
    found = [latest(tmp_path / folder / "checkpoints") for folder in ("ramp", "alone")]
    assert found[0] is not None
    assert found[1] is not None
    for name, value in found[1].tensors.items():
        torch.testing.assert_close(found[0].tensors[name], value, equal_nan=True)


def test_an_external_teacher(tmp_path: Path) -> None:
    class Oracle(nn.Module):
        """Knows the classes from the images' mean colours, and counts how often it is asked."""

        asked = 0

        def forward(self, images: Tensor) -> Tensor:
            Oracle.asked += 1
            colours = images.mean((2, 3))
            return 8 * torch.cat([colours, 0.5 - colours.sum(1, keepdim=True)], 1)

    phase = Phase("a", {}, 9, 0, 0.05, subnets=3, strategy="uniform", teacher="external")
    plan = Schedule((phase,), RECIPE)
    with pytest.raises(TrainingError, match="the schedule learns from an external teacher, and none was given"):
        go(tmp_path, plan)
    whole = go(tmp_path / "whole", plan, teacher=Oracle())
    assert Oracle.asked == 9, "once a step, not once a network"
    with pytest.raises(StoppedError):
        go(tmp_path, plan, teacher=Oracle(), stops=lambda step: step == 5)
    assert same(go(tmp_path, plan, teacher=Oracle()), whole)
    assert not (tmp_path / "teacher.safetensors").exists()
