"""The MobileNetV3 family of Once-for-All (ICLR 2020): five elastic stages of inverted residual blocks.

Stem: 3×3 convolution and one fixed block. Head: 1×1 expand, average pool, 1×1 feature mix, linear classifier.
"""

from collections.abc import Sequence
from functools import partial

from ..arch import Arch
from ..ops import Activation, ActivationName, Conv, Dropout, Flatten, GlobalPool, Linear, Op, Shape
from ..plan import Plan, Segment
from ..resolutions import Resolution, height_width
from ..space import Choices, Space
from .blocks import conv_norm_act, make_divisible, mobile_block, mobile_stages
from .checks import mobile_arguments

STEM_WIDTH = 16
STAGE_WIDTHS = (24, 40, 80, 112, 160)
HEAD_WIDTHS = (960, 1280)
ACTIVATIONS: tuple[ActivationName, ...] = ("relu", "relu", "h_swish", "h_swish", "h_swish")
SQUEEZE_EXCITE = (False, True, False, True, True)


def mobilenet_v3(
    *,
    width: float = 1.0,
    resolutions: Sequence[Resolution] = tuple(range(128, 225, 4)),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    strides: Sequence[int] = (2, 1, 2, 2, 2, 1, 2),
    channels: int = 3,
) -> Space:
    """MobileNetV3 with elastic resolution, depth, kernel size and expand ratio.

    Args:
        width: multiplier of every width; results are rounded to multiples of 8.
        resolutions: input sizes in pixels; "HEIGHTxWIDTH" if not square.
        depths: blocks per stage.
        kernels: odd sizes of the depthwise convolutions.
        expand_ratios: middle width of a block over its input width, above 1.
        strides: of the first convolution, the fixed block and the five stages. The default divides the resolution by
            32; for images of 28 to 96 pixels use smaller ones, e.g. (1, 1, 2, 2, 1, 1, 2).
        channels: channels of the images: 3 for color, 1 for gray.

    Raises:
        SpaceError: an argument that does not describe a space.
    """
    arguments = mobile_arguments(
        width=width,
        resolutions=resolutions,
        depths=depths,
        kernels=kernels,
        expand_ratios=expand_ratios,
        strides=strides,
        channels=channels,
        strided=7,
    )
    stages = tuple(
        Choices((make_divisible(w * width),), arguments["depths"], arguments["kernels"], arguments["expand_ratios"])
        for w in STAGE_WIDTHS
    )
    lowering = partial(_lower, width, arguments["strides"], arguments["kernels"], channels)
    return Space("mobilenet_v3", arguments, arguments["resolutions"], stages, lowering)


def _lower(width: float, strides: Sequence[int], kernels: Sequence[int], channels: int, arch: Arch, num_classes: int) -> Plan:
    stem_width = make_divisible(STEM_WIDTH * width)
    segments = [_stem((channels, *height_width(arch.resolution)), stem_width, strides[0])]
    segments.append(
        mobile_block("fixed", segments[-1].out_shape, stem_width, middle=stem_width, kernel=3, stride=strides[1], activation="relu")
    )
    segments += mobile_stages(
        arch, segments[-1].out_shape, kernels=kernels, strides=strides[2:], activations=ACTIVATIONS, squeeze_excite=SQUEEZE_EXCITE
    )
    wide, mixed = (make_divisible(w * width) for w in HEAD_WIDTHS)
    segments.append(_head(segments[-1].out_shape, wide, mixed, num_classes))
    return Plan(tuple(segments))


def _stem(in_shape: Shape, width: int, stride: int) -> Segment:
    return Segment(
        "stem", in_shape, tuple(conv_norm_act("first", "in", in_shape, width, kernel=3, stride=stride, activation="h_swish"))
    )


def _head(in_shape: Shape, wide: int, mixed: int, num_classes: int) -> Segment:
    ops: list[Op] = conv_norm_act("expand", "in", in_shape, wide, activation="h_swish")
    ops += [
        GlobalPool("pool", (ops[-1].name,), (wide, 1, 1)),
        Conv("mix.conv", ("pool",), (mixed, 1, 1), wide),
        Activation("mix.act", ("mix.conv",), (mixed, 1, 1), "h_swish"),
        Flatten("flatten", ("mix.act",), (mixed,)),
        Dropout("dropout", ("flatten",), (mixed,)),
        Linear("classifier", ("dropout",), (num_classes,), mixed),
    ]
    return Segment("head", in_shape, tuple(ops))
