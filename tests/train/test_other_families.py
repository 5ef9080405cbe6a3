"""Training of what MobileNetV3 has not: elastic widths of stages, an activation after the shortcut."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import onceforall
from onceforall import Arch, Plan, Space, Supernet
from onceforall.ops import Activation, Add, Flatten, GlobalPool, Linear
from onceforall.plan import Segment
from onceforall.space import Choices
from onceforall.spaces.blocks import conv_norm_act
from onceforall.train import Recipe, Trainer, progressive_shrinking

MOBILE = onceforall.space("mobilenet_v3", width=0.25, resolutions=(16,), kernels=(3,), depths=(1,), expand_ratios=(2, 3))


@pytest.mark.parametrize(
    ("widths", "names"),
    [
        ((8,), ["largest", "expand"]),
        ((8, 16), ["largest", "expand", "width"]),
        ((8, 16, 24), ["largest", "expand", "width-2", "width-3"]),
    ],
)
def test_widths_are_opened_last(widths: tuple[int, ...], names: list[str]) -> None:
    space = replace(MOBILE, stages=(replace(MOBILE.stages[0], widths=widths), *MOBILE.stages[1:]))
    phases = progressive_shrinking(space, steps=100, rate=1.0, recipe=Recipe()).phases
    assert [phase.name for phase in phases] == names
    kept = [space.keep_largest(**phase.keep) for phase in phases]
    assert [c.stages[0].widths for c in kept] == [widths[-1:]] * 2 + [widths[-number:] for number in range(2, len(widths) + 1)]
    assert kept[0].count() == len(space.resolutions), "the first phase trains the largest network alone"
    assert kept[-1] == space


def lowering(arch: Arch, num_classes: int) -> Plan:
    """One residual block with a projection, an activation after the sum, and a head."""
    shape = (3, arch.resolution, arch.resolution)
    ops = conv_norm_act("one", "in", shape, 8, kernel=3, activation="relu")
    ops += conv_norm_act("two", ops[-1].name, ops[-1].shape, 8, kernel=3, activation=None)
    ops += conv_norm_act("short", "in", shape, 8, activation=None)
    wide = ops[-1].shape
    ops += [Add("add", ("short.norm", "two.norm"), wide), Activation("act", ("add",), wide, "relu")]
    head = (
        GlobalPool("pool", ("in",), (8, 1, 1)),
        Flatten("flatten", ("pool",), (8,)),
        Linear("out", ("flatten",), (num_classes,), 8),
    )
    return Plan((Segment("stages.0.0", shape, tuple(ops)), Segment("head", wide, head)))


def test_zero_residual_finds_the_branch(tmp_path: Path) -> None:
    supernet = Supernet(Space("residual", {}, (8,), (Choices((8,), (1,), (3,), (1,)),), lowering), 2)
    schedule = progressive_shrinking(supernet.space, steps=1, rate=1e-9, recipe=Recipe(batch_size=2, zero_residual=True))
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    Trainer(supernet, schedule, lambda step, resolution: (images, torch.tensor([0, 1])), tmp_path).run(None)
    weights = {name: supernet.get_parameter(f"stages.0.0.{name}.norm.weight") for name in ("one", "two", "short")}
    assert weights["two"].abs().max() < 1e-6
    assert min(weights["one"].min(), weights["short"].min()) > 0.99
