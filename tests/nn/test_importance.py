"""Ranking of units: any order leaves the largest network as it is, and scores are what the model's own layers give."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from onceforall.calibrate import recalibrate
from onceforall.errors import ModelError, StatisticsError
from onceforall.graph import Graph
from onceforall.supernets.conversion import elastic
from onceforall.supernets.importance import IMPORTANCES, rank_units, reorder_units, unit_scores
from onceforall.supernets.sorting import sort_channels
from onceforall.supernets.supernet import Supernet
from own_small_networks import Convolutional, Transformer, images_and_labels


def shaken(model: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics and scales that differ everywhere."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.double().state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                tensor.copy_(0.5 + noise.abs() if "running_var" in name else tensor + 0.1 * noise)
    return model.eval()


def made(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return shaken(kind())


MODELS = {
    "convolutional": lambda: made(Convolutional),
    "transformer": lambda: made(Transformer),
    "shufflenet": lambda: made(lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5)),  # type: ignore[arg-type]
    "swin": lambda: made(
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 4], [2, 2], num_classes=5)  # type: ignore[arg-type]
    ),
    "regnet": lambda: made(lambda: torchvision.models.regnet_y_400mf(num_classes=5)),  # type: ignore[arg-type]
}


def graph_of(supernet: Supernet) -> Graph:
    return Graph.from_json(supernet.space.arguments["graph"])


def elastic_groups(supernet: Supernet) -> dict[int, int]:
    graph = graph_of(supernet)
    return {group: graph.groups[group].units for piece in graph.pieces for group in piece.groups if group != graph.classes}


@pytest.mark.parametrize("name", MODELS)
def test_any_order_leaves_the_largest_network_as_it_is(name: str) -> None:
    model = MODELS[name]()
    supernet = elastic(model, (32,), importance="none")
    images = images_and_labels(0)[0].double()
    generator = torch.Generator().manual_seed(1)
    groups = elastic_groups(supernet)
    assert groups
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    scores = {group: torch.rand(units, generator=generator) for group, units in groups.items()}
    for score in scores.values():
        score[0] = -1  # the first one goes to the end
    reorder_units(supernet, scores)
    found = unit_scores(supernet, "l1")
    with torch.no_grad():
        expected = model(images)
        difference = (supernet(images, supernet.space.largest()) - expected).abs().max() / expected.std()
    assert difference < 1e-12
    after = supernet.state_dict()
    graph = graph_of(supernet)
    for group in groups:  # every one was moved, its tensors hold the same entries
        own = [key for key, spec in graph.weights.items() if any(part.group == group for dim in spec.dims for part in dim)]
        assert any(not torch.equal(before[key], after[key]) for key in own)
        assert all(torch.equal(before[key].flatten().sort()[0], after[key].flatten().sort()[0]) for key in own)
    assert found.keys() == groups.keys()


@pytest.mark.parametrize("name", ["convolutional", "transformer"])
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_elastic_ranks_and_stays_equal(name: str, importance: str) -> None:
    model = MODELS[name]()
    images = images_and_labels(0)[0].double()
    supernet = elastic(model, (32,), importance=importance, images=[images, images[:4]])
    with torch.no_grad():
        expected = model(images)
        assert (supernet(images, supernet.space.largest()) - expected).abs().max() < 1e-12 * expected.std()
    for scores in unit_scores(supernet, importance, [images, images[:4]]).values():
        assert (scores[:-1] >= scores[1:] * (1 - 1e-9)).all()  # descending now


def test_scores_against_the_layers_themselves() -> None:
    model = made(Convolutional)
    block = model.blocks[1]  # type: ignore[index]
    supernet = elastic(model, (32,), importance="none")
    images = images_and_labels(0)[0].double()
    seen: list[Tensor] = []
    block.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loss = nn.functional.cross_entropy(model(images), model(images).argmax(1))
    loss.backward()
    graph = graph_of(supernet)
    middle, gate = (graph.weights[f"blocks.1.{part}.weight"].dims[1][0].group for part in ("project", "gate.expand"))

    def line(tensor: Tensor) -> Tensor:
        return tensor.sum((0, 2, 3))

    project, reduce, expand = block.project.weight, block.gate.reduce.weight, block.gate.expand.weight
    found = {name: unit_scores(supernet, name, [images]) for name in IMPORTANCES if name != "none"}
    torch.testing.assert_close(found["l1"][middle], (line(project.abs()) + line(reduce.abs())).detach())
    torch.testing.assert_close(found["l1"][gate], line(expand.abs()).detach())
    torch.testing.assert_close(found["norm"][middle], (block.norm1.weight.abs() + block.norm2.weight.abs()).detach())
    torch.testing.assert_close(found["norm"][gate], found["l1"][gate])  # no norm there
    taylor = line((project * project.grad).abs()) + line((reduce * reduce.grad).abs())
    torch.testing.assert_close(found["taylor"][middle], taylor.detach())
    squares = seen[0].square().mean((0, 2, 3)) * line(project.square())
    with torch.no_grad():  # what the gate reads, before it multiplies
        y = torch.relu(block.norm1(block.expand(model.blocks[0](model.stem(images)))))  # type: ignore[index, operator]
        pooled = nn.functional.hardswish(block.norm2(block.depthwise(y))).mean((2, 3))
        squares = squares + pooled.square().mean(0) * line(reduce.square())
    torch.testing.assert_close(found["activation"][middle], 16 * squares.detach())


def test_heads_move_as_a_whole() -> None:
    model = made(Transformer)
    supernet = elastic(model, (32,), importance="none")
    graph = graph_of(supernet)
    (group,) = {part.group for part in graph.weights["layers.0.proj.weight"].dims[1]}
    before = supernet.get_parameter("layers.0.qkv.weight").detach().clone()
    reorder_units(supernet, {group: torch.tensor([0.0, 3.0, 1.0, 2.0])})
    after = supernet.get_parameter("layers.0.qkv.weight").detach()
    assert torch.equal(after.view(3, 4, 8, 32), before.view(3, 4, 8, 32)[:, [1, 3, 2, 0]])


def test_one_line_for_what_cannot_be_ranked() -> None:
    model = made(Convolutional)
    with pytest.raises(ModelError, match=r"unknown importance 'l2': choose one of l1, norm, activation, taylor, none"):
        elastic(model, (32,), importance="l2")
    for importance in ("activation", "taylor"):
        with pytest.raises(ModelError, match=rf"importance '{importance}' is measured on images, but there are none: give images="):
            elastic(model, (32,), importance=importance)
    supernet = elastic(model, (32,))
    for wrong in (torch.zeros(2, 3, 30, 30), torch.zeros(3, 32, 32), torch.zeros(0, 3, 32, 32), "cat.jpg"):
        with pytest.raises(ModelError, match=r"images holds .*: give batches \(n, 3, r, r\), with r among 32"):
            rank_units(supernet, "taylor", [wrong])  # type: ignore[list-item]
    supernet.forget_statistics()
    with pytest.raises(StatisticsError):
        rank_units(supernet, "taylor", [images_and_labels(0)[0].double()])


def test_without_running_statistics_activations_go_by_those_of_the_batch() -> None:
    supernet, images = elastic(made(Convolutional), (32,), importance="none"), images_and_labels(0, count=64)[0].double()
    plain = unit_scores(supernet, "activation", [images])
    network = supernet.extract(supernet.space.largest())
    recalibrated = recalibrate(network, [images]).network.state_dict()
    with torch.no_grad():
        for name, buffer in supernet.named_buffers():
            buffer.copy_(recalibrated[name])
    expected = unit_scores(supernet, "activation", [images])
    supernet.forget_statistics()
    found = unit_scores(supernet, "activation", [images])
    for group, scores in found.items():
        torch.testing.assert_close(scores, expected[group], rtol=0.05, atol=1e-6)  # the running variance is the unbiased one
    assert any(not torch.allclose(scores, plain[group], rtol=0.2) for group, scores in found.items())


def test_narrower_networks_come_closer_to_the_largest() -> None:
    """Where some channels of every block matter most, those that keep these compute nearly what the largest does."""
    model = made(Transformer)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("fc2.weight", "proj.weight")):
                units = torch.rand(4 if "proj" in name else weight.shape[1], generator=generator).double().pow(6)
                weight *= units.repeat_interleave(weight.shape[1] // len(units))
    images = images_and_labels(0)[0].double()
    distances = {}
    for importance in ("none", "l1", "activation", "taylor"):
        supernet = elastic(model, (32,), widths=(0.5,), depths=(), importance=importance, images=[images])
        with torch.no_grad():
            narrow, largest = (supernet(images, arch) for arch in (supernet.space.smallest(), supernet.space.largest()))
        distances[importance] = float((narrow - largest).norm())
    assert max(distances["l1"], distances["activation"], distances["taylor"]) < 0.5 * distances["none"]


@pytest.mark.parametrize("name", ["convolutional", "transformer"])
@pytest.mark.parametrize("trained", [0, 1, 2, 3])
@pytest.mark.parametrize("seen", [True, False])
def test_sorting_between_phases_keeps_what_is_trained(name: str, trained: int, seen: bool) -> None:
    supernet = elastic(MODELS[name](), (32,), importance="none").train()
    space = supernet.space
    kept = [space.keep_largest(expand_ratios=n, heads=n).smallest() for n in range(1, trained + 1)]
    images = images_and_labels(0)[0].double()
    start = {key: value.detach().clone() for key, value in supernet.named_parameters()}
    along = {key: value.clone() for key, value in start.items()}
    with torch.no_grad():
        before = [supernet(images, arch) for arch in [space.largest(), *kept]]
        sort_channels(supernet, trained, along=along, images=(lambda: images) if seen else None)
        for arch, logits in zip([space.largest(), *kept], before, strict=True):
            torch.testing.assert_close(supernet(images, arch), logits, rtol=1e-9, atol=1e-10)
    moved = dict(supernet.named_parameters())
    assert any(not torch.equal(start[key], moved[key]) for key in start)
    assert all(torch.equal(along[key], moved[key]) for key in moved)
    scores = unit_scores(supernet, None, [images] if seen else None)
    descending = [bool((own[:-1] >= own[1:] * (1 - 1e-9)).all()) for own in scores.values()]
    assert all(descending) if trained <= 1 else not all(descending)


class Buffered(nn.Module):
    """What reads the hidden channels is no parameter."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Conv2d(3, 32, 3), nn.Linear(8, 4)
        self.register_buffer("weight", torch.randn(8, 32, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.conv2d(self.wide(x).relu(), self.weight).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("importance", ["activation", "taylor"])
def test_images_that_are_no_squares_and_weights_that_are_no_parameters(importance: str) -> None:
    torch.manual_seed(0)
    model, images = Buffered().eval(), torch.randn(2, 3, 16, 24)
    supernet = elastic(model, ("16x24",), importance=importance, images=images)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, supernet.space.largest()), model(images))
