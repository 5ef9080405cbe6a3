"""What the strategies draw, in every space and every phase; which of several candidates is trained."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import onceforall
import tiny_training
from onceforall import Space
from onceforall.train import SCHEMES, STRATEGIES, Recipe
from onceforall.train.step import choose_subnets
from onceforall.train.strategies import Groups
from small_spaces import SPACES
from tiny_training import batches, fresh

ALL = {**SPACES, "tiny": tiny_training.SPACE}
SEEDS = st.integers(0, 10**6)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def macs(space: Space, groups: Groups) -> list[list[int]]:
    return [[space.lower(arch, 1).macs for arch in group] for group in groups]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("where", ALL)
def test_inside_the_space_of_each_phase(name: str, where: str) -> None:
    for scheme in ("progressive_shrinking", "coupled", "delayed_shrinking"):
        for p, phase in enumerate(SCHEMES[scheme](ALL[where], steps=100, rate=1.0, recipe=Recipe()).phases):
            space = ALL[where].keep_largest(**phase.keep)
            for number in (1, 2, 5):
                groups = STRATEGIES[name](space, number, rng_of(p))
                assert len(groups) == number
                assert groups == STRATEGIES[name](space, number, rng_of(p)), "a function of its arguments"
                archs = [arch for group in groups for arch in group]
                for arch in archs:
                    space.check(arch)
                assert len({arch.resolution for arch in archs}) == 1
                assert name == "best_up" or all(len(group) == 1 for group in groups)


# -- all sizes -------------------------------------------------------------------------------------------------------------


def test_all_sizes_are_drawn_as_often() -> None:
    space = onceforall.space("mobilenet_v3", resolutions=(64, 96))
    shares = {}
    for name in ("uniform", "all_sizes"):
        archs = [arch for (arch,) in STRATEGIES[name](space, 2000, rng_of(0))]
        largest, smallest = (space.lower(end(archs[0].resolution), 1).macs for end in (space.largest, space.smallest))
        place = [(space.lower(arch, 1).macs - smallest) / (largest - smallest) for arch in archs]
        shares[name] = [sum(low <= p < low + 0.2 for p in place) / len(place) for low in (0, 0.2, 0.4, 0.6, 0.8)]
        means = [np.mean([c.kernel for arch in archs for stage in arch.stages for c in stage.blocks])]
        assert means[0] == pytest.approx(5, abs=0.25)  # of 3, 5, 7: no choice is preferred
    assert min(shares["all_sizes"]) > 0.1
    assert max(shares["uniform"][0], shares["uniform"][4]) < 0.05
    assert {arch.resolution for seed in range(20) for (arch,) in STRATEGIES["all_sizes"](space, 1, rng_of(seed))} == {64, 96}


# -- best-up ---------------------------------------------------------------------------------------------------------------


@given(where=st.sampled_from(sorted(ALL)), number=st.integers(1, 5), seed=SEEDS)
def test_best_up(where: str, number: int, seed: int) -> None:
    """Ends first; the candidates of a group have about the same MACs, and are different networks where there are enough."""
    space = ALL[where]
    groups = STRATEGIES["best_up"](space, number, rng_of(seed))
    resolution = groups[0][0].resolution
    assert groups[:2] == [(space.largest(resolution),), (space.smallest(resolution),)][:number]
    smallest, largest = (space.lower(end(resolution), 1).macs for end in (space.smallest, space.largest))
    for group, own in zip(groups[2:], macs(space, groups[2:]), strict=True):
        assert len(set(group)) == len(group)
        assert len(group) == (1 if where == "single" else 3)
        assert smallest <= min(own) <= max(own) <= largest
        assert max(own) - min(own) <= 0.35 * (largest - smallest), "few are so small or so large"


@pytest.mark.parametrize("where", ["default", "proxyless", "resnet", "tiny"])
def test_best_up_targets_are_uniform_in_macs(where: str) -> None:
    space, rng = ALL[where], rng_of(1)
    shares = []
    spreads = []
    for _ in range(150):
        ends, groups = (groups := macs(space, STRATEGIES["best_up"](space, 4, rng)))[:2], groups[2:]
        (high,), (low,) = ends
        shares += [(np.mean(group) - low) / (high - low) for group in groups]
        spreads += [(max(group) - min(group)) / (high - low) for group in groups]
    assert np.median(spreads) < 0.04
    found = np.quantile(shares, (0.1, 0.25, 0.5, 0.75, 0.9))
    assert found == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9], abs=0.1)


# -- coupled ---------------------------------------------------------------------------------------------------------------


def test_coupled_networks_are_243() -> None:
    """CompOFA: depths 2, 3, 4 with ratios 3, 4, 6 in five stages, for one kernel and resolution."""
    space = onceforall.space("mobilenet_v3", kernels=(3,), resolutions=(224,))
    rng = rng_of(0)
    drawn = [arch for _ in range(1000) for (arch,) in STRATEGIES["coupled"](space, 4, rng)]
    assert len(set(drawn)) == 3**5
    pairs = {(stage.depth, block.expand_ratio) for arch in drawn for stage in arch.stages for block in stage.blocks}
    assert pairs == {(2, 3), (3, 4), (4, 6)}
    counts = np.unique([hash(arch) for arch in drawn], return_counts=True)[1]
    assert counts.max() < 45, "each as often as another: 16 times on average"
    elastic = onceforall.space("mobilenet_v3")
    kernels = {b.kernel for (arch,) in STRATEGIES["coupled"](elastic, 50, rng) for stage in arch.stages for b in stage.blocks}
    assert kernels == {3, 5, 7}
    assert any(
        len({b.kernel for b in stage.blocks}) > 1 for (arch,) in STRATEGIES["coupled"](elastic, 9, rng) for stage in arch.stages
    )


@pytest.mark.parametrize("where", ALL)
def test_coupled_goes_from_the_smallest_to_the_largest(where: str) -> None:
    """A deeper stage never has a smaller ratio; one ratio a stage; the ends belong together."""
    space, rng = ALL[where], rng_of(2)
    drawn = [arch for _ in range(250) for (arch,) in STRATEGIES["coupled"](space, 2, rng)]
    for s, choices in enumerate(space.stages):
        found = sorted({(arch.stages[s].depth, *{b.expand_ratio for b in arch.stages[s].blocks}) for arch in drawn})
        assert all(len(pair) == 2 for pair in found)
        if len(choices.depths) > 1:
            assert found[0] == (choices.depths[0], choices.expand_ratios[0])
            assert found[-1] == (choices.depths[-1], choices.expand_ratios[-1])
            assert len(found) == len(choices.depths)
            assert all(a[1] <= b[1] for a, b in pairwise(found))
        else:
            assert {ratio for _, ratio in found} == set(choices.expand_ratios)
        assert {arch.stages[s].width for arch in drawn} == set(choices.widths)
    assert {arch.resolution for arch in drawn} == set(space.resolutions)


# -- the choice between candidates -----------------------------------------------------------------------------------------


def loss_by_hand(logits: Tensor, labels: Tensor) -> float:
    rows = logits.double().tolist()
    return -math.fsum(
        row[label] - math.log(math.fsum(math.exp(value) for value in row)) for row, label in zip(rows, labels.tolist(), strict=True)
    )


def test_choose_takes_the_lowest_loss() -> None:
    space, rng, net = tiny_training.SPACE, rng_of(5), fresh().train()
    with torch.no_grad():
        net.get_parameter("head.classifier.weight").mul_(200)
    images, labels = batches(0, 12)
    groups = STRATEGIES["best_up"](space, 8, rng)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(5)
    chosen = choose_subnets(net, groups, (images, labels))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3)), "no random numbers are used"
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert net.training
    positions = []
    for group, arch in zip(groups, chosen, strict=True):
        with torch.no_grad():
            losses = [loss_by_hand(net.extract(a)(images), labels) for a in group]
        assert arch == group[int(np.argmin(losses))]
        positions.append(group.index(arch))
    assert len(set(positions[2:])) > 1


def test_choose_is_asked_of_the_mean_over_processes() -> None:
    groups = [tuple(tiny_training.SPACE.sample(rng_of(i)) for i in range(3))]
    images, labels = batches(0, 12)
    for wanted in range(3):
        marked = torch.tensor([float(i != wanted) for i in range(3)])
        assert choose_subnets(fresh().train(), groups, (images, labels), mean=lambda losses, m=marked: m) == [groups[0][wanted]]  # type: ignore[misc]
