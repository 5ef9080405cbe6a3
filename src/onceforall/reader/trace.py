"""The operations of a model as `torch.export` gives them at every resolution; what depends on batch and resolution is marked.

The batch has a size that occurs nowhere else: a number that is a multiple of it is so many for every image. Nothing is computed,
since model and images are on the meta device.
"""

import copy
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import ModelError
from ..graph import Own, Size, Value
from ..ops import leaves

__all__ = ["BATCH", "Step", "Trace", "trace"]

BATCH = 1009  # a prime, larger than any number of heads, groups or windows
MOST = 2**31  # "to the end" of a slice is larger
SAME = {"lift_fresh_copy", "alias", "contiguous"}  # what they return has the same numbers
DROPPED = {"_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_size"}
COMPLETED = {"conv1d", "conv2d", "conv3d", "linear", "layer_norm"}  # whose arguments are written out with their defaults
TRAINING = {"batch_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2}  # where the mode stands among the arguments


@dataclass
class Step:
    """One operation; arguments are marked as in `onceforall.graph.Node`.

    Args:
        op: with its overload.
        args: numbers are `Size`s where they depend on batch or resolution.
        shapes: of each result, at the largest resolution, in numbers.
        sizes: the same as `Size`s.
        several: the results are a tuple.
    """

    name: str
    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: list[tuple[int, ...]]
    sizes: list[tuple[Size, ...]]
    dtype: str
    module: str
    several: bool = False

    @property
    def kind(self) -> str:
        return self.op.split(".")[0]

    @property
    def reads(self) -> list[str]:
        return [leaf.name for leaf in leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Value)]


@dataclass
class Trace:
    """All steps in order, the tensors that they use by name (parameters are `nn.Parameter`), and what comes out."""

    steps: list[Step]
    tensors: dict[str, Tensor]
    output: Any
    resolutions: tuple[int, ...] = field(default=())


def trace(model: nn.Module, resolutions: Sequence[int]) -> Trace:
    """What a model in eval mode does with images (batch, 3, resolution, resolution).

    Raises:
        ModelError: torch.export cannot read it, or it does something else at another resolution.
    """
    try:
        return _trace(model, resolutions, torch.device("meta"))
    except _NoNumbersError:  # of tensors that the model makes while it runs; nothing is computed there either
        return _trace(model, resolutions, torch.device("cpu"))


def _trace(model: nn.Module, resolutions: Sequence[int], device: torch.device) -> Trace:
    """On a copy of the model on a device."""
    meta = _copied(model, device)
    try:
        exports = [
            _export(meta.double(), pixels) for pixels in resolutions
        ]  # in which a type that was asked for by name stands out
    except ModelError:
        meta = _copied(model, device)
        exports = [_export(meta, pixels) for pixels in resolutions]
    dtype = next((t.dtype for t in (*meta.parameters(), *meta.buffers()) if t.is_floating_point()), torch.float32)
    raw = [_Reading(model, exported, dtype) for exported in exports]
    for reading, pixels in zip(raw, resolutions, strict=True):
        if [(s.name, s.op) for s in reading.steps] != [(s.name, s.op) for s in raw[-1].steps]:
            raise ModelError(
                f"the model does other operations at {pixels} pixels than at {resolutions[-1]}: give only resolutions at which it "
                "does the same, or one"
            )
    steps = []
    for several in zip(*(reading.steps for reading in raw), strict=True):
        last = several[-1]
        sizes = [
            tuple(_size(numbers, f"the shape of {last.name}") for numbers in zip(*dims, strict=True))
            for dims in zip(*(step.shapes for step in several), strict=True)
        ]
        args = _merged([step.args for step in several], last.name)
        kwargs = _merged([step.kwargs for step in several], last.name)
        steps.append(Step(last.name, last.op, args, kwargs, last.shapes, sizes, last.dtype, last.module, last.several))
    alive = _alive(steps, raw[-1].output)
    used = {leaf.name for step in alive for leaf in leaves((step.args, dict(step.kwargs))) if isinstance(leaf, Own)}
    used |= {leaf.name for leaf in leaves(raw[-1].output) if isinstance(leaf, Own)}
    tensors = {name: tensor for name, tensor in raw[-1].tensors.items() if name in used}
    return Trace(alive, tensors, raw[-1].output, tuple(resolutions))


class _NoNumbersError(Exception):
    """A constant was made on the meta device."""


