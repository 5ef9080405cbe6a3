"""The primitive operations of plans, with all shapes.

An operation reads "in", which is its segment's input, or earlier operations of the same segment. Shapes leave the batch out:
(channels, height, width), or (features,) after the last pooling.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

Shape = tuple[int, ...]
ActivationName = Literal["relu", "relu6", "h_swish", "h_sigmoid"]


@dataclass(frozen=True, slots=True)
class Op:
    """A primitive operation: what it costs, and the tensors that belong to it. Most have none and cost nothing.

    How each kind is computed and written is a row of `nn.operations.OPERATIONS`.

    Args:
        name: in its segment.
        inputs: what it reads.
        shape: of its result.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape

    @property
    def in_place(self) -> bool:
        """Deployment runtimes fuse it with what it reads."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return 0

    @property
    def params(self) -> int:
        """Learnable numbers."""
        return sum(map(prod, self.weights.values()))

    @property
    def int8_bytes(self) -> int:
        """What the weights take in int8: a byte each, and a 32-bit bias and scale for each output channel."""
        return sum(prod(shape) + 8 * shape[0] for shape in self.weights.values() if len(shape) > 1)

    @property
    def mixes(self) -> bool:
        """Each channel of the result depends on all of the input's, not only on the one at its place."""
        return False

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes of the trained tensors, by their names in the operation's layer."""
        return {}

    @property
    def statistics(self) -> Mapping[str, Shape]:
        """Shapes of the running statistics, by their names in the operation's layer."""
        return {}


