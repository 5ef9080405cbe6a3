"""ResNet-50-D: the facts of the reference note, widths that round to one, and every bad argument."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall import Supernet, spaces
from onceforall.errors import SpaceError
from onceforall.nn.static import build
from onceforall.ops import Activation, Add, Conv, Norm, Pool
from onceforall.plan import Plan
from onceforall.train import Recipe, progressive_shrinking

SPACE = onceforall.space("resnet50d")
STEM = onceforall.space("resnet50d", resolutions=(160,), width_multipliers=(1,), depths=(0,), expand_ratios=(0.25,))


def test_widths() -> None:
    assert [stage.width for stage in SPACE.largest().stages] == [32, 64, 256, 512, 1024, 2048]
    assert [c.widths for c in SPACE.stages] == [
        (24, 32), (40, 48, 64), (168, 208, 256), (336, 408, 512), (664, 816, 1024), (1328, 1640, 2048),
    ]  # fmt: skip


def test_default_choices() -> None:
    assert SPACE.resolutions == tuple(range(128, 225, 4))
    assert [c.depths for c in SPACE.stages] == [(1, 2), (1,), (2, 3, 4), (2, 3, 4), (4, 5, 6), (2, 3, 4)]
    assert [c.expand_ratios for c in SPACE.stages] == [(1,)] * 2 + [(0.2, 0.25, 0.35)] * 4
    assert {c.kernels for c in SPACE.stages} == {(3,)}


def test_count() -> None:
    stem, out, count = 2 * 2, 3, 25
    for depths in ((2, 3, 4), (2, 3, 4), (4, 5, 6), (2, 3, 4)):
        count *= 3 * sum(3**depth for depth in depths)
    assert SPACE.count() == stem * out * count


def test_18_bottlenecks_at_most_and_10_at_least() -> None:
    for arch, blocks, stem in ((SPACE.largest(), 18, 3), (SPACE.smallest(), 10, 2)):
        names = [segment.name for segment in SPACE.lower(arch).segments]
        assert len([name for name in names if name.startswith(("stages.0", "stages.1"))]) == stem
        assert len(names) == stem + blocks + 1


def by_hand(resolution: int) -> tuple[int, int]:
    """MACs and parameters of the largest network, counted anew from the reference note's list by plain arithmetic."""
    size = (resolution - 1) // 2 + 1
    macs = size**2 * 9 * (3 * 32 + 32 * 32 + 32 * 64)
    params = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64)
    size, before = (size - 1) // 2 + 1, 64
    for width, middle, blocks, stride in ((256, 88, 4, 1), (512, 176, 4, 2), (1024, 360, 6, 2), (2048, 720, 4, 2)):
        for block in range(blocks):
            macs += size**2 * before * middle
            size = (size - 1) // (stride if block == 0 else 1) + 1
            macs += size**2 * (9 * middle * middle + middle * width)
            params += before * middle + 9 * middle * middle + middle * width + 2 * (middle + middle + width)
            if block == 0:
                macs += size**2 * before * width
                params += before * width + 2 * width
            before = width
    return macs + 2048 * 1000, params + 2048 * 1000 + 1000


@pytest.mark.parametrize("resolution", [128, 132, 196, 224])
def test_largest_network(resolution: int) -> None:
    plan = SPACE.lower(SPACE.largest(resolution))
    assert (plan.macs, plan.params) == by_hand(resolution)
    assert plan.params == 48_105_992


def test_the_supernet_has_the_parameters_of_its_largest_network() -> None:
    with torch.device("meta"):
        supernet = Supernet(SPACE, 1000)
    assert sum(p.numel() for p in supernet.parameters()) == 48_105_992


def test_torch_counts_the_same() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACE.largest(), SPACE.smallest(), *(SPACE.sample(rng) for _ in range(3))):
        plan = SPACE.lower(arch)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = build(plan).eval()
            network(torch.empty(1, 3, arch.resolution, arch.resolution))
        assert counter.get_total_flops() == 2 * plan.macs
        assert sum(p.numel() for p in network.parameters()) == plan.params


