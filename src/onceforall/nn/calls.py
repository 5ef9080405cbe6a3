"""Operations of networks that someone brought, run on a supernet's tensors or put into a plain network.

What `torch.export` names in ATen is called by torch's public functions of the same arguments, so that counters, `torch.compile` and
other exporters see what they would see of the model itself.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..graph import each
from ..ops import Batch, Call, Input, Weight, leaves
from ..plan import Plan
from .layers import matrix_name, synchronised_norm

__all__ = ["STATISTICS", "add_call", "cut", "function_of", "modules_of", "put_tensor", "put_weight", "run"]

TRAINING = "<training>"
STATISTICS = "running_mean", "running_var"
NORM = "batch_norm.default"
OVERLOADS = {
    "default",
    "Tensor",
    "Scalar",
    "dim",
    "int",
    "Tensor_Scalar",
}  # that torch's functions tell apart by what they are given
NAMED: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem,
    "linear": F.linear,
    "pad": F.pad,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "relu6": F.relu6,
    "mish": F.mish,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "one_hot": F.one_hot,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
    "view": torch.reshape,  # other memory formats than the one it was read with
    "expand": torch.Tensor.expand,
    "contiguous": torch.Tensor.contiguous,
    "type_as": torch.Tensor.type_as,
    "repeat": torch.Tensor.repeat,
}


def function_of(target: str) -> Callable[..., Any]:
    """What computes an operation, called with ATen's arguments: a public function of torch, else ATen's own."""
    kind, _, overload = target.partition(".")
    if kind in NAMED:
        return NAMED[kind]
    space, _, name = kind.rpartition("::")
    if not space and name in vars(torch) and overload in OVERLOADS:
        return vars(torch)[name]  # type: ignore[no-any-return]
    return getattr(getattr(getattr(torch.ops, space or "aten"), name), overload)  # type: ignore[no-any-return]


def constant(text: str, source: Tensor) -> Any:
    """What a text among the arguments stands for, where `source` is computed with."""
    match text:
        case "<device>":
            return source.device
        case "<dtype>":
            return source.dtype
        case _ if text.startswith("dtype:"):
            return vars(torch)[text.removeprefix("dtype:")]
    return text


def run(op: Call, values: Mapping[str, Any], tensors: Mapping[str, Tensor], training: bool, sync_norm: bool = False) -> Any:
    """The result of a call.

    In train mode a batch norm takes the statistics of its batch and leaves the running ones alone.

    Args:
        op: what to compute.
        values: results of earlier operations; "in" is the segment's input, (batch, …).
        tensors: of the supernet, by name.
        training: the mode.
        sync_norm: in train mode, batch norms take the statistics of the batches of all processes.
    """
    source = values["in"]

    def resolved(leaf: Any) -> Any:
        match leaf:
            case Input(name):
                return values[name]
            case Weight():
                return cut(leaf, tensors)
            case Batch(times):
                return source.shape[0] * times
            case "<training>":
                return training
            case str():
                return constant(leaf, source)
        return leaf

    if op.target == "output":
        return each(op.args[0], resolved)
    args, kwargs = each(op.args, resolved), {name: each(value, resolved) for name, value in op.kwargs}
    if op.target == NORM and op.args[5] == TRAINING and training:
        x, weight, bias, _, _, _, _, eps, _ = args
        if sync_norm:
            return synchronised_norm(x, weight, bias, eps)
        return F.batch_norm(x, None, None, weight, bias, True, eps=eps)
    return function_of(op.target)(*args, **kwargs)


def cut(weight: Weight, tensors: Mapping[str, Tensor]) -> Tensor:
    """A call's own part of a tensor of the supernet: a view where it is in one piece."""
    tensor = tensors[weight.name]
    for dim, ranges in enumerate(weight.cut):
        if ranges is None:
            continue
        parts = [tensor.narrow(dim, start, stop - start) for start, stop in ranges]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    for big, small in pairwise(weight.kernels):
        edge = (big - small) // 2
        centre = tensor[:, :, edge : edge + small, edge : edge + small].flatten(2)
        matrix = tensors[f"{weight.name.removesuffix('weight')}{matrix_name(big, small)}"]
        tensor = F.linear(centre, matrix).view(*tensor.shape[:2], small, small)
    return tensor


