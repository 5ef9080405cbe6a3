"""The ProxylessNAS family of Once-for-All (ICLR 2020): six stages of inverted residual blocks with relu6; the last has depth 1.

Stem: 3×3 convolution and one fixed block without shortcut. Head: 1×1 feature mix, average pool, linear classifier.
"""

from collections.abc import Sequence
from functools import partial

from ..arch import Arch
from ..ops import ActivationName, Dropout, Flatten, GlobalPool, Linear, Op, Shape
from ..plan import Plan, Segment
from ..resolutions import Resolution, height_width
from ..space import Choices, Space
from .blocks import conv_norm_act, make_divisible, mobile_block, mobile_stages, without_shortcut
from .checks import mobile_arguments

STEM_WIDTHS = (32, 16)
STAGE_WIDTHS = (24, 40, 80, 96, 192, 320)
HEAD_WIDTH = 1280
ACTIVATION: ActivationName = "relu6"
EPS = 1e-3


def proxyless(
    *,
    width: float = 1.3,
    resolutions: Sequence[Resolution] = tuple(range(128, 225, 4)),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    strides: Sequence[int] = (2, 1, 2, 2, 2, 1, 2, 1),
    channels: int = 3,
) -> Space:
    """ProxylessNAS with elastic resolution, depth, kernel size and expand ratio.

    Args:
        width: multiplier of every width; results are rounded to multiples of 8. The published weights use 1.3.
        resolutions: input sizes in pixels; "HEIGHTxWIDTH" if not square.
        depths: blocks per stage; the sixth stage always has one block.
        kernels: odd sizes of the depthwise convolutions.
        expand_ratios: middle width of a block over its input width, above 1.
        strides: of the first convolution, the fixed block and the six stages. The default divides the resolution by
            32; for images of 28 to 96 pixels use smaller ones, e.g. (1, 1, 2, 2, 1, 1, 2, 1).
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
        strided=8,
    )
    depth_choices = [arguments["depths"]] * 5 + [(1,)]
    stages = tuple(
        Choices((make_divisible(w * width),), depth, arguments["kernels"], arguments["expand_ratios"])
        for w, depth in zip(STAGE_WIDTHS, depth_choices, strict=True)
    )
    lowering = partial(_lower, width, arguments["strides"], arguments["kernels"], channels)
    return Space("proxyless", arguments, arguments["resolutions"], stages, lowering)


def _lower(width: float, strides: Sequence[int], kernels: Sequence[int], channels: int, arch: Arch, num_classes: int) -> Plan:
    first, fixed = (make_divisible(w * width) for w in STEM_WIDTHS)
    shape: Shape = (channels, *height_width(arch.resolution))
    stem = conv_norm_act("first", "in", shape, first, kernel=3, stride=strides[0], activation=ACTIVATION, eps=EPS)
    segments = [Segment("stem", shape, tuple(stem))]
    block = mobile_block(
        "fixed", segments[-1].out_shape, fixed, middle=first, kernel=3, stride=strides[1], activation=ACTIVATION, eps=EPS
    )
    segments.append(without_shortcut(block))
    segments += mobile_stages(
        arch,
        segments[-1].out_shape,
        kernels=kernels,
        strides=strides[2:],
        activations=(ACTIVATION,) * len(arch.stages),
        squeeze_excite=(False,) * len(arch.stages),
        eps=EPS,
    )
    segments.append(_head(segments[-1].out_shape, make_divisible(HEAD_WIDTH * width), num_classes))
    return Plan(tuple(segments))


def _head(in_shape: Shape, mixed: int, num_classes: int) -> Segment:
    ops: list[Op] = conv_norm_act("mix", "in", in_shape, mixed, activation=ACTIVATION, eps=EPS)
    ops += [
        GlobalPool("pool", (ops[-1].name,), (mixed, 1, 1)),
        Flatten("flatten", ("pool",), (mixed,)),
        Dropout("dropout", ("flatten",), (mixed,)),
        Linear("classifier", ("dropout",), (num_classes,), mixed),
    ]
    return Segment("head", in_shape, tuple(ops))
