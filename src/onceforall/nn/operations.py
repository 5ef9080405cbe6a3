"""`OPERATIONS`: how each operation is computed and exported, one row per kind, for everything that processes plans.

A network that was read from a model consists of calls (`Call`), which `calls`, `call_source` and `onnx_calls` handle.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import Activation, ActivationName, Add, Conv, Dropout, Flatten, GlobalPool, Linear, Norm, Op, Pool, Scale
from .calls import Mode
from .layers import ElasticConv, ElasticLinear, ElasticNorm
from .onnx_calls import OPERATIONS as CALLS
from .onnx_calls.writer import Array, Writing, affine

Floats = np.ndarray[Any, np.dtype[np.float64]]
Affine = tuple[Floats, Floats]
ACTIVATIONS: dict[ActivationName, tuple[str, type[nn.Module]]] = {  # name in torch.nn.functional and in ATen; layer
    "relu": ("relu", nn.ReLU), "relu6": ("relu6", nn.ReLU6), "h_swish": ("hardswish", nn.Hardswish),
    "h_sigmoid": ("hardsigmoid", nn.Hardsigmoid),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """How one kind of operation is computed and exported.

    Args:
        module: makes the layer of a plain network, or a function of its inputs, from the operation, a dropout rate, and whether it
            may overwrite its input.
        text: makes Python for model.py from the operation and its `numbers` as text: an expression that creates the layer or, with
            {0} for the first input, computes the result.
        onnx: the type of the ONNX node, or a function that writes nodes and returns the name of the last one. It gets a `Writing`,
            the operation, its inputs, its tensors, and the scale and shift of a norm to fold into it.
        run: computes the result in a supernet from the operation, its inputs, the mode, and whether it may overwrite its input.
        elastic: replaces `run` for an operation with weights: makes a supernet's layer from the largest operation. Called with
            inputs and a smaller operation, the layer uses the first entries of its tensors in every dimension; its `cut` returns
            them by the names in `Op.weights` and `Op.statistics`.
        numbers: the numbers that may differ between blocks that share a class in model.py.
    """

    module: Callable[[Any, float, bool], Callable[..., Any]]
    text: Callable[[Any, Mapping[str, str]], str]
    onnx: str | Callable[[Writing, Any, Sequence[Array], Mapping[str, Floats], Affine | None], str]
    run: Callable[[Any, Sequence[Tensor], Mode, bool], Tensor] | None = None
    elastic: Callable[[Any], nn.Module] | None = None
    numbers: Callable[[Any], dict[str, int]] = field(default=lambda op: {})


def _window(op: Conv | Pool) -> dict[str, int]:
    return {"kernel": op.kernel, "stride": op.stride}


def _conv_numbers(op: Conv) -> dict[str, int]:
    groups = {} if op.groups == 1 else {"groups": op.groups}
    return {"in_channels": op.in_channels, "channels": op.shape[0], **_window(op), **groups}


def _conv_text(op: Conv, n: Mapping[str, str]) -> str:
    padding = f"{n['kernel']} // 2" if not n["kernel"].isdecimal() else str(int(n["kernel"]) // 2)
    options = [f"stride={n['stride']}", f"padding={padding}", *([f"groups={n['groups']}"] if "groups" in n else [])]
    options += [] if op.bias else ["bias=False"]
    return f"nn.Conv2d({n['in_channels']}, {n['channels']}, {n['kernel']}, {', '.join(options)})"


def _conv_onnx(w: Writing, op: Conv, x: Sequence[Array], own: Mapping[str, Floats], norm: Affine | None) -> str:
    weight, bias = own["weight"], own.get("bias")
    if norm is not None:
        scale, shift = norm
        weight, bias = weight * scale[:, None, None, None], shift if bias is None else bias * scale + shift
    names = [w.name(x[0]), w.name(weight, "weight"), *([] if bias is None else [w.name(bias, "bias")])]
    return w.node("Conv", names, **_attributes(op, op.kernel // 2), **({"group": op.groups} if op.groups > 1 else {}))


def _norm_onnx(w: Writing, op: Norm, x: Sequence[Array], own: Mapping[str, Floats], norm: Affine | None) -> str:
    scale, shift = (value[:, None, None] for value in affine(*own.values(), eps=op.eps))
    return w.node("Add", [w.node("Mul", [x[0], w.name(scale, "scale")], "scaled"), w.name(shift, "shift")])


def _pool_onnx(w: Writing, op: Pool, x: Sequence[Array], own: Mapping[str, Floats], norm: Affine | None) -> str:
    if op.function == "mean":
        return w.node("AveragePool", x, **_attributes(op, 0), ceil_mode=1)
    return w.node("MaxPool", x, **_attributes(op, op.kernel // 2))


def _attributes(op: Conv | Pool, pad: int) -> dict[str, list[int]]:
    """ONNX attributes of a window that differ from their defaults."""
    strides = {"strides": [op.stride] * 2} if op.stride > 1 else {}
    return {"kernel_shape": [op.kernel] * 2, **strides, **({"pads": [pad] * 4} if pad else {})}


def _pooled(op: Pool, x: Sequence[Tensor], mode: Mode, inplace: bool) -> Tensor:
    if op.function == "max":
        return F.max_pool2d(x[0], op.kernel, op.stride, op.kernel // 2)
    return F.avg_pool2d(x[0], op.kernel, op.stride, ceil_mode=True)


def _pool_module(op: Pool, rate: float, inplace: bool) -> nn.Module:
    if op.function == "max":
        return nn.MaxPool2d(op.kernel, op.stride, op.kernel // 2)
    return nn.AvgPool2d(op.kernel, op.stride, ceil_mode=True)


def _pool_text(op: Pool, n: Mapping[str, str]) -> str:
    if op.function == "max":
        return f"nn.MaxPool2d({n['kernel']}, {n['stride']}, {n['kernel']} // 2)"
    return f"nn.AvgPool2d({n['kernel']}, {n['stride']}, ceil_mode=True)"


OPERATIONS: dict[type[Op], Row] = {
    Conv: Row(
        lambda op, rate, inplace: nn.Conv2d(
            op.in_channels, op.shape[0], op.kernel, op.stride, op.kernel // 2, groups=op.groups, bias=op.bias
        ),
        _conv_text,
        _conv_onnx,
        elastic=ElasticConv,
        numbers=_conv_numbers,
    ),
    Norm: Row(
        lambda op, rate, inplace: nn.BatchNorm2d(op.shape[0], eps=op.eps),
        lambda op, n: f"nn.BatchNorm2d({n['channels']}, eps={op.eps!r})",
        _norm_onnx,
        elastic=ElasticNorm,
        numbers=lambda op: {"channels": op.shape[0]},
    ),
    Linear: Row(
        lambda op, rate, inplace: nn.Linear(op.in_features, op.shape[0]),
        lambda op, n: f"nn.Linear({n['in_features']}, {n['features']})",
        lambda w, op, x, own, norm: w.node("Gemm", [x[0], *(w.name(own[name], name) for name in own)], transB=1),
        elastic=ElasticLinear,
        numbers=lambda op: {"in_features": op.in_features, "features": op.shape[0]},
    ),
    Activation: Row(
        lambda op, rate, inplace: ACTIVATIONS[op.function][1](inplace),
        lambda op, n: f"F.{ACTIVATIONS[op.function][0]}({{0}})",
        lambda w, op, x, own, norm: str(CALLS[ACTIVATIONS[op.function][0]](w, x[0])),
        lambda op, x, mode, inplace: vars(F)[ACTIVATIONS[op.function][0]](x[0], inplace=inplace),
    ),
    Pool: Row(_pool_module, _pool_text, _pool_onnx, _pooled, numbers=_window),
    GlobalPool: Row(
        lambda op, rate, inplace: nn.AdaptiveAvgPool2d(1),
        lambda op, n: "F.adaptive_avg_pool2d({0}, 1)",
        "GlobalAveragePool",
        lambda op, x, mode, inplace: F.adaptive_avg_pool2d(x[0], 1),
    ),
    Flatten: Row(
        lambda op, rate, inplace: nn.Flatten(),
        lambda op, n: "{0}.flatten(1)",
        "Flatten",
        lambda op, x, mode, inplace: x[0].flatten(1),
    ),
    Dropout: Row(
        lambda op, rate, inplace: nn.Dropout(rate),
        lambda op, n: "nn.Dropout(0.0)",
        lambda w, op, x, own, norm: w.name(x[0]),
        lambda op, x, mode, inplace: F.dropout(x[0], mode.dropout, mode.training),
    ),
    Add: Row(lambda op, rate, inplace: operator.add, lambda op, n: "{0} + {1}", "Add", lambda op, x, mode, inplace: x[0] + x[1]),
    Scale: Row(lambda op, rate, inplace: operator.mul, lambda op, n: "{0} * {1}", "Mul", lambda op, x, mode, inplace: x[0] * x[1]),
}