@dataclass(frozen=True, slots=True)
class Conv(Op):
    """2-d convolution with padding kernel // 2.

    `kernels` lists the sizes that the shared weight of a supernet serves; more than one makes the kernel elastic.
    """

    in_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    kernels: tuple[int, ...] = ()

    @property
    def macs(self) -> int:
        return prod(self.shape) * (self.in_channels // self.groups) * self.kernel**2

    @property
    def weights(self) -> Mapping[str, Shape]:
        weight = {"weight": (self.shape[0], self.in_channels // self.groups, self.kernel, self.kernel)}
        return {**weight, "bias": self.shape[:1]} if self.bias else weight

    @property
    def mixes(self) -> bool:
        return self.groups == 1


@dataclass(frozen=True, slots=True)
class Norm(Op):
    """Batch normalisation over the channels, with scale and shift."""

    eps: float = 1e-5
    in_place = True

    @property
    def weights(self) -> Mapping[str, Shape]:
        return {"weight": self.shape[:1], "bias": self.shape[:1]}

    @property
    def statistics(self) -> Mapping[str, Shape]:
        return {"running_mean": self.shape[:1], "running_var": self.shape[:1]}


@dataclass(frozen=True, slots=True)
class Activation(Op):
    """Element-wise function. h_sigmoid(x) = relu6(x + 3) / 6 and h_swish(x) = x h_sigmoid(x)."""

    function: ActivationName
    in_place = True


@dataclass(frozen=True, slots=True)
class Pool(Op):
    """Maximum or mean over windows of kernel × kernel pixels.

    "max" pads with kernel // 2 pixels that never win; "mean" does not pad, and a window that reaches over the edge is the mean
    of what lies inside.
    """

    function: Literal["max", "mean"]
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalPool(Op):
    """Mean over height and width, which stay as 1 × 1."""


@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """(channels, 1, 1) → (channels,)."""

    in_place = True


@dataclass(frozen=True, slots=True)
class Add(Op):
    """Sum of two tensors of one shape: the shortcut, then the branch that it goes around."""


@dataclass(frozen=True, slots=True)
class Scale(Op):
    """First input times the second, one factor per channel: the gate of squeeze-and-excitation."""


@dataclass(frozen=True, slots=True)
class Dropout(Op):
    """Dropout; does nothing in eval mode. The rate is a matter of training and belongs to the supernet's call."""

    in_place = True


@dataclass(frozen=True, slots=True)
class Linear(Op):
    """Fully connected layer with bias."""

    in_features: int

    @property
    def macs(self) -> int:
        return self.in_features * self.shape[0]

    @property
    def weights(self) -> Mapping[str, Shape]:
        return {"weight": (self.shape[0], self.in_features), "bias": self.shape}

    @property
    def mixes(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Input:
    """Among a call's arguments: the result of an earlier operation."""

    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Among a call's arguments: so many for every image."""

    times: int = 1


@dataclass(frozen=True, slots=True)
class Grid:
    """How a position embedding is brought to another resolution: a part of it is a map of pixels, which is interpolated (bicubic).

    Args:
        dim: of the tokens, row after row; or of the rows, with that of the columns after it.
        flat: of the tokens.
        prefix: tokens before the map, such as that of the class, which stay as they are.
        before: rows and columns of the tensor.
        after: rows and columns at the resolution.
        antialias: smaller maps are means over larger windows.
        align_corners: the corners of both maps lie over each other, not their edges.
    """

    dim: int
    flat: bool
    prefix: int
    before: tuple[int, int]
    after: tuple[int, int]
    antialias: bool = True
    align_corners: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of the map."""
        return (self.dim,) if self.flat else (self.dim, self.dim + 1)

    @property
    def same(self) -> bool:
        """Nothing is done."""
        return self.before == self.after

    def shape(self, shape: Shape, size: tuple[int, int]) -> Shape:
        """The shape of a tensor with a map of another size."""
        if self.flat:
            return *shape[: self.dim], self.prefix + prod(size), *shape[self.dim + 1 :]
        return *shape[: self.dim], *size, *shape[self.dim + 2 :]


@dataclass(frozen=True, slots=True)
class Weight:
    """Among a call's arguments: its part of a tensor of the supernet.

    Args:
        shape: of the part.
        name: of the tensor, as in the model that it came with.
        cut: for each dimension the ranges of entries that belong to the part; None: all.
        kernels: sizes from that of the tensor down to that of the part, if they differ.
        dtype: as torch calls it, without "torch.".
        trained: a parameter; else a buffer or a constant.
        counted: the first use of the tensor in the network, where its numbers count.
        sizes: that its kernel can have, ascending, if there are several.
        grid: of a position embedding at another resolution than its own: how the part is interpolated.
    """

    shape: Shape
    name: str = field(compare=False)
    cut: tuple[tuple[tuple[int, int], ...] | None, ...] = field(compare=False)
    kernels: tuple[int, ...] = ()
    dtype: str = "float32"
    trained: bool = True
    counted: bool = True
    sizes: tuple[int, ...] = field(default=(), compare=False)
    grid: Grid | None = field(default=None, repr=False)  # keys of measurements are made of the text: `latency.design.key_of`

    @property
    def stored(self) -> "Weight":
        """The part of the tensor before it is interpolated."""
        return replace(self, grid=None, shape=self.grid.shape(self.shape, self.grid.before)) if self.grid else self


@dataclass(frozen=True)
class Fields(Mapping[str, Any]):
    """Among a call's arguments: a mapping, which can be hashed."""

    pairs: tuple[tuple[str, Any], ...]

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class Call(Op):
    """Any operation of torch, as `torch.export` gave it, of a network that was not written for this library.

    Its tensors are named as in the model that they came with, not after the operation.

    Args:
        target: the operation in ATen with its overload, such as "conv2d.default"; "output" gathers what the network returns,
            and "getitem" takes one of several results.
        args: numbers, texts, `Input`, `Weight`, `Batch`, tuples and `Fields` of such; "<training>" is the mode, "<device>" where it
            runs.
        kwargs: likewise, in pairs of name and value.
        work: multiply-accumulates for one image.
        fused: deployment runtimes fuse it with what it reads.
        whole: the first dimension of `shape` is that of the result, for one image; no batch before it is left out.
        dropped: an argument that some images lose while a supernet is trained, and at what rate; None for one that changes.
    """

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    work: int = 0
    fused: bool = False
    whole: bool = False
    dropped: tuple[int, float | None] | None = field(default=None, compare=False)

    @property
    def in_place(self) -> bool:
        return self.fused

    @property
    def macs(self) -> int:
        return self.work

    @property
    def params(self) -> int:
        return sum(prod(weight.shape) for weight in self.tensors if weight.trained and weight.counted)

    @property
    def int8_bytes(self) -> int:
        large = [weight for weight in self.tensors if weight.trained and weight.counted and len(weight.shape) > 1]
        return sum(prod(weight.shape) + 8 * weight.shape[0] for weight in large)

    @property
    def tensors(self) -> tuple[Weight, ...]:
        """What it uses of the supernet's tensors."""
        return tuple(leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Weight))


def leaves(value: Any) -> Iterator[Any]:
    """All that stands in nested tuples, lists and mappings."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        yield value
        return
    for item in value:
        yield from leaves(item)
