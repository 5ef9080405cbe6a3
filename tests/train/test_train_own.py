"""Elastic networks that were someone's own: every scheme, a plain torch loop, statistics, checkpoints and files."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from onceforall import Space, Supernet
from onceforall.accuracy.measure import measure_together
from onceforall.calibrate import evaluate_network, recalibrate
from onceforall.common.progress import Progress
from onceforall.errors import StatisticsError, StoppedError
from onceforall.nn.calls import cut_weight
from onceforall.nn.layers import synchronized_norm
from onceforall.ops import Call
from onceforall.pipeline.training.transfer import transferred
from onceforall.spaces import from_json
from onceforall.supernets.conversion import elastic
from onceforall.supernets.sorting import sort_channels
from onceforall.train import SCHEMES, STRATEGIES, Phase, Recipe, Schedule, Settings, Trainer, progressive_shrinking
from onceforall.train.checkpoint import latest
from onceforall.train.state import new_optimizer
from own_small_networks import CLASSES, Convolutional, Transformer, images_and_labels

KINDS: dict[str, type[nn.Module]] = {"convolutional": Convolutional, "transformer": Transformer}
RECIPE = Recipe(batch_size=16, optimizer="adamw", weight_decay=0.01, dropout=0.1, label_smoothing=0.0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(kind: str) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return elastic(KINDS[kind](), (32,), widths=(0.5, 1))


def loss_of(supernet: Supernet, which: str = "smallest") -> float:
    """On images that training does not see, with statistics of its own."""
    arch = supernet.space.smallest() if which == "smallest" else supernet.space.largest()
    images = [images_and_labels(1000 + i) for i in range(4)]
    calibrated = recalibrate(supernet.extract(arch), [x for x, _ in images])
    return evaluate_network(calibrated, images).loss


def validate(supernet: Supernet, space: Space, phase: Phase) -> list[dict[str, Any]]:
    images = [images_and_labels(1000)]
    network = recalibrate(supernet.extract(space.largest()), [x for x, _ in images])
    return [{"subnet": "largest", "top1": evaluate_network(network, images).top1}]


def go(folder: Path, supernet: Supernet, schedule: Schedule, stop_at: int | None = None) -> dict[str, Tensor]:
    start = latest(folder / "checkpoints")
    events: list[dict[str, Any]] = []
    done = start.step if start else 0

    def should_stop() -> bool:
        nonlocal done
        done += 1
        return done == stop_at

    Trainer(
        supernet, schedule, lambda step, resolution: images_and_labels(step, resolution), folder=folder,
        settings=Settings(seed=3, validate_every=50), validate=validate,
        progress=Progress(event=events.append, stopped=should_stop),
    ).run(start)  # fmt: skip
    assert not [event for event in events if event["event"] == "rollback"]
    return {name: value.clone() for name, value in supernet.state_dict().items()}


def test_progressive_shrinking_teaches_all_and_goes_through_files(kind: str, tmp_path: Path) -> None:
    supernet = made(kind)
    before = loss_of(supernet), loss_of(supernet, "largest")
    subnets = {"kernel": 1, "depth": 2, "expand": 2}
    epochs = {"largest": 40.0, "kernel": 10.0, "depth": 15.0, "expand": 25.0}
    rates = dict.fromkeys(("largest", "kernel", "first", "depth", "expand"), 1.0)
    schedule = progressive_shrinking(
        supernet.space, steps=90, rate=0.004, recipe=replace(RECIPE, ema=0.9), subnets=subnets, epochs=epochs, rates=rates
    )
    names = [phase.name for phase in schedule.phases]
    assert names == ["largest", *(["kernel"] if kind == "convolutional" else []), "depth-2", "depth-3", "expand"]
    assert all(("heads" in phase.keep) == (kind == "transformer") for phase in schedule.phases)
    go(tmp_path, supernet, schedule)
    assert loss_of(supernet) < 0.8 * before[0]
    assert loss_of(supernet, "largest") < 0.5 * before[1]
    save_file({name: value.contiguous() for name, value in supernet.state_dict().items()}, tmp_path / "weights.safetensors")
    fresh = Supernet(from_json(supernet.space.to_json()))
    fresh.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = images_and_labels(1)[0]
    for arch in (fresh.space.smallest(), fresh.space.largest()):
        assert torch.equal(fresh(images, arch), supernet(images, arch))


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "progressive_shrinking"])
def test_every_scheme_runs(kind: str, scheme: str, tmp_path: Path) -> None:
    supernet = made(kind)
    schedule = SCHEMES[scheme](supernet.space, steps=4, rate=0.001, recipe=RECIPE)
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    go(tmp_path, supernet, schedule)
    assert any(not torch.equal(value, before[name]) for name, value in supernet.named_parameters())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_draw_heads_too(strategy: str) -> None:
    import numpy as np

    space = made("transformer").space
    drawn = [arch for seed in range(20) for group in STRATEGIES[strategy](space, 4, np.random.default_rng(seed)) for arch in group]
    for arch in drawn:
        space.check(arch)
    assert {block.heads for arch in drawn for stage in arch.stages for block in stage.blocks} == {0.5, 1}


def test_a_resumed_training_gives_the_same_weights(kind: str, tmp_path: Path) -> None:
    def plan(supernet: Supernet) -> Schedule:
        return progressive_shrinking(
            supernet.space, steps=8, rate=0.01, recipe=replace(RECIPE, ema=0.9), subnets={"kernel": 1, "depth": 2, "expand": 2}
        )

    whole = made(kind)
    expected = go(tmp_path / "whole", whole, plan(whole))
    halves = made(kind)
    with pytest.raises(StoppedError):
        go(tmp_path / "halves", halves, plan(halves), stop_at=5)
    found = go(tmp_path / "halves", again := Supernet(from_json(halves.space.to_json())), plan(again))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) or "running_" in name for name, value in found.items())


def test_a_plain_loop_with_sandwich_steps(kind: str) -> None:
    import numpy as np

    supernet = made(kind)
    before = loss_of(supernet), loss_of(supernet, "largest")
    supernet.forget_statistics()
    supernet.train()
    optimizer, rng, losses = torch.optim.AdamW(supernet.parameters(), 0.004), np.random.default_rng(0), []
    for step in range(50):
        images, labels = images_and_labels(step)
        optimizer.zero_grad()
        for arch in (supernet.space.largest(), supernet.space.smallest(), supernet.space.sample(rng)):
            loss = nn.functional.cross_entropy(supernet.at(arch)(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        optimizer.step()
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert loss_of(supernet) < 0.7 * before[0]
    assert loss_of(supernet, "largest") < 0.7 * before[1]


def test_statistics_are_forgotten_and_measured(kind: str) -> None:
    supernet = made(kind).eval()
    images, arch = images_and_labels(0)[0], supernet.space.smallest()
    supernet(images, supernet.space.largest())  # those that came with the model serve at once
    supernet.forget_statistics()
    if kind == "convolutional":
        with pytest.raises(StatisticsError):
            supernet(images, arch)
        with pytest.raises(StatisticsError, match="not finite"):
            recalibrate(supernet.extract(supernet.space.largest()), [images[:, :, :1, :1] * torch.nan])
    measured = recalibrate(supernet.extract(arch), [images, images[:8]])
    assert measured.images == (24 if kind == "convolutional" else 0)
    assert evaluate_network(measured, [images_and_labels(1)]).images == 16
    if kind == "transformer":  # there is nothing to measure: no image is needed
        assert evaluate_network(recalibrate(supernet.extract(arch), []), [images_and_labels(1)]).images == 16
    (row,) = measure_together(supernet, [arch], lambda r: [images, images[:8]], lambda r: [images_and_labels(1)])
    assert row.loss == pytest.approx(evaluate_network(measured, [images_and_labels(1)]).loss, rel=1e-4)


class Odd(nn.Module):
    """Batch norms without scale, over features, shared by two places; and a buffer called as if it were one's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.plain = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, affine=False)
        self.mix, self.shared = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.first, self.features, self.last = nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Linear(32, CLASSES)
        self.register_buffer("running_var", torch.full((8,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(self.conv(x))
        x = torch.relu(self.shared(x)) + self.shared(self.mix(x)) / self.running_var[:, None, None]
        return self.last(torch.relu(self.features(self.first(x.mean((2, 3))))))  # type: ignore[no-any-return]


def test_batch_norms_of_every_kind() -> None:
    model = Odd().train()
    images = [images_and_labels(i)[0] for i in range(3)]
    for batch in images:
        model(batch)
    supernet = elastic(model.eval(), (32,))
    torch.testing.assert_close(supernet(images[0], supernet.space.largest()), model(images[0]))
    supernet.forget_statistics()
    assert torch.equal(supernet.running_var, model.running_var)  # not a batch norm's
    supernet.train()
    network = supernet.extract(supernet.space.largest())
    torch.testing.assert_close(supernet(images[0], supernet.space.largest()), network(images[0]))
    assert {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)} == {
        "plain", "shared", "features",
    }  # fmt: skip
    recalibrate(network, images)
    own = copy.deepcopy(model)
    for module in (own.plain, own.features):
        module.reset_running_stats()
    own.train()
    for number, batch in enumerate(images):
        own.plain.momentum = own.shared.momentum = own.features.momentum = 1 / (number + 1)
        own(batch)
    torch.testing.assert_close(network(images[0]), own.eval()(images[0]))


class Functional(nn.Module):
    """A batch norm that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, CLASSES)
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.batch_norm(self.conv(x), self.mean, self.var, self.scale, self.shift, self.training)
        return self.last(torch.relu(y).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_batch_norm_that_is_no_layer_is_named() -> None:
    supernet = elastic(Functional().eval(), (32,))
    with pytest.raises(StatisticsError, match=r"the statistics of mean cannot be measured: .* use a torch\.nn\.BatchNorm2d"):
        recalibrate(supernet.extract(supernet.space.largest()), [images_and_labels(0)[0]])


def test_weights_may_be_replaced(kind: str) -> None:
    """By another type, by assignment, and for one call; a copy has its own."""
    supernet = made(kind)
    arch, images = supernet.space.smallest(), images_and_labels(0)[0]
    first = supernet(images, arch)
    other = copy.deepcopy(supernet)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    expected = other(images, arch)
    assert torch.equal(supernet(images, arch), first)
    assert not torch.equal(expected, first)
    tensors = dict(other.state_dict())
    assert torch.equal(functional_call(supernet, tensors, (images, arch)), expected)
    assert torch.equal(supernet(images, arch), first)
    supernet.load_state_dict({name: value.clone() for name, value in tensors.items()}, assign=True)
    assert torch.equal(supernet(images, arch), expected)
    torch.testing.assert_close(supernet.double()(images.double(), arch).float(), expected, rtol=1e-3, atol=1e-4)


def test_gradients_are_those_of_the_extracted_network(kind: str) -> None:
    supernet = made(kind).double().train()
    images = images_and_labels(0)[0].double()
    for arch in (supernet.space.smallest(), supernet.space.largest()):
        network = supernet.extract(arch)
        supernet.zero_grad()
        for module in (lambda arch=arch: supernet(images, arch), lambda network=network: network(images)):
            module().square().sum().backward()
        plan = supernet.space.lower(arch, supernet.num_classes)
        parts = {weight.name: weight for op in plan.ops if isinstance(op, Call) for weight in op.tensors if weight.trained}
        for name, weight in parts.items():
            if weight.kernels:
                continue  # the plain network has a kernel of its own there, and no matrix that makes it
            whole = supernet.get_parameter(name).grad
            own = network.get_parameter(name).grad
            assert whole is not None
            assert own is not None
            torch.testing.assert_close(cut_weight(weight, {name: whole}), own)
            torch.testing.assert_close(whole.abs().sum(), own.abs().sum())  # none elsewhere


def test_dropout_stands_before_the_classifier(kind: str) -> None:
    supernet = made(kind).train()
    images, arch = images_and_labels(0)[0], supernet.space.largest()
    weights = supernet.get_parameter("classifier.weight" if kind == "convolutional" else "head.weight")
    with torch.no_grad():
        weights.fill_(1.0)
    network = supernet.extract(arch, dropout=0.5)
    for call in (lambda: supernet(images, arch, dropout=0.5), lambda: network(images)):
        torch.manual_seed(0)
        first = call()
        torch.manual_seed(0)
        assert torch.equal(call(), first)
        assert not torch.equal(call(), first)
    torch.manual_seed(0)
    mine = supernet(images, arch, dropout=0.5)
    torch.manual_seed(0)
    torch.testing.assert_close(network(images), mine)
    assert torch.equal(supernet(images, arch), supernet(images, arch))
    supernet.eval()
    assert torch.equal(supernet(images, arch, dropout=0.5), supernet(images, arch))


def test_what_decays() -> None:
    supernet = made("transformer")
    decayed, others = (group["params"] for group in new_optimizer(supernet, RECIPE, {}).param_groups)
    names = {id(p): name for name, p in supernet.named_parameters()}
    assert {names[id(p)] for p in others} >= {"token", "position", "norm.weight", "layers.0.fc1.bias"}
    assert {names[id(p)] for p in decayed} >= {"patches.weight", "layers.0.qkv.weight", "head.weight"}


def test_sorting_moves_the_running_mean_along(kind: str) -> None:
    supernet = made(kind)
    along = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    difference = {name: (p.detach() - along[name]).abs().sum() for name, p in supernet.named_parameters()}
    sort_channels(supernet, 1, along=along)
    for name, p in supernet.named_parameters():
        torch.testing.assert_close((p.detach() - along[name]).abs().sum(), difference[name])


def test_classes_of_their_own(kind: str) -> None:
    """A trained classifier is left behind where the classes are others."""
    trained = made(kind)
    fresh = Supernet(trained.space, 7)
    weights = transferred(trained, fresh, classifier=False)
    fresh.load_state_dict(weights)
    name = "classifier.weight" if kind == "convolutional" else "head.weight"
    assert weights[name].shape[0] == 7
    differing = {name for name, value in trained.state_dict().items() if value.shape != weights[name].shape}
    assert differing == {name, name.replace("weight", "bias")}
    others = [name for name in weights if name not in differing]
    assert all(torch.equal(weights[name], trained.state_dict()[name]) for name in others)
    assert fresh(images_and_labels(0)[0], fresh.space.smallest()).shape == (16, 7)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4), (6, 5, 4, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_synchronized_norms_of_any_shape(shape: tuple[int, ...], affine: bool, tmp_path: Path) -> None:
    """Of one process, whose batch is that of all; two processes are tested in test_world.py."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight, bias = (torch.rand(5), torch.rand(5)) if affine else (None, None)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        found = synchronized_norm(x, weight, bias, 1e-5)
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(found, nn.functional.batch_norm(x, None, None, weight, bias, True))
