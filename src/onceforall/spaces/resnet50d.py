"""The ResNet-50-D family of Once-for-All: elastic width, depth and bottleneck ratio, and an optional stem convolution.

Stages 0 and 1 are the stem: 3×3 convolutions to its middle width (an optional second one, with a shortcut, is the elastic depth),
then one to its output width and a max pool. Stages 2 to 5 are bottlenecks. Head: average pool, linear classifier.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..arch import Arch
from ..ops import Add, Dropout, Flatten, GlobalPool, Linear, Pool, Shape
from ..plan import Plan, Segment
from ..resolutions import Resolution, height_width
from ..space import Choices, Space
from .blocks import bottleneck_block, conv_norm_act, make_divisible
from .checks import choices, input_channels, positive, sizes

STEM_WIDTH = 64
STAGE_WIDTHS = (256, 512, 1024, 2048)
BASE_DEPTHS = (2, 2, 4, 2)


def resnet50d(
    *,
    width: float = 1.0,
    resolutions: Sequence[Resolution] = tuple(range(128, 225, 4)),
    width_multipliers: Sequence[float] = (0.65, 0.8, 1),
    depths: Sequence[int] = (0, 1, 2),
    expand_ratios: Sequence[float] = (0.2, 0.25, 0.35),
    strides: Sequence[int] = (2, 2, 1, 2, 2, 2),
    channels: int = 3,
) -> Space:
    """ResNet-50-D with elastic resolution, width, depth and bottleneck ratio.

    Args:
        width: multiplier of every width, for networks smaller or larger than the original; results are rounded to multiples of 8.
        resolutions: input sizes in pixels; "HEIGHTxWIDTH" if not square.
        width_multipliers: choices for the width of every stage, as multiples of its full width. Multipliers that round to the same
            width count once.
        depths: bottlenecks of a stage beyond its minimum of 2, 2, 4 and 2.
        expand_ratios: middle width of a bottleneck over its output width.
        strides: of the first convolution, the max pool (1 omits it) and the four stages. The default divides the resolution by
            32; for images of 28 to 96 pixels use smaller ones, e.g. (1, 1, 1, 2, 2, 2).
        channels: channels of the images: 3 for color, 1 for gray.

    Raises:
        SpaceError: an argument that does not describe a space.
    """
    positive("width", width)
    arguments = {
        "width": float(width),
        "resolutions": sizes(resolutions, at_least=8),
        "width_multipliers": choices("width_multipliers", width_multipliers, at_least=0.01),
        "depths": choices("depths", depths, whole=True, at_least=0),
        "expand_ratios": choices("expand_ratios", expand_ratios, at_least=0.01),
        "strides": choices("strides", strides, whole=True, at_least=1, length=6, ordered=False),
        **input_channels(channels),
    }
    depths_of = [(1, 2), (1,), *(tuple(base + d for d in arguments["depths"]) for base in BASE_DEPTHS)]
    ratios_of = [(1,)] * 2 + [arguments["expand_ratios"]] * 4
    stages = tuple(
        Choices(tuple(sorted(set(widths))), stage_depths, (3,), ratios)
        for widths, stage_depths, ratios in zip(stage_widths(arguments), depths_of, ratios_of, strict=True)
    )
    return Space("resnet50d", arguments, arguments["resolutions"], stages, partial(_lower, arguments["strides"], channels))


def stage_widths(arguments: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The width of each stage at each of the space's `width_multipliers`; several may round to the same width."""
    multipliers = [m * arguments["width"] for m in arguments["width_multipliers"]]
    outs = tuple(make_divisible(STEM_WIDTH * m) for m in multipliers)
    middles = tuple(make_divisible(out // 2) for out in outs)
    return [middles, outs, *(tuple(make_divisible(full * m) for m in multipliers) for full in STAGE_WIDTHS)]


def _lower(strides: Sequence[int], channels: int, arch: Arch, num_classes: int) -> Plan:
    stem, out, *stages = arch.stages
    shape: Shape = (channels, *height_width(arch.resolution))
    first = conv_norm_act("first", "in", shape, stem.width, kernel=3, stride=strides[0], activation="relu")
    segments = [Segment("stages.0.0", shape, tuple(first))]
    if stem.depth == 2:
        segments.append(_stem_residual("stages.0.1", segments[-1].out_shape))
    segments.append(_stem_out("stages.1.0", segments[-1].out_shape, out.width, strides[1]))
    for s, stage in enumerate(stages):
        for i, block in enumerate(stage.blocks):
            segments.append(
                bottleneck_block(
                    f"stages.{s + 2}.{i}",
                    segments[-1].out_shape,
                    stage.width,
                    middle=make_divisible(round(stage.width * block.expand_ratio)),
                    stride=strides[2 + s] if i == 0 else 1,
                    project=i == 0,
                )
            )
    segments.append(_head(segments[-1].out_shape, num_classes))
    return Plan(tuple(segments))


def _stem_residual(name: str, in_shape: Shape) -> Segment:
    ops = conv_norm_act("residual", "in", in_shape, in_shape[0], kernel=3, activation="relu")
    return Segment(name, in_shape, (*ops, Add("add", ("in", ops[-1].name), in_shape)))


def _stem_out(name: str, in_shape: Shape, width: int, stride: int) -> Segment:
    ops = conv_norm_act("last", "in", in_shape, width, kernel=3, activation="relu")
    if stride > 1:
        shape = (width, -(-in_shape[1] // stride), -(-in_shape[2] // stride))
        ops.append(Pool("pool", (ops[-1].name,), shape, "max", 3, stride))
    return Segment(name, in_shape, tuple(ops))


def _head(in_shape: Shape, num_classes: int) -> Segment:
    features = in_shape[0]
    return Segment(
        "head",
        in_shape,
        (
            GlobalPool("pool", ("in",), (features, 1, 1)),
            Flatten("flatten", ("pool",), (features,)),
            Dropout("dropout", ("flatten",), (features,)),
            Linear("classifier", ("dropout",), (num_classes,), features),
        ),
    )