def _copied(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy in eval mode, on the meta device without numbers; the model stays as it is."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("the model is a TorchScript module, which cannot be read: give the nn.Module that it was made of")
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                memo[id(value)] = value.detach().to(device, copy=True)
    for tensor in (*model.parameters(), *model.buffers()):
        made = torch.empty_like(tensor, device=device, memory_format=torch.contiguous_format)
        memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
    try:
        return copy.deepcopy(model, memo).eval()
    except Exception as error:  # of whatever the model holds
        raise ModelError(f"the model cannot be copied: {type(error).__name__}: {_first_line(error)}") from None


def _export(model: nn.Module, pixels: int) -> torch.export.ExportedProgram:
    like = next(iter((*model.parameters(), *model.buffers())), torch.zeros(()))
    images = torch.empty((BATCH, 3, pixels, pixels), device=like.device, dtype=like.dtype if like.is_floating_point() else None)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.export.export(model, (images,), strict=False)
            return exported.run_decompositions({}) if _writes_through_views(exported) else exported
    except Exception as error:  # torch.export's own classes are many, and the model may raise anything
        where = _module_of(error)
        raise ModelError(
            f"torch.export cannot read {type(model).__name__} with images of {pixels} pixels{where}: {type(error).__name__}: "
            f"{_first_line(error)}; give a module that takes one batch of images (n, 3, {pixels}, {pixels}), whatever they show"
        ) from error


def _writes_through_views(exported: torch.export.ExportedProgram) -> bool:
    """Part of a tensor is overwritten, so that its name alone does not say what it holds."""

    def schema(node: Any) -> Any:
        return node.target._schema if isinstance(node, fx.Node) and isinstance(node.target, torch._ops.OpOverload) else None

    for node in exported.graph.nodes:
        own, read = schema(node), schema(node.args[0]) if node.args else None
        if own is None or read is None or not own.is_mutable or read.is_mutable:
            continue
        if any(result.alias_info is not None for result in read.returns):  # a view
            return True
    return False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no reason given"


def _module_of(error: BaseException) -> str:
    """The innermost function of the model's own code that an error went through."""
    found, at = "", error.__traceback__
    while at is not None:
        frame = at.tb_frame
        own = frame.f_locals.get("self")
        if isinstance(own, nn.Module) and not type(own).__module__.startswith(("torch.nn", "torch.export", "torch._", "torch.fx")):
            found = f" ({type(own).__name__}, line {at.tb_lineno} of {frame.f_code.co_name})"
        at = at.tb_next
    return found


class _Reading:
    """The steps of one exported program, numbers as they are at its resolution."""

    def __init__(self, model: nn.Module, exported: torch.export.ExportedProgram, dtype: torch.dtype) -> None:
        self.steps: list[Step] = []
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[fx.Node, Any] = {}
        self.dtype = dtype
        owned = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
        first_name = {id(tensor): name for name, tensor in reversed(owned.items())}
        targets = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
        constants = exported.constants
        for node in exported.graph.nodes:
            if node.op == "placeholder":
                spec = targets[node.name]
                if spec.kind.name == "USER_INPUT":
                    self.names[node] = Value("x")
                    continue
                target = str(spec.target)
                tensor = owned.get(target)
                if tensor is None:
                    tensor = _value_of(model, target, constants)
                name = first_name.get(id(tensor), target)
                self.tensors[name] = tensor
                self.names[node] = Own(name)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._output(node, exported)
            else:
                raise ModelError(
                    f"the model's graph has {node.op} {node.target} in it, which cannot be read: no way around it is known"
                )

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            op = "getitem"
        elif isinstance(node.target, torch._ops.OpOverload):
            space, _, name = str(node.target._schema.name).partition("::")
            op = f"{'' if space == 'aten' else space + '::'}{name.split('.')[0]}.{node.target._overloadname}"
        else:
            raise ModelError(
                f"{node.target} in {_module(node) or 'the model'} is a control flow that is decided while it runs: not read"
            )
        kind = op.split(".")[0]
        if kind in DROPPED:
            return
        args = [self._argument(arg) for arg in node.args]
        if kind in COMPLETED and isinstance(node.target, torch._ops.OpOverload):
            rest = node.target._schema.arguments[len(args) :]
            args += [self._argument(default.default_value) for default in rest if default.name not in node.kwargs]
        kwargs = {
            name: self._argument(value)
            for name, value in node.kwargs.items()
            if name not in ("memory_format", "pin_memory", "layout") and value is not None
        }
        if kind in SAME and args:
            self.names[node] = args[0]
            return
        changed = node.args[0] if kind.endswith("_") and not kind.endswith("__") and node.args else None
        if changed is not None:
            op = op.replace(f"{kind}.", f"{kind[:-1]}.", 1)
            kind = kind[:-1]
        if kind == "clone":
            self.names[node] = args[0]
            return
        self._mark_mode(kind, args)
        value = node.meta["val"]
        several = isinstance(value, tuple | list)
        found = list(value) if several else [value]
        if any(not isinstance(item, Tensor) for item in found):
            raise ModelError(f"{op} in {_module(node) or 'the model'} returns no tensor: it cannot be read")
        self.steps.append(
            Step(
                node.name, op, tuple(args), kwargs, [tuple(map(int, item.shape)) for item in found], [],
                str(found[0].dtype).removeprefix("torch.") if found else "float32", _module(node), several,
            )
        )  # fmt: skip
        self.names[node] = Value(node.name)
        if isinstance(changed, fx.Node):
            self.names[changed] = Value(node.name)  # whoever reads it from now on finds what it was changed to

    def _mark_mode(self, kind: str, args: list[Any]) -> None:
        at = TRAINING.get(kind)
        if at is not None and len(args) > at and args[at] is False and (kind != "batch_norm" or args[3] is not None):
            args[at] = "<training>"

    def _argument(self, value: Any) -> Any:
        match value:
            case fx.Node():
                return self.names[value]
            case list() | tuple():
                return tuple(self._argument(item) for item in value)
            case torch.dtype() if value == self.dtype:
                return "<dtype>"
            case torch.dtype():
                return f"dtype:{str(value).removeprefix('torch.')}"
            case torch.device():
                return "<device>"
            case torch.memory_format() | torch.layout():
                return None
        return value

    def _output(self, node: fx.Node, exported: torch.export.ExportedProgram) -> None:
        flat = [self._argument(item) for item in node.args[0]]  # type: ignore[union-attr]
        kinds = [spec.kind.name for spec in exported.graph_signature.output_specs]
        flat = [item for item, kind in zip(flat, kinds, strict=True) if kind == "USER_OUTPUT"]
        try:
            self.output = _plain(pytree.tree_unflatten(flat, exported.call_spec.out_spec))
        except Exception as error:  # of whatever class the model returns
            raise ModelError(
                f"what the model returns cannot be read ({type(error).__name__}): return tensors, tuples or mappings"
            ) from None
        found = list(leaves(self.output))
        if not any(isinstance(leaf, Value) and leaf.name != "x" for leaf in found):
            raise ModelError("the model returns nothing that it computes from the images: nothing in it could be elastic")


def _value_of(model: nn.Module, target: str, constants: Mapping[str, Any]) -> Tensor:
    """A constant with its numbers: of the model, where the copy on the meta device has none."""
    tensor = constants[target]
    if tensor.is_meta:
        path, _, leaf = target.rpartition(".")
        owner = dict(model.named_modules()).get(path)
        tensor = None if owner is None else vars(owner).get(leaf)
    if not isinstance(tensor, Tensor):
        raise _NoNumbersError(target)
    return tensor.detach()


def _module(node: fx.Node) -> str:
    """Path in the model of the innermost module whose code calls the operation."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, Value | Own) or value is None or isinstance(value, int | float | str | bool):
        return value
    raise TypeError(type(value).__name__)


def _size(numbers: Sequence[int], where: str) -> Size:
    """A number at each resolution."""
    batch = all(number % BATCH == 0 and number for number in numbers)
    times = [number // BATCH if batch else number for number in numbers]
    return Size(((times[0] if len(set(times)) == 1 else tuple(times), -1),), batch)


def _merged(values: list[Any], where: str) -> Any:
    """Arguments at each resolution, those that differ or count images as `Size`."""
    first = values[0]
    if isinstance(first, tuple):
        if any(len(value) != len(first) for value in values):
            raise ModelError(f"{where} is given more or less at some resolutions than at others: give one resolution")
        return tuple(_merged([value[i] for value in values], where) for i in range(len(first)))
    if isinstance(first, Mapping):
        return {key: _merged([value[key] for value in values], where) for key in first}
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        batch = all(value and value % BATCH == 0 and abs(value) < MOST for value in values)
        return _size(values, where) if batch or len(set(values)) > 1 else first
    if any(value != first for value in values):
        raise ModelError(f"an argument of {where} is {first} at one resolution and {values[-1]} at another: give one resolution")
    return first


def _alive(steps: list[Step], output: Any) -> list[Step]:
    """Those that the output depends on."""
    needed = {leaf.name for leaf in leaves(output) if isinstance(leaf, Value)}
    kept: list[Step] = []
    for step in reversed(steps):
        if step.name in needed:
            needed |= set(step.reads)
            kept.append(step)
    return kept[::-1]
