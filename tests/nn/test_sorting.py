"""Channel sorting against a slow reference that moves one channel at a time, for what it promises in OFA, section 3.3."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from onceforall import Space, Supernet
from onceforall.spaces import space as make_space
from onceforall.supernets.sorting import sort_channels

SPACE = make_space(
    "mobilenet_v3",
    width=0.3,
    resolutions=(20, 24),
    depths=(1, 2),
    kernels=(3, 5, 7),
    expand_ratios=(2, 3, 4.5, 6),
    strides=(1, 1, 2, 2, 2, 1, 1),
)
CLASSES = 6
NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture
def supernet() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Supernet(SPACE, CLASSES)
        with torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                tensor += 0.1 * torch.randn_like(tensor)
            for norm in net.norms():
                norm.running_var.abs_().add_(0.5)
    return net.train()


def blocks(space: Space) -> Iterator[str]:
    for stage, choices in enumerate(space.stages):
        for block in range(choices.depths[-1]):
            yield f"stages.{stage}.{block}"


def parts(net: Supernet, block: str) -> dict[str, Tensor]:
    prefix = f"{block}."
    return {name.removeprefix(prefix): value for name, value in net.state_dict().items() if name.startswith(prefix)}


def widths(net: Supernet, block: str, ratio: float) -> tuple[int, int]:
    """Middle width and width of squeeze-and-excitation (0 if there is none) of a block at an expand ratio."""
    kept = net.space.restrict(expand_ratios=(ratio,))
    plan = kept.lower(kept.largest(), CLASSES)
    ops = {op.name: op for segment in plan.segments if segment.name == block for op in segment.ops}
    return ops["depthwise.conv"].shape[0], ops["se.reduce"].shape[0] if "se.reduce" in ops else 0


def reference(net: Supernet, block: str, trained: int) -> dict[str, Tensor]:
    """The block's tensors as they should be, sorted channel by channel."""
    old = parts(net, block)
    new = {name: value.clone() for name, value in old.items()}
    ratios = sorted(net.space.stages[0].expand_ratios, reverse=True)
    sizes = [widths(net, block, ratio) for ratio in ratios]
    follow = [  # tensors whose entries along a dimension are the channels
        ("expand.conv.weight", 0), ("depthwise.conv.weight", 0), ("se.expand.weight", 0), ("se.expand.bias", 0),
        ("project.conv.weight", 1), ("se.reduce.weight", 1),
        *((f"expand.norm.{name}", 0) for name in NORM), *((f"depthwise.norm.{name}", 0) for name in NORM),
    ]  # fmt: skip
    squeezed = [("se.reduce.weight", 0), ("se.reduce.bias", 0), ("se.expand.weight", 1)]
    for which, tied, reader in ((0, follow, "project.conv.weight"), (1, squeezed, "se.expand.weight")):
        if reader not in old:
            continue
        importance = [float(old[reader][:, c].abs().double().sum()) for c in range(sizes[0][which])]
        edges = sorted({0, *(size[which] for size in sizes[:trained]), sizes[0][which]})
        order: list[int] = []
        for low, high in pairwise(edges):
            order += sorted(range(low, high), key=lambda c: -importance[c])
        for name, dimension in tied:
            if name in old:
                before = new[name].clone()
                for place, channel in enumerate(order):
                    new[name].select(dimension, place).copy_(before.select(dimension, channel))
    return new


@pytest.mark.parametrize("trained", [0, 1, 2, 3])
def test_against_the_reference(supernet: Supernet, trained: int) -> None:
    expected = {block: reference(supernet, block, trained) for block in blocks(SPACE)}
    sort_channels(supernet, trained)
    for block, tensors in expected.items():
        found = parts(supernet, block)
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(found[name], value), f"{block}.{name}"


