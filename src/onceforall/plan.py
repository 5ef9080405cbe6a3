"""`Plan`: a network as a flat list of primitive operations with their shapes.

A plan is a chain of segments (stem, one per block, head). An operation reads only its segment's input, named "in", or
earlier operations of the same segment, so a segment can be cut out, measured and compared on its own. MACs, parameters,
memory, the static network, the exported file and the picture are all folds over a plan.

Shapes omit the batch: (channels, height, width), or (features,) after the last pooling.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from .ops import Add, Call, Conv, Input, Norm, Op, Shape

MOVES = {"permute", "transpose", "getitem", "unbind", "select", "slice", "expand", "output"}  # omitted from summaries


@dataclass(frozen=True)
class Segment:
    """A run of operations that reads one tensor and produces one: the stem, one block, or the head."""

    name: str
    in_shape: Shape
    ops: tuple[Op, ...]

    @property
    def out_shape(self) -> Shape:
        return self.ops[-1].shape if self.ops else self.in_shape

    @property
    def signature(self) -> tuple[Shape, tuple[Op, ...]]:
        """Equal for segments that compute the same thing on the same shapes, wherever they are in the network."""
        return self.in_shape, self.ops

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def params(self) -> int:
        return sum(op.params for op in self.ops)

    @property
    def int8_bytes(self) -> int:
        """Size of the weights in int8 with batch norms folded: a byte each, and a 32-bit bias and scale per output channel."""
        return sum(op.int8_bytes for op in self.ops)

    @cached_property
    def read_once(self) -> frozenset[str]:
        """Operations whose output is read exactly once, so the reader may overwrite it."""
        readers = Counter(source for op in self.ops for source in op.inputs)
        return frozenset(op.name for op in self.ops if readers[op.name] == 1)

    @cached_property
    def folds(self) -> dict[str, Norm]:
        """Batch norms by the name of the convolution into which they can be folded, since nothing else reads its output."""
        convs = {op.name for op in self.ops if isinstance(op, Conv)} & self.read_once
        return {op.inputs[0]: op for op in self.ops if isinstance(op, Norm) and op.inputs[0] in convs}

    @cached_property
    def branches(self) -> dict[str, int]:
        """For each residual sum, by name: the index of its branch, which weighted layers compute from the other, the shortcut."""
        bits = {"in": 1, **{op.name: 2 << i for i, op in enumerate(self.ops)}}
        above = {"in": 1}  # each tensor's ancestors and itself, as bits
        layers, found = 0, {}
        for op in self.ops:
            above[op.name] = bits[op.name]
            for source in op.inputs:
                above[op.name] |= above[source]
            layers |= bits[op.name] if op.params else 0
            first, second = _operands(op)
            for branch, (shortcut, other) in enumerate(((second, first), (first, second))):
                if other != shortcut and above[other] & bits[shortcut] and above[other] & ~above[shortcut] & layers:
                    found[op.name] = branch
        return found

    @cached_property
    def peak_activations(self) -> int:
        """Most numbers alive at once while the segment runs: inputs still needed plus the output being written.

        Norms, activations, flatten and dropout work in place, as deployment runtimes fuse them.
        """
        last_use = {source: i for i, op in enumerate(self.ops) for source in op.inputs}
        owner = {"in": "in"}  # tensor -> the buffer that holds it
        size = {"in": prod(self.in_shape)}
        free_at = dict(last_use)
        peak = size["in"]
        for i, op in enumerate(self.ops):
            if op.in_place and op.inputs and free_at[op.inputs[0]] == i:
                owner[op.name] = owner[op.inputs[0]]
            else:
                owner[op.name] = op.name
                size[op.name] = prod(op.shape)
            alive = {owner[op.name]} | {owner[t] for t, last in last_use.items() if t in owner and last >= i}
            peak = max(peak, sum(size[buffer] for buffer in alive))
        return peak


@dataclass(frozen=True)
class Plan:
    """A whole network, or a piece of one: segments in order."""

    segments: tuple[Segment, ...]

    @property
    def input_shape(self) -> Shape:
        return self.segments[0].in_shape

    @property
    def output_shape(self) -> Shape:
        return self.segments[-1].out_shape

    @property
    def ops(self) -> tuple[Op, ...]:
        return tuple(op for segment in self.segments for op in segment.ops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one image."""
        return sum(segment.macs for segment in self.segments)

    @property
    def params(self) -> int:
        """Learnable parameters of the extracted network."""
        return sum(segment.params for segment in self.segments)

    @property
    def peak_memory_bytes(self) -> int:
        """Peak float32 activation memory for one image, in bytes, excluding weights."""
        return 4 * max(segment.peak_activations for segment in self.segments)

    def inelastic(self) -> "Plan":
        """The same plan without the other kernel sizes that a supernet's convolutions list."""
        own = [tuple(replace(op, kernels=()) if isinstance(op, Conv) else op for op in segment.ops) for segment in self.segments]
        return Plan(tuple(replace(segment, ops=ops) for segment, ops in zip(self.segments, own, strict=True)))

    def piece(self, name: str) -> "Plan":
        """The plan of one segment alone.

        Raises:
            KeyError: no segment of that name.
        """
        for segment in self.segments:
            if segment.name == name:
                return Plan((segment,))
        raise KeyError(name)

    def table(self) -> str:
        """A readable table: one line per segment with its operations, output shape, MACs and parameters."""
        rows = [("segment", "operations", "output", "MACs", "parameters")]
        rows += [(s.name, _summary(s), _by(s.out_shape), f"{s.macs:,}", f"{s.params:,}") for s in self.segments]
        rows.append(("total", "", _by(self.output_shape), f"{self.macs:,}", f"{self.params:,}"))
        sides, widths = "<<<>>", [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(f"{c:{side}{width}}" for c, side, width in zip(row, sides, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def _operands(op: Op) -> tuple[str, str]:
    """Names of the two tensors that a sum adds, if both depend on the image; "in" twice for any other operation."""
    match op:
        case Add(inputs=(first, second)):
            return first, second
        case Call(target="add.Tensor", args=(Input(first), Input(second)), whole=False):
            return first, second
    return "in", "in"


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _summary(segment: Segment) -> str:
    calls = Counter(op.target.partition(".")[0] for op in segment.ops if isinstance(op, Call) and not op.in_place)
    if calls:
        return " ".join(kind if number == 1 else f"{number}×{kind}" for kind, number in calls.items() if kind not in MOVES)
    convs = [op for op in segment.ops if isinstance(op, Conv)]
    spatial = [f"k{op.kernel}" + (f"/s{op.stride}" if op.stride > 1 else "") for op in convs if op.kernel > 1]
    kinds = Counter(type(op).__name__.lower() for op in segment.ops)
    middle = [f"mid {op.shape[0]}" for op in convs if op.groups > 1]
    extras = [word for kind, word in (("scale", "se"), ("add", "shortcut"), ("linear", "classifier")) if kinds[kind]]
    return " ".join(spatial + middle + extras) or "+".join(kinds)
