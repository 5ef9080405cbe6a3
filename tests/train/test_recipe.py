"""Rates by layer, stochastic depth at a rate that is told, and early stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onceforall import Space, Supernet
from onceforall.errors import StoppedError, TrainingError
from onceforall.nn.calls import Mode
from onceforall.ops import Add, Conv
from onceforall.plan import Segment
from onceforall.supernets.conversion import elastic
from onceforall.train import SCHEMES, Phase, Recipe, Settings
from onceforall.train.checkpoint import best, latest
from onceforall.train.schemes import single_path
from onceforall.train.state import State
from own_small_networks import Convolutional, Transformer
from tiny_training import IMAGES, SPACE, fresh, go, only, same

OWN: dict[str, type[nn.Module]] = {"convolutional": Convolutional, "transformer": Transformer}


def own(kind: str) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return elastic(OWN[kind](), (32,), widths=(0.5, 1))


# -- rates by layer --------------------------------------------------------------------------------------------------------


def rates(supernet: Supernet, decay: float) -> dict[str, float]:
    """Of each parameter, where the schedule says 0.01."""
    schedule = single_path(supernet.space, steps=10, rate=0.01, recipe=Recipe(optimizer="adamw", layer_decay=decay))
    state = State(supernet, schedule, supernet.space.lower(supernet.space.largest(), supernet.num_classes))
    state.set_rate(0.01)
    names = {id(p): name for name, p in supernet.named_parameters()}
    return {names[id(p)]: group["lr"] for group in state.optimizer.param_groups for p in group["params"]}


def test_each_segment_has_a_lower_rate_than_the_next() -> None:
    supernet = fresh()
    found = rates(supernet, 0.5)
    assert found.keys() == dict(supernet.named_parameters()).keys()
    segments = [segment.name for segment in SPACE.lower(SPACE.largest(), supernet.num_classes).segments]
    for place, segment in enumerate(reversed(segments)):
        own = {name: rate for name, rate in found.items() if name.startswith(f"{segment}.")}
        assert own
        assert set(own.values()) == {0.01 * 0.5**place}
    assert any("matrix" in name for name in found)


@pytest.mark.parametrize(
    ("kind", "first", "last"), [("convolutional", "stem.0.weight", "classifier.weight"), ("transformer", "token", "head.weight")]
)
def test_rates_of_networks_that_were_brought(kind: str, first: str, last: str) -> None:
    """Named as in the model, in the order in which they are used."""
    supernet = own(kind)
    found = rates(supernet, 0.5)
    assert found.keys() == dict(supernet.named_parameters()).keys()
    assert found[last] == 0.01
    assert found[first] == min(found.values()) < 0.01 / 3
    assert len(set(found.values())) > 2
    assert set(rates(supernet, 1.0).values()) == {0.01}


@pytest.mark.parametrize("kind", [*OWN, "tiny"])
def test_a_network_that_was_extracted_has_the_rates_of_its_supernet(kind: str) -> None:
    supernet = fresh() if kind == "tiny" else own(kind)
    arch = supernet.space.largest()
    recipe = Recipe(layer_decay=0.5)
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    state = State(network, single_path(supernet.space, steps=10, rate=0.01, recipe=recipe), plan)
    state.set_rate(0.01)
    names = {id(p): name for name, p in network.named_parameters()}
    found = {names[id(p)]: group["lr"] for group in state.optimizer.param_groups for p in group["params"]}
    whole = rates(supernet, 0.5)
    assert found == {name: whole[name] for name in found}
    assert len(set(found.values())) > 2


# -- stochastic depth ------------------------------------------------------------------------------------------------------


def test_images_lose_the_last_branch_at_the_rate() -> None:
    supernet, arch = fresh().train(), SPACE.largest()
    plan = SPACE.lower(arch, supernet.num_classes)
    residual = [segment for segment in plan.segments if segment.branches]
    sums = [op.name for segment in plan.segments for op in segment.ops if isinstance(op, Add)]
    assert [name for segment in residual for name in segment.branches] == sums
    assert len(residual) == 3
    rates: list[float] = []

    def watch(segment: Segment, x: Tensor, mode: Mode) -> Tensor:
        y = Supernet._run(supernet, segment, x, mode)
        if segment.branches:
            rates.append(float(((y - x).abs().flatten(1).amax(1) == 0).float().mean()))
        return y

    supernet._run = watch  # type: ignore[method-assign]
    torch.manual_seed(1)
    supernet(torch.randn(600, 3, 12, 12), arch, drop_path=0.6)
    assert rates == pytest.approx([0.2, 0.4, 0.6], abs=0.06)
    del supernet._run
    images = torch.randn(8, 3, 12, 12)
    assert not torch.equal(supernet(images, arch, drop_path=0.6), supernet(images, arch, drop_path=0.6))
    assert torch.equal(supernet(images, arch, drop_path=0.0), supernet(images, arch))


@pytest.mark.parametrize("kind", OWN)
def test_own_networks_drop_branches_in_train_mode_only(kind: str) -> None:
    supernet = own(kind).train()
    images, arch = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)), supernet.space.largest()
    plain = supernet(images, arch)
    with torch.no_grad():
        torch.manual_seed(0)
        dropped = torch.stack([supernet(images, arch, drop_path=0.5) for _ in range(3)])
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], plain)
    torch.testing.assert_close(supernet(images, arch), plain)  # and nothing is left of it
    supernet.eval()
    assert torch.equal(supernet(images, arch, drop_path=0.5), supernet(images, arch))


def test_halves_of_a_transformer_block_are_branches_of_their_own() -> None:
    """In attention's sum the segment's input is the shortcut, in the MLP's that sum."""
    plan = own("transformer").space.lower(own("transformer").space.largest(), 4)
    halves = [segment for segment in plan.segments if len(segment.branches) == 2]
    assert halves
    for segment in halves:
        sums = {op.name: op for op in segment.ops if op.name in segment.branches}
        (first, second) = sums.values()
        assert [op.inputs[1 - segment.branches[op.name]] for op in (first, second)] == ["in", first.name]


