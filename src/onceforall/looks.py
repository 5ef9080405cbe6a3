"""Summaries of segments for pictures, tables and cost models, independent of the kind of operations."""

from collections.abc import Iterator
from dataclasses import dataclass

from .ops import Add, Call, Conv, Input, Linear, Op, Scale, Shape, Weight
from .plan import Segment

LINEAR = {"linear", "addmm"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer: input and output channels, kernel (0: linear), stride."""

    inputs: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Look:
    """Summary of a segment.

    Args:
        kernel: largest kernel of its spatial convolutions; None if there are none.
        hidden: channels or features inside it.
        heads: attention heads; None without attention.
        squeeze: whether it has squeeze-and-excitation.
        shortcut: whether it adds its input to its result.
    """

    kernel: int | None
    hidden: int
    heads: int | None
    squeeze: bool
    shortcut: bool


def look_of(segment: Segment) -> Look:
    """Summarize a segment from its operations."""
    found = layers(segment)
    kernels = [layer.kernel for layer in found if layer.kernel > 1]
    calls = [op for op in segment.ops if isinstance(op, Call)]
    return Look(
        kernel=max(kernels, default=None),
        hidden=_hidden(segment, found) if calls else _middle(segment),
        heads=_heads(calls),
        squeeze=any(isinstance(op, Scale) for op in segment.ops) or any(_gates(segment)),
        shortcut=any(isinstance(op, Add) or _adds(op) for op in segment.ops),
    )


def layers(segment: Segment) -> list[Layer]:
    """A segment's convolutions and linear layers, in order, except `Linear` operations of this library."""
    found = []
    for op in segment.ops:
        match op:
            case Conv():
                found.append(Layer(op.in_channels, op.shape[0], op.kernel, op.stride))
            case Call(args=(Input(), Weight(shape=shape), *rest)) if op.target.startswith(("conv1d", "conv2d", "conv3d")):
                stride = rest[1] if len(rest) > 1 else 1
                groups = rest[4] if len(rest) > 4 else 1
                found.append(Layer(shape[1] * groups, shape[0], max(shape[2:]), stride if isinstance(stride, int) else max(stride)))
            case Call(args=(Input(), Weight(shape=shape), *_)) if op.target.startswith("conv_transpose"):
                found.append(Layer(shape[0], op.shape[0], max(shape[2:]), 1))
            case Call(args=(Input(), Weight(shape=(outputs, inputs)), *_)) if op.target.partition(".")[0] in LINEAR:
                found.append(Layer(inputs, outputs, 0, 1))
    return found


def channels(shape: Shape) -> int:
    """Channels of a map, tokens or features: a map's first dimension, or the last if exactly the first two are equal."""
    if len(shape) == 3:
        return shape[2] if shape[0] == shape[1] != shape[2] else shape[0]
    return shape[-1] if shape else 1


def pixels(shape: Shape) -> tuple[int, int] | None:
    """Height and width of a feature map; None for anything else."""
    if len(shape) != 3:
        return None
    return (shape[0], shape[1]) if shape[0] == shape[1] != shape[2] else (shape[1], shape[2])


def kind_of(op: Op) -> str:
    """An operation's kind in one word, the same for operations that take equal time at equal sizes."""
    return op.target.partition(".")[0] if isinstance(op, Call) else type(op).__name__


def _middle(segment: Segment) -> int:
    """Channels of the spatial convolution, or the widest tensor before the classifier."""
    spatial = [op.shape[0] for op in segment.ops if isinstance(op, Conv) and op.kernel > 1]
    return max(spatial or [op.shape[0] for op in segment.ops if not isinstance(op, Linear)] or [segment.out_shape[0]])


def _hidden(segment: Segment, found: list[Layer]) -> int:
    """Output channels of spatial convolutions, if they differ from the segment's input; else what its last layer reads."""
    inputs = channels(segment.in_shape)
    spatial = [layer.outputs for layer in found if layer.kernel > 1 and layer.outputs != inputs]
    if spatial:
        return max(spatial)
    if len(found) > 1 or any(layer.kernel == 0 for layer in found):
        return found[-1].inputs
    return found[0].outputs if found else channels(segment.out_shape)


def _heads(calls: list[Call]) -> int | None:
    """Number of heads: third-to-last dimension of scaled dot-product attention or of an attention's softmax."""
    for op in calls:
        kind = op.target.partition(".")[0]
        if kind in ("scaled_dot_product_attention", "softmax") and len(op.shape) >= 3:
            return op.shape[-3]
    return None


def _gates(segment: Segment) -> Iterator[bool]:
    """For each product, whether it multiplies a map by one number per channel."""
    shapes = {op.name: op.shape for op in segment.ops} | {"in": segment.in_shape}
    for op in segment.ops:
        if isinstance(op, Call) and op.target == "mul.Tensor":
            read = [shapes[leaf.name] for leaf in op.args if isinstance(leaf, Input)]
            yield len(read) == 2 and any(len(s) == 3 and s[1:] == (1, 1) for s in read) and read[0] != read[1]


def _adds(op: Op) -> bool:
    return isinstance(op, Call) and op.target == "add.Tensor" and all(isinstance(arg, Input) for arg in op.args)
