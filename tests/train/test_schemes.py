"""Every scheme, by name: phases, learning rates, work, and a training of a few steps that can be stopped anywhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onceforall import Arch, Space
from onceforall.errors import StoppedError, TrainingError
from onceforall.train import SCHEMES, STRATEGIES, Phase, Recipe, Schedule, work_per_step
from onceforall.train.checkpoint import latest
from tiny_training import CLASSES, RECIPE, SPACE, STEPS, batches, fresh, go, same, scheme

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
    with pytest.raises(TrainingError, match="the schedule needs an external teacher, and there is none"):
        go(tmp_path, plan)
    whole = go(tmp_path / "whole", plan, teacher=Oracle())
    assert Oracle.asked == 9, "once a step, not once a network"
    with pytest.raises(StoppedError):
        go(tmp_path, plan, teacher=Oracle(), stops=lambda step: step == 5)
    assert same(go(tmp_path, plan, teacher=Oracle()), whole)
    assert not (tmp_path / "teacher.safetensors").exists()