# -- early stop ------------------------------------------------------------------------------------------------------------

TOP1 = [0.3, 0.5, 0.4, 0.6, 0.6, 0.5, 0.55, 0.9, 0.9]
SETTINGS = Settings(seed=3, validate_every=2)


def patient(patience: int, steps: int = 18) -> Any:
    recipe = Recipe(batch_size=IMAGES, dropout=0.0, ema=0.8, patience=patience)
    return single_path(SPACE, steps=steps, rate=0.05, recipe=recipe)


def judged(network: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
    """Accuracies that were made up, by the number of the validation, the mean of two networks."""
    top1 = TOP1[judged.calls]  # type: ignore[attr-defined]
    judged.calls += 1  # type: ignore[attr-defined]
    return [{"subnet": "largest", "top1": top1 + 0.05}, {"subnet": "smallest", "top1": top1 - 0.05}]


@pytest.fixture(autouse=True)
def _from_the_first() -> None:
    judged.calls = 0  # type: ignore[attr-defined]


def test_ends_when_accuracy_does_not_rise_and_keeps_the_best_weights(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    found = go(tmp_path / "a", patient(3), validate=judged, events=events, settings=SETTINGS)
    (note,) = only(events, "note")
    assert note["text"] == (
        "ended at step 14 of 18: the mean accuracy has not risen in 3 validations; the weights of step 8 are kept, the best on "
        "held-out images (patience)"
    )
    assert note["kept"] == 8
    kept = best(tmp_path / "a" / "checkpoints")
    assert kept is not None
    assert kept.step == 8  # of the fourth validation; an equal one later is not better
    assert same(
        {name: v for name, v in found.items() if f"ema.{name}" in kept.tensors},
        {name.removeprefix("ema."): v for name, v in kept.tensors.items() if name.startswith("ema.")},
    )


def test_without_patience_the_last_weights_count(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    go(tmp_path, patient(0), validate=judged, events=events, settings=SETTINGS)
    assert only(events, "train")[-1]["step"] == 18
    assert best(tmp_path / "checkpoints") is None


def test_the_best_weights_are_kept_where_patience_lasts(tmp_path: Path) -> None:
    found = go(tmp_path, patient(9, steps=12), validate=judged, settings=SETTINGS)
    kept = best(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.step == 8
    assert torch.equal(found["stem.first.conv.weight"], kept.tensors["ema.stem.first.conv.weight"])


def test_a_resume_ends_where_the_training_would_have(tmp_path: Path) -> None:
    whole = go(tmp_path / "a", patient(3), validate=judged, settings=SETTINGS)
    judged.calls = 0  # type: ignore[attr-defined]
    with pytest.raises(StoppedError):
        go(tmp_path / "b", patient(3), validate=judged, settings=SETTINGS, stops=lambda done: done == 11)
    assert same(whole, go(tmp_path / "b", patient(3), validate=judged, settings=SETTINGS))
    again: list[dict[str, Any]] = []
    assert same(whole, go(tmp_path / "b", patient(3), validate=judged, events=again, settings=SETTINGS))
    assert not only(again, "train")  # it had ended
    saved = latest(tmp_path / "b" / "checkpoints")
    assert saved is not None
    assert saved.step == 14


def test_only_the_last_phase_is_judged(tmp_path: Path) -> None:
    """In a phase before, fewer and larger networks are validated, which are better."""
    recipe = Recipe(batch_size=IMAGES, patience=2)
    schedule = SCHEMES["progressive_shrinking"](SPACE, steps=40, rate=0.01, recipe=recipe)
    worse = iter(np.linspace(0.9, 0.3, 40))

    def falling(network: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
        return [{"subnet": "some", "top1": float(next(worse))}]

    events: list[dict[str, Any]] = []
    go(tmp_path, schedule, validate=falling, events=events, settings=SETTINGS)
    last = schedule.phases[-1]
    begins = schedule.steps - last.steps
    kept = best(tmp_path / "checkpoints")
    assert kept is not None
    assert begins < kept.step <= begins + 2  # the first validation of the last phase is the best of it
    assert only(events, "note")[0]["step"] == kept.step + 4
    assert {record["phase"] for record in only(events, "phase")} == {phase.name for phase in schedule.phases}


def test_an_early_end_is_not_told_where_the_schedule_has_ended_anyway(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    go(tmp_path, patient(3, steps=14), validate=judged, events=events, settings=SETTINGS)
    (note,) = only(events, "note")
    assert note["text"] == "the weights of step 8 are kept, the best on held-out images (patience)"


def test_sums_within_an_activation_are_no_branches() -> None:
    """x + 0.04 x³ is made of x, but by no layer."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            y = 0.5 * y * (1 + torch.tanh(0.8 * (y + 0.044715 * y**3)))
            return x + self.last(y)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks, self.head = nn.Conv2d(3, 8, 3), nn.Sequential(Block(), Block()), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]

    space = elastic(Network(), (12,)).space
    found = [segment.branches for segment in space.lower(space.largest(), 4).segments]
    assert [len(branches) for branches in found if branches] == [1, 1]


def test_many_sums_one_after_the_other_are_found_at_once() -> None:
    ops: list[Any] = []
    before = "in"
    for i in range(3000):
        ops += [Conv(f"conv{i}", (before,), (4, 2, 2), 4), Add(f"add{i}", (before, f"conv{i}"), (4, 2, 2))]
        before = f"add{i}"
    found = Segment("long", (4, 2, 2), tuple(ops)).branches
    assert found == {f"add{i}": 1 for i in range(3000)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"layer_decay": 0.0}, "layer_decay is 0.0: it must be a number above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"drop_path": 1.0}, "drop_path is 1.0: it must be a number from 0 to 0.999"),
        ({"patience": -1}, "patience is -1: it must be a whole number of at least 0"),
        ({"patience": 2.5}, "patience is 2.5"),
    ],
)
def test_values_that_cannot_be(value: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(Recipe(), **value)