def test_activations_norms_and_shortcuts() -> None:
    for segment in SPACE.lower(SPACE.largest()).segments:
        stage, block = segment.name.split(".")[1:] if segment.name != "head" else ("head", "")
        assert {op.eps for op in segment.ops if isinstance(op, Norm)} <= {1e-5}
        functions = [op.function for op in segment.ops if isinstance(op, Activation)]
        added = [op.inputs for op in segment.ops if isinstance(op, Add)]
        convs = [op.name for op in segment.ops if isinstance(op, Conv)]
        assert set(functions) <= {"relu"}
        if stage in "2345":
            shortcut = "shortcut.norm" if block == "0" else "in"
            assert added == [(shortcut, "expand.norm")]
            assert type(segment.ops[-1]) is Activation, "after the sum"
            assert len(functions) == 3
            assert ("shortcut.conv" in convs) == (block == "0")
        else:
            assert len(added) == (segment.name == "stages.0.1")
            assert len(functions) == len(convs)


def test_the_stride_is_in_the_spatial_convolution_and_in_the_mean_before_the_shortcut() -> None:
    for stage, stride in ((2, 1), (3, 2), (4, 2), (5, 2)):
        (segment,) = SPACE.lower(SPACE.largest()).piece(f"stages.{stage}.0").segments
        strides = {op.name: op.stride for op in segment.ops if isinstance(op, Conv)}
        assert strides == {"reduce.conv": 1, "spatial.conv": stride, "expand.conv": 1, "shortcut.conv": 1}
        pools = [(op.function, op.kernel, op.stride) for op in segment.ops if isinstance(op, Pool)]
        assert pools == ([("mean", 2, 2)] if stride == 2 else [])