def put_tensor(root: nn.Module, name: str, tensor: Tensor, trained: bool) -> None:
    """Register a parameter or buffer under a dotted name, making the modules on the way."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if leaf in {*dict(root.named_parameters(recurse=False)), *dict(root.named_buffers(recurse=False))}:
        return
    if trained:
        root.register_parameter(leaf, nn.Parameter(tensor))
    else:
        root.register_buffer(leaf, tensor)


def put_weight(root: nn.Module, weight: Weight, target: str) -> None:
    """Register a tensor of a supernet with fresh values, and the matrices that make its smaller kernels."""
    tensor = torch.zeros(weight.shape, dtype=vars(torch)[weight.dtype])
    if weight.trained:
        if len(weight.shape) > 2 and target.startswith("conv"):
            nn.init.kaiming_normal_(tensor, mode="fan_out", nonlinearity="relu")
        elif len(weight.shape) > 1:
            nn.init.trunc_normal_(tensor, std=0.02)
        elif weight.name.endswith("weight"):
            tensor.fill_(1)
    elif weight.name.endswith("running_var"):
        tensor.fill_(1)
    put_tensor(root, weight.name, tensor, weight.trained)
    for big, small in pairwise(reversed(weight.sizes)):
        name = f"{weight.name.removesuffix('weight')}{matrix_name(big, small)}"
        put_tensor(root, name, torch.eye(small**2), True)


def modules_of(plan: Plan) -> dict[str, nn.Module]:
    """Layers of torch that hold all tensors of their names and do the work of the calls that use these, by name."""
    layers: dict[str, nn.Module] = {}
    made: dict[str, tuple[Any, ...]] = {}
    refused: set[str] = set()
    for op in plan.ops:
        if not isinstance(op, Call):
            continue
        layer = _layer(op)
        names = {weight.name.rpartition(".")[0] for weight in op.tensors}
        if layer is None:
            refused |= names
            continue
        (name,) = names
        key = op.target, op.args[1:], op.kwargs
        refused |= {name} if made.setdefault(name, key) != key else set()
        layers.setdefault(name, layer)
    inside = {name for name in layers for other in (*layers, *refused) if other.startswith(f"{name}.")}
    return {name: layer for name, layer in layers.items() if name not in refused | inside}


LEFT_OUT: dict[str, tuple[Any, ...]] = {  # values of arguments after the first two, which may not be given
    "conv2d.default": (None, (1, 1), (0, 0), (1, 1), 1),
    "linear.default": (None,),
    "layer_norm.default": (None, None, 1e-5, True),
}


def _layer(op: Call) -> nn.Module | None:
    """A layer of torch for a call, if there is one with these arguments."""
    given, usual = op.args, LEFT_OUT.get(op.target, ())
    if usual:
        op = replace(op, args=(*given, *usual[len(given) - 2 :]))
    if any(isinstance(leaf, Input) for leaf in leaves((op.args[1:], dict(op.kwargs)))):
        return None  # a weight or bias that is computed
    weights = [arg for arg in op.args if isinstance(arg, Weight)]
    names = [weight.name.rpartition(".") for weight in weights]
    if len({name for name, _, _ in names}) != 1 or not names[0][0] or any(not weight.trained for weight in weights[:2]):
        return None
    leaf = [last for _, _, last in names]
    affine = leaf in (["weight"], ["weight", "bias"]) and isinstance(op.args[1], Weight)
    match op.target, op.args:
        case "conv2d.default", (Input(), Weight(shape=(out, inside, *kernel)), _, stride, padding, dilation, groups) if affine:
            return nn.Conv2d(
                inside * groups, out, tuple(kernel), stride, padding, dilation, groups, bias=len(leaf) == 2  # type: ignore[arg-type]
            )  # fmt: skip
        case "linear.default", (Input(), Weight(shape=(out, inside)), *_) if affine:
            return nn.Linear(inside, out, bias=len(leaf) == 2)
        case "batch_norm.default", (Input(), Weight(shape=(channels,)), _, _, _, "<training>", momentum, eps, _) if leaf == [
            "weight",
            "bias",
            "running_mean",
            "running_var",
        ]:
            rows = op.shape[0] != channels or len(op.shape) == 4  # of an image, which stand first
            after = len(op.shape) - (2 if rows else 1)
            kinds: dict[int, Any] = {2: nn.BatchNorm2d, 1: nn.BatchNorm1d, 0: nn.BatchNorm1d}
            return kinds[after](channels, eps=eps, momentum=momentum) if after in kinds else None
        case "layer_norm.default", (Input(), shape, Weight(), Weight(), eps, *_) if leaf == ["weight", "bias"]:
            return nn.LayerNorm(list(shape), eps=eps)
    return None


def add_call(graph: fx.Graph, root: nn.Module, op: Call, values: Mapping[str, fx.Node]) -> Any:
    """Add a call to a plain network's graph; return its node, or what the network returns, for "output".

    Args:
        graph: that is added to.
        root: holds the layers of `modules_of`, and all other tensors, by their names.
        op: what to compute.
        values: nodes of earlier operations of the segment; "in" is the segment's input.
    """
    source = values["in"]

    def resolved(leaf: Any) -> Any:
        match leaf:
            case Input(name):
                return values[name]
            case Weight(name=name):
                return graph.get_attr(name)
            case Batch(times):
                size = graph.call_method("size", (source, 0))
                return size if times == 1 else graph.call_function(operator.mul, (size, times))
            case "<training>":
                return graph.get_attr("training")
            case "<device>" | "<dtype>":
                return graph.call_function(getattr, (source, leaf.strip("<>")))
            case str():
                return constant(leaf, torch.empty(0))
        return leaf

    for name in {weight.name.rpartition(".")[0] for weight in op.tensors}:
        if name and type(root.get_submodule(name)) is not nn.Module:
            return graph.call_module(name, (values[op.inputs[0]],))
    if op.target == "output":
        return each(op.args[0], resolved)
    args, kwargs = each(op.args, resolved), {name: each(value, resolved) for name, value in op.kwargs}
    return graph.call_function(function_of(op.target), args, kwargs)
