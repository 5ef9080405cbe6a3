"""The primitive operations of plans, with their shapes.

An operation reads its segment's input, named "in", or earlier operations of the same segment. Shapes omit the batch:
(channels, height, width), or (features,) after the last pooling.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

Shape = tuple[int, ...]
ActivationName = Literal["relu", "relu6", "h_swish", "h_sigmoid"]


@dataclass(frozen=True, slots=True)
class Op:
    """A primitive operation with its cost and its tensors. Most kinds have no tensors and cost nothing.

    A row of `nn.operations.OPERATIONS` says how each kind is computed and exported.

    Args:
        name: unique within its segment.
        inputs: names of what it reads.
        shape: shape of its result.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape

    @property
    def in_place(self) -> bool:
        """Whether deployment runtimes fuse it with its input."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return 0

    @property
    def params(self) -> int:
        """Learnable parameters."""
        return sum(map(prod, self.weights.values()))

    @property
    def int8_bytes(self) -> int:
        """Size of the weights in int8: a byte each, and a 32-bit bias and scale per output channel."""
        return sum(prod(shape) + 8 * shape[0] for shape in self.weights.values() if len(shape) > 1)

    @property
    def mixes(self) -> bool:
        """Whether each output channel depends on all input channels, not only on its own."""
        return False

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes of the trained tensors by their names in the torch layer."""
        return {}

    @property
    def statistics(self) -> Mapping[str, Shape]:
        """Shapes of the running statistics by their names in the torch layer."""
        return {}


@dataclass(frozen=True, slots=True)
class Conv(Op):
    """2D convolution with padding kernel // 2.

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
    """Batch normalization over the channels, with scale and shift."""

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

    "max" pads with kernel // 2 pixels that are never the maximum; "mean" does not pad, and a window that crosses the edge averages
    only the pixels inside.
    """

    function: Literal["max", "mean"]
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalPool(Op):
    """Mean over height and width, kept as 1 × 1."""


@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """(channels, 1, 1) → (channels,)."""

    in_place = True


@dataclass(frozen=True, slots=True)
class Add(Op):
    """Sum of two tensors of the same shape: the shortcut, then the branch that it bypasses."""


@dataclass(frozen=True, slots=True)
class Scale(Op):
    """The first input times the second, one factor per channel: the gate of squeeze-and-excitation."""


@dataclass(frozen=True, slots=True)
class Dropout(Op):
    """Dropout; does nothing in eval mode. The rate belongs to training and is passed when the supernet is called."""

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
    """An argument of a call: the result of an earlier operation."""

    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """An argument of a call: a size of this many entries per image."""

    times: int = 1


@dataclass(frozen=True, slots=True)
class Grid:
    """How a position embedding is adapted to another resolution: part of it is a map of pixels, which is interpolated (bicubic).

    Args:
        dim: dimension of the tokens, row by row; or dimension of the map's rows, followed by that of its columns.
        flat: whether `dim` is the dimension of the tokens.
        prefix: tokens before the map, such as the class token, which are left unchanged.
        before: rows and columns of the stored tensor.
        after: rows and columns at this resolution.
        antialias: average over larger windows when shrinking.
        align_corners: align the corner pixels of both maps instead of their edges.
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
        """Whether no interpolation is needed."""
        return self.before == self.after

    def shape(self, shape: Shape, size: tuple[int, int]) -> Shape:
        """The tensor's shape with a map of another size."""
        if self.flat:
            return *shape[: self.dim], self.prefix + prod(size), *shape[self.dim + 1 :]
        return *shape[: self.dim], *size, *shape[self.dim + 2 :]


@dataclass(frozen=True, slots=True)
class Weight:
    """An argument of a call: a slice of a tensor of the supernet.

    Args:
        shape: shape of the slice.
        name: name of the tensor in the original model.
        cut: for each dimension, the ranges of entries in the slice; None: all.
        kernels: kernel sizes from the tensor's down to the slice's, if they differ.
        dtype: torch's name, without "torch.".
        trained: whether it is a parameter; otherwise a buffer or a constant.
        counted: whether this is the first use of the tensor in the network, where its parameters are counted.
        sizes: sizes that its kernel can have, ascending, if there are several.
        grid: for a position embedding away from its own resolution: how the slice is interpolated.
    """

    shape: Shape
    name: str = field(compare=False)
    cut: tuple[tuple[tuple[int, int], ...] | None, ...] = field(compare=False)
    kernels: tuple[int, ...] = ()
    dtype: str = "float32"
    trained: bool = True
    counted: bool = True
    sizes: tuple[int, ...] = field(default=(), compare=False)
    grid: Grid | None = field(default=None, repr=False)  # keys of measurements are made from the repr: `latency.design.key_of`

    @property
    def stored(self) -> "Weight":
        """The slice of the tensor before it is interpolated."""
        return replace(self, grid=None, shape=self.grid.shape(self.shape, self.grid.before)) if self.grid else self


@dataclass(frozen=True)
class Fields(Mapping[str, Any]):
    """An argument of a call: a hashable mapping."""

    pairs: tuple[tuple[str, Any], ...]

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class Call(Op):
    """Any torch operation found by `torch.export`, in a network that was not written for this library.

    Its tensors keep their names in the original model; they are not named after the operation.

    Args:
        target: the ATen operation with its overload, such as "conv2d.default"; "output" collects what the network returns,
            and "getitem" takes one of several results.
        args: numbers, strings, `Input`, `Weight`, `Batch`, and tuples and `Fields` of these; "<training>" stands for the mode,
            "<device>" for the device it runs on.
        kwargs: pairs of name and value, of the same types.
        work: multiply-accumulates for one image.
        fused: whether deployment runtimes fuse it with its input.
        whole: `shape` includes the result's first dimension (for one image) instead of omitting a batch dimension.
        dropped: the index of an argument that is dropped for some images in supernet training, and its rate, None if it varies.
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
        """The slices of the supernet's tensors that it uses."""
        return tuple(leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Weight))


def leaves(value: Any) -> Iterator[Any]:
    """All leaves of nested tuples, lists and mappings."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        yield value
        return
    for item in value:
        yield from leaves(item)


def ancestors(names: Iterable[str], reads: Callable[[str], Iterable[str]]) -> set[str]:
    """The names, and all names that are reached from them by `reads`, such as the values that a value is computed from."""
    found = set(names)
    waiting = list(found)
    while waiting:
        new = set(reads(waiting.pop())) - found
        found |= new
        waiting += new
    return found
