"""Segments shared by several families, as lists of plan operations.

Widths are channel counts; `shape` is (channels, height, width) without the batch.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..arch import Arch
from ..ops import Activation, ActivationName, Add, Conv, GlobalPool, Norm, Op, Pool, Scale, Shape
from ..plan import Segment


def make_divisible(value: float, divisor: int = 8) -> int:
    """Nearest multiple of the divisor, never more than 10 % below the value (MobileNet convention)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_norm_act(
    prefix: str,
    source: str,
    in_shape: Shape,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    kernels: Sequence[int] = (),
    activation: ActivationName | None,
    eps: float = 1e-5,
) -> list[Op]:
    """Convolution without bias, batch norm, and an optional activation."""
    _, height, width = in_shape
    shape = (channels, -(-height // stride), -(-width // stride))
    ops: list[Op] = [
        Conv(f"{prefix}.conv", (source,), shape, in_shape[0], kernel, stride, groups, kernels=tuple(kernels)),
        Norm(f"{prefix}.norm", (f"{prefix}.conv",), shape, eps),
    ]
    if activation:
        ops.append(Activation(f"{prefix}.act", (f"{prefix}.norm",), shape, activation))
    return ops


def mobile_block(
    name: str,
    in_shape: Shape,
    channels: int,
    *,
    middle: int,
    kernel: int,
    kernels: Sequence[int] = (),
    stride: int,
    activation: ActivationName,
    squeeze_excite: bool = False,
    eps: float = 1e-5,
) -> Segment:
    """Inverted residual block (MobileNetV2/V3): 1×1 expand, depthwise, squeeze-and-excitation, 1×1 project, shortcut.

    Without expansion (middle == input channels) the first convolution is omitted. There is a shortcut only if the
    stride is 1 and input and output widths are equal.
    """
    ops: list[Op] = []
    last, shape = "in", in_shape
    if middle != in_shape[0]:
        ops += conv_norm_act("expand", last, shape, middle, activation=activation, eps=eps)
        last, shape = ops[-1].name, ops[-1].shape
    ops += conv_norm_act(
        "depthwise", last, shape, middle,
        kernel=kernel, kernels=kernels, stride=stride, groups=middle, activation=activation, eps=eps,
    )  # fmt: skip
    last, shape = ops[-1].name, ops[-1].shape
    if squeeze_excite:
        squeezed = make_divisible(middle // 4)
        ops += [
            GlobalPool("se.pool", (last,), (middle, 1, 1)),
            Conv("se.reduce", ("se.pool",), (squeezed, 1, 1), middle, bias=True),
            Activation("se.relu", ("se.reduce",), (squeezed, 1, 1), "relu"),
            Conv("se.expand", ("se.relu",), (middle, 1, 1), squeezed, bias=True),
            Activation("se.gate", ("se.expand",), (middle, 1, 1), "h_sigmoid"),
            Scale("se.scale", (last, "se.gate"), shape),
        ]
        last = "se.scale"
    ops += conv_norm_act("project", last, shape, channels, activation=None, eps=eps)
    if stride == 1 and in_shape[0] == channels:
        ops.append(Add("add", ("in", "project.norm"), ops[-1].shape))
    return Segment(name, in_shape, tuple(ops))


def without_shortcut(block: Segment) -> Segment:
    """The block without its shortcut, if it has one."""
    return replace(block, ops=tuple(op for op in block.ops if not isinstance(op, Add)))


def mobile_stages(
    arch: Arch,
    in_shape: Shape,
    *,
    kernels: Sequence[int],
    strides: Sequence[int],
    activations: Sequence[ActivationName],
    squeeze_excite: Sequence[bool],
    eps: float = 1e-5,
) -> list[Segment]:
    """Elastic stages of inverted residual blocks, named "stages.S.I"; strides, activations and gates are per stage."""
    segments: list[Segment] = []
    shape = in_shape
    for s, stage in enumerate(arch.stages):
        for i, block in enumerate(stage.blocks):
            segments.append(
                mobile_block(
                    f"stages.{s}.{i}",
                    shape,
                    stage.width,
                    middle=make_divisible(round(shape[0] * block.expand_ratio)),
                    kernel=block.kernel,
                    kernels=kernels,
                    stride=strides[s] if i == 0 else 1,
                    activation=activations[s],
                    squeeze_excite=squeeze_excite[s],
                    eps=eps,
                )
            )
            shape = segments[-1].out_shape
    return segments


def bottleneck_block(
    name: str, in_shape: Shape, channels: int, *, middle: int, stride: int, project: bool, eps: float = 1e-5
) -> Segment:
    """Bottleneck of ResNet-D: 1×1 reduce, 3×3 (with the stride), 1×1 expand, shortcut, relu.

    With `project`, the shortcut averages over stride × stride pixels and applies a 1×1 convolution; otherwise it is the input.
    """
    ops = conv_norm_act("reduce", "in", in_shape, middle, activation="relu", eps=eps)
    ops += conv_norm_act("spatial", ops[-1].name, ops[-1].shape, middle, kernel=3, stride=stride, activation="relu", eps=eps)
    ops += conv_norm_act("expand", ops[-1].name, ops[-1].shape, channels, activation=None, eps=eps)
    branch, shape, shortcut = ops[-1].name, ops[-1].shape, "in"
    if project:
        if stride > 1:
            shortcut = "shortcut.pool"
            ops.append(Pool(shortcut, ("in",), (in_shape[0], *shape[1:]), "mean", stride, stride))
        ops += conv_norm_act("shortcut", shortcut, (in_shape[0], *shape[1:]), channels, activation=None, eps=eps)
        shortcut = ops[-1].name
    ops += [Add("add", (shortcut, branch), shape), Activation("act", ("add",), shape, "relu")]
    return Segment(name, in_shape, tuple(ops))
