"""ProxylessNAS: the facts of the reference note, and every bad argument."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall import Space, Supernet, spaces
from onceforall.errors import SpaceError
from onceforall.nn.static import build
from onceforall.ops import Activation, Add, Conv, Norm, Scale

SPACE = onceforall.space("proxyless")
STAGES = ((32, 2, 4), (56, 2, 4), (104, 2, 4), (128, 1, 4), (248, 2, 4), (416, 1, 1))  # width, stride, blocks; of the largest


def widths(space: Space) -> list[int]:
    plan = space.lower(space.largest())
    stem, fixed, head = plan.segments[0], plan.segments[1], plan.segments[-1]
    mixed = [op.shape[0] for op in head.ops if isinstance(op, Conv)]
    return [stem.out_shape[0], fixed.out_shape[0], *(stage.widths[0] for stage in space.stages), *mixed]


def test_widths() -> None:
    assert widths(SPACE) == [40, 24, 32, 56, 104, 128, 248, 416, 1664]
    assert widths(onceforall.space("proxyless", width=1.0)) == [32, 16, 24, 40, 80, 96, 192, 320, 1280]


def test_default_choices() -> None:
    assert SPACE.resolutions == tuple(range(128, 225, 4))
    assert [c.depths for c in SPACE.stages] == [(2, 3, 4)] * 5 + [(1,)]
    assert {(c.kernels, c.expand_ratios) for c in SPACE.stages} == {((3, 5, 7), (3, 4, 6))}


def test_21_blocks_at_most_and_11_at_least() -> None:
    for arch, blocks in ((SPACE.largest(), 21), (SPACE.smallest(), 11)):
        assert sum(arch.depths) == blocks
        assert len(SPACE.lower(arch).segments) == 1 + 1 + blocks + 1


def test_count() -> None:
    per_stage = sum((3 * 3) ** depth for depth in (2, 3, 4))
    assert SPACE.count() == 25 * per_stage**5 * 9


def by_hand(resolution: int) -> tuple[int, int]:
    """MACs and parameters of the largest network, counted anew from the reference note's list by plain arithmetic."""
    size = (resolution - 1) // 2 + 1
    macs = size**2 * (40 * 3 * 9 + 40 * 9 + 40 * 24)
    params = 40 * 3 * 9 + 2 * 40 + 40 * 9 + 2 * 40 + 40 * 24 + 2 * 24
    before = 24
    for width, stride, blocks in STAGES:
        for block in range(blocks):
            middle = before * 6
            macs += size**2 * before * middle
            size = (size - 1) // (stride if block == 0 else 1) + 1
            macs += size**2 * middle * (49 + width)
            params += before * middle + 2 * middle + 49 * middle + 2 * middle + middle * width + 2 * width
            before = width
    return macs + size**2 * 416 * 1664 + 1664 * 1000, params + 416 * 1664 + 2 * 1664 + 1664 * 1000 + 1000


@pytest.mark.parametrize("resolution", [128, 132, 196, 224])
def test_largest_network(resolution: int) -> None:
    plan = SPACE.lower(SPACE.largest(resolution))
    assert (plan.macs, plan.params) == by_hand(resolution)
    assert plan.params == 7_942_056, "subnet_params of the reference"


def test_supernet_and_smallest_network() -> None:
    with torch.device("meta"):
        supernet = Supernet(SPACE, 1000)
    assert sum(p.numel() for p in supernet.parameters()) == 7_942_056 + 21 * (25**2 + 9**2) == 7_942_056 + 14_826
    assert SPACE.lower(SPACE.smallest()).params == 3_718_832, "subnet_params of the reference"


def test_torch_counts_the_same() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACE.largest(), SPACE.smallest(), *(SPACE.sample(rng) for _ in range(2))):
        plan = SPACE.lower(arch)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = build(plan).eval()
            network(torch.empty(1, 3, arch.resolution, arch.resolution))
        assert counter.get_total_flops() == 2 * plan.macs
        assert sum(p.numel() for p in network.parameters()) == plan.params


