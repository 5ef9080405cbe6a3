"""Operations of users' own networks, run on a supernet's tensors or added to a plain network.

ATen operations from `torch.export` are called through torch's public functions with the same arguments, so that FLOP counters,
`torch.compile` and exporters see the same operations as in the model itself.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..errors import CheckpointError
from ..graph import each
from ..ops import Batch, Call, Input, Op, Shape, Weight, leaves
from ..plan import Plan, Segment
from .layers import interpolated, matrix_name, smaller_kernel, some_images, synchronized_norm

FEW_CHANNELS = 8  # fewer do not fill a vector register
NOWHERE = torch.empty(0)  # for constants that do not depend on the device
TRAINING = "<training>"
STATISTICS = "running_mean", "running_var"
NORM = "batch_norm.default"
NORM_LAYERS = {3: nn.BatchNorm3d, 2: nn.BatchNorm2d, 1: nn.BatchNorm1d, 0: nn.BatchNorm1d}  # by the dimensions of a channel
OVERLOADS = {"default", "Tensor", "Scalar", "dim", "int", "Tensor_Scalar"}  # torch's functions distinguish these by their arguments
FUNCTIONAL = (
    "linear", "pad", "gelu", "silu", "hardtanh", "hardswish", "hardsigmoid", "relu6", "mish", "elu", "leaky_relu", "softplus",
    "one_hot", "scaled_dot_product_attention", "avg_pool2d", "adaptive_avg_pool2d",
)  # fmt: skip
NAMED: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem,
    **{name: vars(F)[name] for name in FUNCTIONAL},
    "log_sigmoid": F.logsigmoid,
    "_unsafe_view": torch.reshape,
    "view": torch.reshape,  # the memory format may differ from the one in the trace
    **{name: getattr(torch.Tensor, name) for name in ("expand", "type_as", "repeat", "contiguous")},
    # given the torch.ops functions, torch's ONNX exporter would treat the batch size as a constant
    **{name: getattr(torch.Tensor, name) for name in ("new_zeros", "new_ones", "new_full", "new_empty")},
}


def function_of(target: str) -> Callable[..., Any]:
    """The function that computes an operation from ATen's arguments: a public function of torch, or else ATen's own."""
    kind, _, overload = target.partition(".")
    if kind in NAMED:
        return NAMED[kind]
    space, _, name = kind.rpartition("::")
    if not space and name in vars(torch) and overload in OVERLOADS:
        return vars(torch)[name]  # type: ignore[no-any-return]
    return getattr(getattr(getattr(torch.ops, space or "aten"), name), overload)  # type: ignore[no-any-return]


def constant(text: str, source: Tensor) -> Any:
    """The value of a text argument; "<device>" and "<dtype>" are those of `source`."""
    match text:
        case "<device>":
            return source.device
        case "<dtype>":
            return source.dtype
        case _ if text.startswith("dtype:"):
            return vars(torch)[text.removeprefix("dtype:")]
    return text


@dataclass(frozen=True, slots=True)
class Mode:
    """How a network runs.

    Args:
        training: whether it is in train mode.
        sync_norm: in train mode, batch norms use statistics over all processes.
        batch_statistics: in eval mode, batch norms use the statistics of the batch.
        drop_path: in train mode, drop rate of branches without a rate of their own.
        dropout: in train mode, rate of `ops.Dropout`.
    """

    training: bool
    sync_norm: bool = False
    batch_statistics: bool = False
    drop_path: float = 0.0
    dropout: float = 0.0


Step = Callable[[Mapping[str, Any], Mapping[str, Tensor], Mode], Any]


def prepared(op: Call) -> Step:
    """A function that computes a call, with its arguments analyzed in advance.

    It takes the results of earlier operations by name ("in" is the segment's input, (batch, …)), the supernet's tensors by name,
    and the mode. In train mode, a batch norm uses the statistics of its batch and does not update the running ones.
    """
    if op.target == "output":
        return _maker(op.args[0])
    if is_norm(op):
        return _norm(op)
    if part := _strided_part(op):
        plain, source = prepared(_without_strides(op)), op.inputs[0]
        return lambda values, tensors, mode: plain({**values, source: values[source][part]}, tensors, mode)
    function = function_of(op.target)
    args = [None if _changes(arg) else constant(arg, NOWHERE) if isinstance(arg, str) else arg for arg in op.args]
    makers = [(i, _maker(arg)) for i, arg in enumerate(op.args) if _changes(arg)]
    named = [(name, _maker(value)) for name, value in op.kwargs]
    if op.dropped is not None:
        makers = [(i, _some_images(make, op.dropped[1]) if i == op.dropped[0] else make) for i, make in makers]

    def step(values: Mapping[str, Any], tensors: Mapping[str, Tensor], mode: Mode) -> Any:
        own = args.copy()
        for i, make in makers:
            own[i] = make(values, tensors, mode)
        if named:
            return function(*own, **{name: make(values, tensors, mode) for name, make in named})
        return function(*own)

    return step


def _some_images(make: Step, rate: float | None) -> Step:
    """In train mode, drop an argument for some images, at the given rate or the mode's."""

    def step(values: Mapping[str, Any], tensors: Mapping[str, Tensor], mode: Mode) -> Tensor:
        x: Tensor = make(values, tensors, mode)
        share = mode.drop_path if rate is None else rate
        return some_images(x, share) if mode.training and share else x

    return step


def _strided_part(op: Call) -> tuple[slice, ...] | None:
    """The part of its input that a strided pointwise convolution with few channels reads.

    The convolution is run on this part without strides, because oneDNN writes out of bounds in the gradient of a strided one in
    channels-last format (torch 2.14.1: `Conv2d(3, 32, 1, stride=2)` crashes on images of even size).
    """
    match op.target, op.args:
        case "conv2d.default", (_, Weight(shape=(_, inside, 1, 1)), _, (*strides,), (*padding,), _, 1) if (
            inside < FEW_CHANNELS and max(strides) > 1 and not any(padding)
        ):
            return (slice(None), slice(None), *(slice(None, None, stride) for stride in strides))
    return None


def _without_strides(op: Call) -> Call:
    return replace(op, args=(*op.args[:3], (1, 1), *op.args[4:]))


def is_norm(op: Call) -> bool:
    """Whether it is a batch norm with running statistics, its arguments 3 and 4."""
    return op.target == NORM and op.args[5] == TRAINING


def with_dropout(segment: Segment, rate: float) -> Segment:
    """Add dropout before the last convolution or linear layer of a network's last segment, if there is none."""
    layers = [i for i, op in enumerate(segment.ops) if isinstance(op, Call) and op.target in ("linear.default", "conv2d.default")]
    if not layers:
        return segment
    last = segment.ops[layers[-1]]
    assert isinstance(last, Call)
    source = next((op for op in segment.ops if op.name == last.inputs[0]), None)
    if isinstance(source, Call) and source.target == "dropout.default":
        if source.args[1]:
            return segment
        own = replace(source, args=(source.args[0], rate, TRAINING))
        return replace(segment, ops=tuple(own if op is source else op for op in segment.ops))
    shape = segment.in_shape if source is None else source.shape
    added = Call("dropped", last.inputs[:1], shape, "dropout.default", (Input(last.inputs[0]), rate, TRAINING), fused=True)
    reading = replace(last, inputs=("dropped",), args=(Input("dropped"), *last.args[1:]))
    return replace(segment, ops=(*segment.ops[: layers[-1]], added, reading, *segment.ops[layers[-1] + 1 :]))


def with_drop_path(segment: Segment) -> Segment:
    """Add stochastic depth at the mode's rate to the residual sums of a segment that have no rate of their own."""

    def dropped(op: Op) -> Op:
        if not isinstance(op, Call) or op.whole or op.dropped is not None or op.name not in segment.branches:
            return op
        return replace(op, dropped=(segment.branches[op.name], None))

    return replace(segment, ops=tuple(map(dropped, segment.ops)))


def _norm(op: Call) -> Step:
    """A function that computes a batch norm."""
    makers = [_maker(arg) for arg in op.args[:5]]
    momentum, eps = op.args[6:8]

    def step(values: Mapping[str, Any], tensors: Mapping[str, Tensor], mode: Mode) -> Tensor:
        if not (mode.training or mode.batch_statistics):
            x, weight, bias, mean, var = (make(values, tensors, mode) for make in makers)
            return F.batch_norm(x, mean, var, weight, bias, False, momentum, eps)
        x, weight, bias = (make(values, tensors, mode) for make in makers[:3])
        if mode.sync_norm:
            return synchronized_norm(x, weight, bias, eps)
        return F.batch_norm(x, None, None, weight, bias, True, eps=eps)

    return step


def _changes(arg: Any) -> bool:
    """Whether an argument may depend on the images, the weights or the mode."""
    return isinstance(arg, Input | Weight | Batch | tuple | Mapping) or (isinstance(arg, str) and arg.startswith("<"))


def _maker(arg: Any) -> Step:
    """A function that computes an argument."""
    match arg:
        case Input(name):
            return lambda values, tensors, mode: values[name]
        case Weight():
            part = _cutter(arg)
            return lambda values, tensors, mode: part(tensors)
        case Batch(times):
            return lambda values, tensors, mode: values["in"].shape[0] * times
        case "<training>":
            return lambda values, tensors, mode: mode.training
        case "<device>" | "<dtype>":
            return lambda values, tensors, mode: constant(arg, values["in"])
        case tuple() if any(_changes(item) for item in arg):
            makers = [_maker(item) for item in arg]
            return lambda values, tensors, mode: tuple(make(values, tensors, mode) for make in makers)
        case Mapping():
            by_name = {name: _maker(value) for name, value in arg.items()}
            return lambda values, tensors, mode: {name: make(values, tensors, mode) for name, make in by_name.items()}
        case str():
            arg = constant(arg, NOWHERE)
    return lambda values, tensors, mode: arg


def state_tensor(state: Mapping[str, Tensor], name: str, shape: Shape) -> Tensor:
    """A tensor of a network's state dict, on the CPU.

    Raises:
        CheckpointError: it is missing, or does not have the plan's shape.
    """
    if name not in state:
        raise CheckpointError(f"{name} is missing in the network: it was not built from this plan")
    found = tuple(state[name].shape)
    if found != shape:
        raise CheckpointError(f"{name} has shape {found}, the plan needs {shape}: it was not built from this plan")
    return state[name].detach().cpu()


def cut_weight(weight: Weight, tensors: Mapping[str, Tensor]) -> Tensor:
    """A call's slice of a tensor of the supernet; a view if it is contiguous and not interpolated."""
    return _cutter(weight)(tensors)


def _cutter(weight: Weight) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """`cut_weight` as a function, with its ranges analyzed in advance, as it is called thousands of times."""
    name, cuts = weight.name, [(dim, ranges) for dim, ranges in enumerate(weight.cut) if ranges is not None]
    if grid := weight.grid:
        stored = _cutter(weight.stored)
        return lambda tensors: interpolated(stored(tensors), grid)
    if weight.kernels:
        whole = _cutter(replace(weight, kernels=(), shape=(*weight.shape[:2], *weight.kernels[:1] * 2)))
        return lambda tensors: _smaller_kernel(weight, whole(tensors), tensors)
    if not cuts:
        return lambda tensors: tensors[name]
    if any(len(ranges) > 1 for _, ranges in cuts):
        return lambda tensors: _gathered(tensors[name], cuts)
    shape, starts = weight.shape, [(dim, ranges[0][0]) for dim, ranges in cuts if ranges[0][0]]

    def sliced(tensors: Mapping[str, Tensor]) -> Tensor:
        """Slice in one operation, whose gradient needs a single tensor; slices by dimension would need one each."""
        tensor = tensors[name]
        strides = tensor.stride()
        return tensor.as_strided(shape, strides, tensor.storage_offset() + sum(start * strides[dim] for dim, start in starts))

    return sliced


def _gathered(tensor: Tensor, cuts: Sequence[tuple[int, tuple[tuple[int, int], ...]]]) -> Tensor:
    for dim, ranges in cuts:
        tensor = torch.cat([tensor.narrow(dim, start, stop - start) for start, stop in ranges], dim)
    return tensor


def _smaller_kernel(weight: Weight, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    for big, small in pairwise(weight.kernels):
        tensor = smaller_kernel(tensor, tensors[matrix_name(big, small, weight.name)], small)
    return tensor


def module_place(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that contains a dotted name, created if missing, and the last part of the name."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root, leaf


def put_tensor(root: nn.Module, name: str, tensor: Tensor, trained: bool) -> None:
    """Register a parameter or buffer under a dotted name, creating the modules on the way."""
    root, leaf = module_place(root, name)
    if leaf in {*dict(root.named_parameters(recurse=False)), *dict(root.named_buffers(recurse=False))}:
        return
    if trained:
        root.register_parameter(leaf, nn.Parameter(tensor))
    else:
        root.register_buffer(leaf, tensor)


def put_weight(root: nn.Module, weight: Weight, target: str) -> None:
    """Register a newly initialized tensor of a supernet, and the matrices for its smaller kernels."""
    tensor = torch.zeros(weight.stored.shape, dtype=vars(torch)[weight.dtype])
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
        put_tensor(root, matrix_name(big, small, weight.name), torch.eye(small**2), True)


def channels_last_(root: nn.Module, plan: Plan) -> None:
    """Convert the weights of 2D convolutions to channels-last; the dimensions of other tensors may have other meanings."""
    own = {**dict(root.named_parameters(remove_duplicate=False)), **dict(root.named_buffers(remove_duplicate=False))}
    for op in plan.ops:
        if isinstance(op, Call) and op.target.startswith(("conv2d", "conv_transpose2d")) and isinstance(op.args[1], Weight):
            tensor = own[op.args[1].name]
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def modules_of(plan: Plan) -> dict[str, nn.Module]:
    """Torch layers by name: each holds all tensors below its name and replaces the calls that use them."""
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
        key = op.target, each(op.args[1:], _as_counted), op.kwargs
        refused |= {name} if made.setdefault(name, key) != key else set()
        layers.setdefault(name, layer)
    inside = {name for name in layers for other in (*layers, *refused) if other.startswith(f"{name}.")}
    return {name: layer for name, layer in layers.items() if name not in refused | inside}


def _as_counted(leaf: Any) -> Any:
    """A weight as in its first use; in later uses its parameters are not counted again."""
    return replace(leaf, counted=True) if isinstance(leaf, Weight) else leaf


def _layer(op: Call) -> nn.Module | None:
    """A torch layer for a call, if there is one with these arguments."""
    if any(isinstance(leaf, Input) for leaf in leaves((op.args[1:], op.kwargs))):
        return None  # its weight or bias is computed
    weights = [arg for arg in op.args if isinstance(arg, Weight)]
    names = [weight.name.rpartition(".") for weight in weights]
    op = _without_strides(op) if _strided_part(op) else op
    if len({name for name, _, _ in names}) != 1 or not names[0][0]:
        return None
    leaf = [last for _, _, last in names]
    if any(weight.trained != (last not in STATISTICS) for weight, last in zip(weights, leaf, strict=True)):
        return None
    weight, bias = (*op.args, None, None)[1:3]
    affine = isinstance(weight, Weight) and (leaf == ["weight", "bias"] or (leaf == ["weight"] and bias is None))
    match op.target, op.args:
        case "conv2d.default", (Input(), Weight(shape=(out, inside, *kernel)), _, stride, padding, dilation, groups) if affine:
            return nn.Conv2d(
                inside * groups, out, tuple(kernel), stride, padding, dilation, groups, bias=len(leaf) == 2  # type: ignore[arg-type]
            )  # fmt: skip
        case "linear.default", (Input(), Weight(shape=(out, inside)), *_) if affine:
            return nn.Linear(inside, out, bias=len(leaf) == 2)
        case "batch_norm.default", (Input(), gain, _, Weight(shape=(channels,)), _, "<training>", momentum, eps, _) if leaf == [
            *(["weight", "bias"] if gain else []), *STATISTICS
        ]:  # fmt: skip
            return NORM_LAYERS[len(op.shape) - 1 - op.whole](channels, eps=eps, momentum=momentum, affine=gain is not None)
        case "layer_norm.default", (Input(), shape, Weight(), Weight(), eps, *_) if leaf == ["weight", "bias"]:
            return nn.LayerNorm(list(shape), eps=eps)
    return None


def add_call(graph: fx.Graph, root: nn.Module, op: Call, values: Mapping[str, fx.Node]) -> Any:
    """Add a call to a plain network's graph; return its node, or for "output" the network's nested results.

    Args:
        root: holds the layers of `modules_of` and all other tensors by name.
        op: the call.
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
                return constant(leaf, NOWHERE)
        return leaf

    if part := _strided_part(op):
        cropped = graph.call_function(operator.getitem, (values[op.inputs[0]], part))
        return add_call(graph, root, _without_strides(op), {**values, op.inputs[0]: cropped})
    for name in {weight.name.rpartition(".")[0] for weight in op.tensors}:
        if name and type(root.get_submodule(name)) is not nn.Module:
            return graph.call_module(name, (values[op.inputs[0]],))
    if op.target == "output":
        return each(op.args[0], resolved)
    args, kwargs = each(op.args, resolved), {name: each(value, resolved) for name, value in op.kwargs}
    function = function_of(op.target)
    if isinstance(function, MethodDescriptorType):  # as functions, they make fx write code that cannot be unpickled
        return graph.call_method(function.__name__, args, kwargs)
    return graph.call_function(function, args, kwargs)
