"""Elastic layers: each holds the weights of its largest form and computes any smaller form, given by a plan operation.

Shapes: x is (batch, channels, height, width), or (batch, features) for `ElasticLinear`. Narrower forms use the first
channels. Layers store no active sub-network, and forward passes change nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainingError
from ..ops import Conv, Grid, Linear, Norm


class ElasticConv(nn.Module):
    """Convolution with elastic input width, output width and kernel size.

    A smaller kernel is the center of the next larger one, flattened and multiplied by a learned matrix that starts as the
    identity and is shared by all channels (OFA, section 3.3): 7 → 5 → 3 for kernels (3, 5, 7).
    """

    def __init__(self, op: Conv) -> None:
        super().__init__()
        self.groups = op.groups
        self.weight = nn.Parameter(torch.empty(op.shape[0], op.in_channels // op.groups, op.kernel, op.kernel))
        self.bias = nn.Parameter(torch.zeros(op.shape[0])) if op.bias else None
        self.steps = [(big, small) for big, small in pairwise(sorted(op.kernels, reverse=True)) if big <= op.kernel]
        for big, small in self.steps:
            self.register_parameter(matrix_name(big, small), nn.Parameter(torch.empty(small**2, small**2)))
        if self.weight.is_meta:
            return  # nothing to initialize, and both calls below would load torch's compiler, which takes 1.4 s
        for big, small in self.steps:
            nn.init.eye_(self.get_parameter(matrix_name(big, small)))
        nn.init.kaiming_normal_(self.weight, mode="fan_out" if op.groups == 1 else "fan_in", nonlinearity="relu")

    def cut(self, op: Conv) -> dict[str, Tensor]:
        """The operation's own weight (out, in / groups, k, k) and, if it has one, bias (out,)."""
        weight = self.weight[: op.shape[0], : op.in_channels // op.groups]
        for big, small in self.steps:
            if op.kernel < big:
                weight = smaller_kernel(weight, self.get_parameter(matrix_name(big, small)), small)
        return {"weight": weight} if self.bias is None else {"weight": weight, "bias": self.bias[: op.shape[0]]}

    def forward(self, x: Tensor, op: Conv) -> Tensor:
        own = self.cut(op)
        return F.conv2d(x, own["weight"], own.get("bias"), op.stride, op.kernel // 2, 1, op.groups)


class ElasticNorm(nn.Module):
    """Batch normalization with elastic width.

    Train mode normalizes with the statistics of the batch and does not update the running statistics. Eval mode uses the first
    entries of the running statistics, which only fit the weights that they were measured or published for.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, op: Norm) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(op.shape[0]))
        self.bias = nn.Parameter(torch.zeros(op.shape[0]))
        self.register_buffer("running_mean", torch.zeros(op.shape[0]))
        self.register_buffer("running_var", torch.ones(op.shape[0]))

    def cut(self, op: Norm) -> dict[str, Tensor]:
        """The first entries of scale, shift and running statistics, each (channels,)."""
        c = op.shape[0]
        statistics = {"running_mean": self.running_mean[:c], "running_var": self.running_var[:c]}
        return {"weight": self.weight[:c], "bias": self.bias[:c], **statistics}

    def forward(self, x: Tensor, op: Norm) -> Tensor:
        c = op.shape[0]
        mean, var = (None, None) if self.training else (self.running_mean[:c], self.running_var[:c])
        return F.batch_norm(x, mean, var, self.weight[:c], self.bias[:c], self.training, eps=op.eps)

    def synchronized(self, x: Tensor, op: Norm) -> Tensor:
        """Normalize as in train mode, with statistics over the equally large batches of all processes."""
        c = op.shape[0]
        return synchronized_norm(x, self.weight[:c], self.bias[:c], op.eps)


class SynchronizedNorm(nn.Module):
    """A batch norm of an extracted network, with statistics over the equally large batches of all processes."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return synchronized_norm(x, self.weight, self.bias, self.eps)


class ElasticLinear(nn.Module):
    """Linear layer with elastic input width."""

    def __init__(self, op: Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(op.shape[0], op.in_features))
        self.bias = nn.Parameter(torch.zeros(op.shape[0]))
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=0.01)

    def cut(self, op: Linear) -> dict[str, Tensor]:
        """Weight (out, in) and bias (out,)."""
        return {"weight": self.weight[:, : op.in_features], "bias": self.bias}

    def forward(self, x: Tensor, op: Linear) -> Tensor:
        return F.linear(x, **self.cut(op))


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return add_up(value.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return add_up(grad.clone())


def synchronized_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Batch normalization of (batch, channels, …) with statistics over the batches of all processes."""
    size, kind = dist.get_world_size(), x.dtype
    x = x.to(torch.promote_types(kind, torch.float32))
    others, line = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
    mean: Tensor = _Sum.apply(x.mean(others)) / size
    centered = x - mean.view(line)
    var: Tensor = _Sum.apply(centered.square().mean(others)) / size
    scale = (var + eps).rsqrt() if weight is None else weight * (var + eps).rsqrt()
    normalized = centered * scale.view(line)
    return (normalized if bias is None else normalized + bias.view(line)).to(kind)


def some_images(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al., 2016): zero a residual branch (n, …) for some images and scale it up for the others."""
    kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * kept.div_(1 - rate)


def smaller_kernel(weight: Tensor, matrix: Tensor, small: int) -> Tensor:
    """Flatten the small × small centers of kernels (out, in, k, k) and multiply them by a matrix."""
    edge = (weight.shape[-1] - small) // 2
    center = weight[:, :, edge : edge + small, edge : edge + small].flatten(2)
    return F.linear(center, matrix).view(*weight.shape[:2], small, small)


def matrix_name(big: int, small: int, weight: str = "") -> str:
    """Name of the matrix that turns kernels of size `big` into size `small`, as in the original's checkpoints.

    With the name of a weight, it is the full name of the matrix in the same layer.
    """
    return f"{weight.removesuffix('weight')}{big}to{small}_matrix"


def interpolated(tensor: Tensor, grid: Grid) -> Tensor:
    """Interpolate the map of a position embedding to another resolution; its prefix is unchanged."""
    dim, own = grid.dim, tensor.narrow(grid.dim, grid.prefix, tensor.shape[grid.dim] - grid.prefix)
    shape = own.shape
    pixels = own.reshape(*shape[:dim], *grid.before, *shape[dim + len(grid.dims) :]).movedim((dim, dim + 1), (-2, -1))
    wide = pixels.to(torch.promote_types(pixels.dtype, torch.float32))  # like timm, as not all devices support half precision
    found = F.interpolate(wide, grid.after, mode="bicubic", align_corners=grid.align_corners, antialias=grid.antialias)
    found = found.to(tensor.dtype).movedim((-2, -1), (dim, dim + 1))
    if not grid.flat:
        return found
    return torch.cat([tensor.narrow(dim, 0, grid.prefix), found.flatten(dim, dim + 1)], dim)


@contextmanager
def exchanging() -> Iterator[None]:
    """Context that turns torch's error into a one-line error if another process has ended.

    Raises:
        TrainingError: the exchange failed.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError("another process ended: see its message") from error


def add_up(values: Tensor) -> Tensor:
    """Sum over all processes, in place.

    Raises:
        TrainingError: another process has ended.
    """
    with exchanging():
        dist.all_reduce(values)
    return values