def test_activations_norms_and_shortcuts() -> None:
    for segment in SPACE.lower(SPACE.largest()).segments:
        assert {op.function for op in segment.ops if isinstance(op, Activation)} == {"relu6"}
        assert {op.eps for op in segment.ops if isinstance(op, Norm)} == {1e-3}
        assert not any(isinstance(op, Scale) for op in segment.ops)
        shortcut = any(isinstance(op, Add) for op in segment.ops)
        assert shortcut == (segment.name.startswith("stages.") and not segment.name.endswith(".0"))


def test_no_shortcut_around_the_fixed_block_of_any_width() -> None:
    space = onceforall.space("proxyless", width=0.1)
    fixed = space.lower(space.largest()).segments[1]
    assert fixed.in_shape == fixed.out_shape
    assert not any(isinstance(op, Add) for op in fixed.ops)


def test_norm_comes_before_the_pool_in_the_head() -> None:
    head = SPACE.lower(SPACE.largest()).segments[-1]
    assert [type(op).__name__ for op in head.ops] == ["Conv", "Norm", "Activation", "GlobalPool", "Flatten", "Dropout", "Linear"]


def test_strides_for_small_images() -> None:
    space = onceforall.space("proxyless", resolutions=(33,), strides=(1, 1, 2, 2, 1, 1, 2, 1))
    sizes = {segment.name: segment.out_shape[1] for segment in space.lower(space.largest()).segments[:-1]}
    firsts = [sizes[name] for name in ("stem", "fixed", *(f"stages.{s}.0" for s in range(6)))]
    assert firsts == [33, 33, 17, 9, 9, 9, 5, 5]


def test_parts() -> None:
    part = SPACE.restrict(kernels=(3, 7), depths=(2,), resolutions=(160,))
    assert [c.depths for c in part.stages] == [(2,)] * 5 + [(1,)], "the sixth stage offers no 2 and keeps its own"
    assert part.count() == 6 ** (2 * 5 + 1)
    assert spaces.from_json(part.to_json()) == part
    assert SPACE.restrict(depths=(1,)) == SPACE, "only the sixth stage offers 1, the others keep theirs"
    kept = SPACE.keep_largest(depths=2, kernels=1, expand_ratios=1)
    assert [c.depths for c in kept.stages] == [(3, 4)] * 5 + [(1,)]
    assert kept.count() == 25 * 2**5
    assert kept.largest() == SPACE.largest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widht": 1.0}, "proxyless has no argument 'widht': choose from width, resolutions, depths, kernels, .*"),
        ({"width": 0}, "width is 0: it must be a number above 0 and at most 100"),
        ({"width": None}, "width is None: it must be a number"),
        ({"resolutions": []}, r"resolutions is \[\]: it must be a sequence of at least one number"),
        ({"resolutions": [4]}, "resolutions holds 4: each must be a whole number from 8"),
        ({"depths": [0, 1]}, "depths holds 0: each must be a whole number from 1"),
        ({"depths": 4}, "depths is 4: it must be a sequence of numbers"),
        ({"kernels": [3, 4]}, "kernels holds 4: each must be an odd number from 1"),
        ({"expand_ratios": [1, 6]}, "expand_ratios holds 1: each must be a number from 1.01"),
        ({"expand_ratios": [3, 3.0]}, r"expand_ratios is \(3, 3\): a value is repeated"),
        ({"strides": [2, 1, 2, 2, 2, 1, 2]}, "strides has 7 values, it must have 8"),
        ({"strides": [2, 1, 2, 2, 2, 1, 2, 0]}, "strides holds 0: each must be a whole number from 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        onceforall.space("proxyless", **arguments)
    with pytest.raises(SpaceError, match=message):
        spaces.from_json(json.dumps({"format": "onceforall.space/1", "family": "proxyless", "arguments": arguments}))
