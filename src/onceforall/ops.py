"""The primitive operations of plans, with all shapes.

An operation reads "in", which is its segment's input, or earlier operations of the same segment. Shapes leave the batch out:
(channels, height, width), or (features,) after the last pooling.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

__all__ = [
    "Activation",
    "ActivationName",
    "Add",
    "Conv",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Linear",
    "Norm",
    "Op",
    "Pool",
    "Scale",
    "Shape",
]

Shape = tuple[int, ...]
ActivationName = Literal["relu", "relu6", "h_swish", "h_sigmoid"]


@dataclass(frozen=True, slots=True)
class Conv:
    """2-d convolution with padding kernel // 2.

    `kernels` lists the sizes that the shared weight of a supernet serves; more than one makes the kernel elastic.
    """

    name: str
    inputs: tuple[str]
    shape: Shape
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
    def params(self) -> int:
        return self.shape[0] * (self.in_channels // self.groups * self.kernel**2 + self.bias)


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation over the channels, with scale and shift."""

    name: str
    inputs: tuple[str]
    shape: Shape
    eps: float = 1e-5
    macs = 0

    @property
    def params(self) -> int:
        return 2 * self.shape[0]


@dataclass(frozen=True, slots=True)
class Activation:
    """Element-wise function. h_sigmoid(x) = relu6(x + 3) / 6 and h_swish(x) = x h_sigmoid(x)."""

    name: str
    inputs: tuple[str]
    shape: Shape
    function: ActivationName
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum or mean over windows of kernel × kernel pixels.

    "max" pads with kernel // 2 pixels that never win; "mean" does not pad, and a window that reaches over the edge is the mean
    of what lies inside.
    """

    name: str
    inputs: tuple[str]
    shape: Shape
    function: Literal["max", "mean"]
    kernel: int
    stride: int
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """Mean over height and width, which stay as 1 × 1."""

    name: str
    inputs: tuple[str]
    shape: Shape
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Flatten:
    """(channels, 1, 1) → (channels,)."""

    name: str
    inputs: tuple[str]
    shape: Shape
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two tensors of one shape: the shortcut, then the branch that it goes around."""

    name: str
    inputs: tuple[str, str]
    shape: Shape
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """First input times the second, one factor per channel: the gate of squeeze-and-excitation."""

    name: str
    inputs: tuple[str, str]
    shape: Shape
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout; does nothing in eval mode. The rate is a matter of training and belongs to the supernet's call."""

    name: str
    inputs: tuple[str]
    shape: Shape
    macs = 0
    params = 0


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer with bias."""

    name: str
    inputs: tuple[str]
    shape: Shape
    in_features: int

    @property
    def macs(self) -> int:
        return self.in_features * self.shape[0]

    @property
    def params(self) -> int:
        return self.in_features * self.shape[0] + self.shape[0]


Op = Conv | Norm | Activation | Pool | GlobalPool | Flatten | Add | Scale | Dropout | Linear