@pytest.mark.parametrize("trained", [0, 1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_the_largest_network_computes_the_same(supernet: Supernet, trained: int, training: bool) -> None:
    supernet.double().train(training)
    images = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    archs = [SPACE.largest(24), SPACE.restrict(expand_ratios=(6,)).smallest(24)]  # any depth and kernel of the widest
    with torch.no_grad():
        before = [supernet(images, arch) for arch in archs]
        sort_channels(supernet, trained)
        for arch, logits in zip(archs, before, strict=True):
            torch.testing.assert_close(supernet(images, arch), logits, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("trained", [2, 3])
def test_networks_trained_before_compute_the_same(supernet: Supernet, trained: int) -> None:
    supernet.double()
    images = torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for ratio in sorted(SPACE.stages[0].expand_ratios)[-trained:]:
        arch = SPACE.restrict(expand_ratios=(ratio,)).largest(20)
        with torch.no_grad():
            before = supernet(images, arch)
            sort_channels(supernet, trained)
            torch.testing.assert_close(supernet(images, arch), before, rtol=1e-9, atol=1e-10)


def test_importance_descends_within_the_widths(supernet: Supernet) -> None:
    sort_channels(supernet, 1)
    for block in blocks(SPACE):
        importance = parts(supernet, block)["project.conv.weight"].double().abs().sum((0, 2, 3))
        assert (importance[:-1] >= importance[1:]).all()
    ranked = {block: parts(supernet, block)["project.conv.weight"].clone() for block in blocks(SPACE)}
    with torch.no_grad():
        for block in blocks(SPACE):
            weight = supernet.get_parameter(f"{block}.project.conv.weight")
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    changed = {block: parts(supernet, block)["project.conv.weight"].clone() for block in blocks(SPACE)}
    sort_channels(supernet, 2)
    moved = 0
    for block in blocks(SPACE):
        found = parts(supernet, block)["project.conv.weight"]
        edge, _ = widths(supernet, block, 4.5)
        importance = found.double().abs().sum((0, 2, 3))
        for low, high in ((0, edge), (edge, len(importance))):
            assert (importance[low : high - 1] >= importance[low + 1 : high]).all()
            assert channels(found[:, low:high]) == channels(changed[block][:, low:high])  # the same set of channels
        moved += not torch.equal(found, changed[block])
        assert found.shape == ranked[block].shape
    assert moved


def channels(weight: Tensor) -> set[tuple[float, ...]]:
    return {tuple(weight[:, c].flatten().tolist()) for c in range(weight.shape[1])}


def test_all_else_is_untouched(supernet: Supernet) -> None:
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    sort_channels(supernet, 1)
    changed = {name for name, value in supernet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("stages.", "head.")) for name in changed)
    assert not any("matrix" in name or name.endswith(("project.norm.weight", "project.norm.bias")) for name in changed)
    assert any("se.reduce" in name for name in changed)


def test_sorting_twice_is_sorting_once(supernet: Supernet) -> None:
    sort_channels(supernet, 1)
    once = {name: value.clone() for name, value in supernet.state_dict().items()}
    sort_channels(supernet, 1)
    assert all(torch.equal(value, once[name]) for name, value in supernet.state_dict().items())


def test_equal_importance_keeps_the_order() -> None:
    net = Supernet(SPACE, CLASSES)
    with torch.no_grad():
        for name in ("mix.conv", "classifier"):
            net.get_parameter(f"head.{name}.weight").fill_(0.5)
        for block in blocks(SPACE):
            for name in ("project.conv", "se.expand"):
                if f"{name}.weight" in parts(net, block):
                    net.get_parameter(f"{block}.{name}.weight").fill_(0.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sort_channels(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def seeded(space: Space) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Supernet(space, 3)


def test_every_kind_of_space(small_space: Space) -> None:
    net = seeded(small_space).double().train()
    arch = small_space.largest()
    images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        before = net(images, arch)
        sort_channels(net, 1)
        torch.testing.assert_close(net(images, arch), before, rtol=1e-8, atol=1e-9)


def test_narrower_networks_come_closer_to_the_largest_in_every_kind_of_space(small_space: Space) -> None:
    """Where a few channels of each middle matter most, narrow networks that keep these compute nearly what the largest does."""
    net, generator = seeded(small_space).double().train(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith(("project.conv.weight", "spatial.conv.weight", "expand.conv.weight")):
                weight *= torch.rand(weight.shape[1], generator=generator, dtype=torch.float64).pow(8)[:, None, None]
    largest = small_space.largest()
    narrow = small_space.keep_largest(widths=1, depths=1, kernels=1).smallest(largest.resolution)
    images = torch.randn(4, 3, largest.resolution, largest.resolution, generator=generator, dtype=torch.float64)
    distances = []
    with torch.no_grad():
        for _ in range(2):
            distances.append((net(images, narrow) - net(images, largest)).norm())
            sort_channels(net, 1)
    assert distances[1] < distances[0] or narrow == largest


@pytest.mark.parametrize("trained", [1, 2])
def test_networks_trained_before_compute_the_same_in_every_kind_of_space(small_space: Space, trained: int) -> None:
    net = seeded(small_space).double().train()
    archs = [small_space.keep_largest(widths=1, expand_ratios=number).smallest() for number in range(1, trained + 1)]
    size = archs[0].resolution
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        before = [net(images, arch) for arch in archs]
        sort_channels(net, trained)
        for arch, logits in zip(archs, before, strict=True):
            torch.testing.assert_close(net(images, arch), logits, rtol=1e-8, atol=1e-9)