def test_the_mean_over_windows_at_the_edge_counts_only_what_is_there() -> None:
    (segment,) = SPACE.restrict(resolutions=(200,)).lower(SPACE.largest(200)).piece("stages.5.0").segments
    pool = next(op for op in segment.ops if isinstance(op, Pool))
    assert segment.in_shape[1:] == (13, 13)
    assert pool.shape[1:] == (7, 7)
    x = torch.arange(13 * 13.0).reshape(1, 1, 13, 13)
    windows = [[x[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(7)] for i in range(7)]
    alone = Plan((type(segment)("pool", (1, 13, 13), (Pool("shortcut.pool", ("in",), (1, 7, 7), "mean", 2, 2),)),))
    assert torch.equal(build(alone)(x)[0, 0], torch.tensor(windows))


def test_the_stem_convolution_may_be_left_out() -> None:
    whole, bare = STEM.lower(STEM.largest()), STEM.lower(STEM.smallest())
    assert [s.name for s in whole.segments if s not in bare.segments] == ["stages.0.1"]
    assert whole.params - bare.params == 32 * 32 * 9 + 2 * 32
    assert whole.macs - bare.macs == 80 * 80 * 32 * 32 * 9


def test_strides_for_small_images() -> None:
    space = onceforall.space("resnet50d", resolutions=(33,), strides=(1, 1, 1, 2, 2, 2))
    plan = space.lower(space.largest())
    sizes = {segment.name: segment.out_shape[1] for segment in plan.segments if segment.name.endswith(".0")}
    assert list(sizes.values()) == [33, 33, 33, 17, 9, 5]
    assert not any(isinstance(op, Pool) and op.function == "max" for op in plan.ops), "a stride of 1 leaves out the max pool"
    strided = onceforall.space("resnet50d", resolutions=(33,), strides=(1, 3, 1, 2, 2, 2))
    assert strided.lower(strided.largest()).piece("stages.1.0").output_shape == (64, 11, 11)


def test_multipliers_that_round_to_one_width_count_once() -> None:
    space = onceforall.space("resnet50d", width=0.125, width_multipliers=(0.9, 0.95, 1))
    assert [c.widths for c in space.stages] == [(8,), (8,), (32,), (56, 64), (112, 120, 128), (232, 240, 256)]
    matrix = space.sample_genes(np.random.default_rng(0), 50)
    assert (space.genes(space.archs(matrix)) == matrix).all()


def test_larger_than_the_original() -> None:
    space = onceforall.space("resnet50d", width=1.5, width_multipliers=(1, 2), depths=(0, 3), expand_ratios=(0.25, 1))
    assert [stage.width for stage in space.largest().stages] == [96, 192, 768, 1536, 3072, 6144]
    assert space.largest().depths == (2, 1, 5, 5, 7, 5)


def test_parts() -> None:
    part = SPACE.restrict(widths=(64, 208, 256), depths=(2,), expand_ratios=(0.25,), resolutions=(160,))
    assert [c.widths for c in part.stages] == [(24, 32), (64,), (208, 256), *(c.widths for c in SPACE.stages[3:])]
    assert [c.depths for c in part.stages] == [(2,), (1,), (2,), (2,), (4, 5, 6), (2,)]
    assert [c.expand_ratios for c in part.stages] == [(1,)] * 2 + [(0.25,)] * 4
    assert spaces.from_json(part.to_json()) == part
    kept = SPACE.keep_largest(widths=1, depths=1, expand_ratios=1)
    assert kept.count() == 25
    assert kept.largest() == SPACE.largest()
    assert [c.widths for c in SPACE.keep_largest(widths=2).stages][:3] == [(24, 32), (48, 64), (208, 256)]


def test_progressive_shrinking_opens_depths_then_ratios_then_widths() -> None:
    phases = progressive_shrinking(SPACE, steps=1000, rate=1.0, recipe=Recipe()).phases
    assert [phase.name for phase in phases] == ["largest", "depth-2", "depth-3", "expand-2", "expand-3", "width-2", "width-3"]
    parts = [SPACE.keep_largest(**phase.keep) for phase in phases]
    assert [part.stages[4].depths for part in parts] == [(6,), (5, 6), *[(4, 5, 6)] * 5]
    assert [part.stages[0].depths for part in parts] == [(2,), *[(1, 2)] * 6]
    assert [part.stages[2].expand_ratios for part in parts] == [(0.35,)] * 3 + [(0.25, 0.35)] + [(0.2, 0.25, 0.35)] * 3
    assert [part.stages[1].widths for part in parts] == [(64,)] * 5 + [(48, 64), (40, 48, 64)]
    assert [phase.sort for phase in phases] == [None, None, None, 1, 2, None, None]
    assert parts[-1] == SPACE
    counts = [part.count() for part in parts]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": [3]}, "resnet50d has no argument 'kernels': choose from width, resolutions, width_multipliers, depths, .*"),
        ({"width": 0}, "width is 0: it must be a number above 0 and at most 100"),
        ({"width": [1.0]}, r"width is \[1.0\]: it must be a number"),
        ({"resolutions": [4]}, "resolutions holds 4: each must be a whole number from 8"),
        ({"width_multipliers": []}, r"width_multipliers is \[\]: it must be a sequence of at least one number"),
        ({"width_multipliers": 1}, "width_multipliers is 1: it must be a sequence of numbers"),
        ({"width_multipliers": [0, 1]}, "width_multipliers holds 0: each must be a number from 0.01"),
        ({"width_multipliers": [1, 1.0]}, r"width_multipliers is \(1, 1\): a value is repeated"),
        ({"depths": [-1]}, "depths holds -1: each must be a whole number from 0"),
        ({"depths": [0.5]}, "depths holds 0.5: each must be a whole number from 0"),
        ({"expand_ratios": [0]}, "expand_ratios holds 0: each must be a number from 0.01"),
        ({"expand_ratios": ["0.2"]}, r"expand_ratios is \['0.2'\]: it must be a sequence of numbers"),
        ({"strides": [2, 2, 1, 2, 2]}, "strides has 5 values, it must have 6"),
        ({"strides": [2, 2, 1, 2, 2, 0]}, "strides holds 0: each must be a whole number from 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        onceforall.space("resnet50d", **arguments)
    with pytest.raises(SpaceError, match=message):
        spaces.from_json(json.dumps({"format": "onceforall.space/1", "family": "resnet50d", "arguments": arguments}))
