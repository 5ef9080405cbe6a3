"""Trace a model's operations with `torch.export` at every resolution, and mark what depends on batch and resolution.

The batch size is a prime that occurs nowhere else in a model, so multiples of it are counts per image. Nothing is computed, since
model and images are on the meta device.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import ModelError
from ..graph import Own, Size, Value
from ..ops import Grid, ancestors, leaves
from ..resolutions import Resolution
from .exporting import (
    Fit,
    copied,
    dtype_of,
    export,
    limits,
    memory_of,
    mixed_types,
    module_of,
    operations,
    own_gradients,
    spelled,
    value_of,
)

T = TypeVar("T")
BATCH, OTHER_BATCH = 1009, 1013  # primes, larger than any number of heads, groups or windows
FEW = 11, 13  # batch sizes to try a model with
OTHER_OPERATIONS = (
    "the model runs other operations for another batch size, so it cannot be read: make its forward independent of it"
)
SAME = {"lift_fresh_copy", "alias", "contiguous", "detach_"}  # operations that return their argument's values
REFUSED = {"as_strided", "set_", "resize_"}
DECOMPOSED_NORM = "_native_batch_norm_legit_no_training"
DROPPED = {"_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_size"}
COMPLETED = {"conv1d", "conv2d", "conv3d", "linear", "layer_norm"}  # operations recorded with all their default arguments
CONTEXTS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # index of the nested graph among the arguments
AUTOCAST = "the model: torch.autocast in its forward is ignored: call the supernet inside torch.autocast instead"
# Index of the argument that is True in train mode.
TRAINING = {"batch_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "feature_alpha_dropout": 2}


@dataclass
class Step:
    """One operation; arguments are marked as in `onceforall.graph.Node`.

    Args:
        op: ATen name of the operation, with its overload.
        args: arguments; numbers that depend on batch or resolution are `Size`s.
        shapes: shape of each result at the largest resolution, as numbers.
        sizes: the same shapes as `Size`s.
        several: whether the operation returns a tuple.
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

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def reads(self) -> list[str]:
        return [leaf.name for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Value)]


@dataclass
class Trace:
    """All steps in order, the model's tensors by name (parameters are `nn.Parameter`), and the output.

    `grids` describes how position embeddings are interpolated at each resolution.
    """

    steps: list[Step]
    tensors: dict[str, Tensor]
    output: Any
    resolutions: tuple[Resolution, ...] = field(default=())
    notes: tuple[str, ...] = ()
    grids: dict[str, tuple[Grid, ...]] = field(default_factory=dict)
    channels: int = 3


def trace(model: nn.Module, resolutions: Sequence[Resolution], fit: Fit | None = None, channels: int = 3) -> Trace:
    """Trace a model in eval mode, or a copy changed by `fit`, on images (batch, channels, resolution, resolution).

    Raises:
        ModelError: torch.export cannot read it, or it behaves differently at another resolution or batch size.
    """
    pixels = resolutions[-1]  # an unreadable model may loop over the images, for minutes if there are many
    copy = _copied(model, torch.device("meta"), fit, pixels)
    for _ in range(2):  # twice if they differ, since some modules create tensors in their first run
        if len(counts := {operations(copy, pixels, few, channels) for few in FEW}) == 1:
            break
    if None in counts:
        _on_either(lambda device: _read(model, device, fit, channels, pixels, FEW[0]))  # raises the reason
    elif len(counts) > 1:
        raise ModelError(OTHER_OPERATIONS)
    traced = _on_either(lambda device: _trace(model, resolutions, device, fit, channels))
    for name in own_gradients(copy, pixels, FEW[0], channels):
        traced.notes += (f"{name}: its custom backward is lost; gradients are derived from its forward",)
    return traced


def _on_either(read: Callable[[torch.device], T]) -> T:
    """Read on the meta device, or on the CPU if the model creates tensors there; nothing is computed in either case."""
    try:
        return read(torch.device("meta"))
    except _NoNumbersError:
        return read(torch.device("cpu"))
    except ModelError:
        try:
            return read(torch.device("cpu"))
        except ModelError:
            pass
        raise


def _trace(model: nn.Module, resolutions: Sequence[Resolution], device: torch.device, fit: Fit | None, channels: int) -> Trace:
    """`trace` on one device."""
    read = partial(_read, model, device, fit, channels)
    raw = [read(pixels) for pixels in resolutions]
    last = raw[-1]
    for reading, pixels in zip(raw, resolutions, strict=True):
        if reading.outline() != last.outline():
            raise ModelError(
                f"the model runs other operations at {pixels} pixels than at {resolutions[-1]}: give only resolutions at which it "
                "runs the same operations, or a single one"
            )
    other = _checked(partial(read, resolutions[-1]), last)
    dtypes = tuple(dtype_of(reading.copy) for reading in (last, other))
    steps = []
    for *several, check in zip(*(reading.steps for reading in (*raw, other)), strict=True):
        step = several[-1]
        merging = _Merging(step.name, step.module, dtypes)
        sizes = [
            tuple(merging.size(numbers, number) for *numbers, number in zip(*dims, strict=True))
            for dims in zip(*(each.shapes for each in (*several, check)), strict=True)
        ]
        args = merging.merged([each.args for each in several], check.args)
        kwargs = merging.merged([each.kwargs for each in several], check.kwargs)
        steps.append(Step(step.name, step.op, args, kwargs, step.shapes, sizes, step.dtype, step.module, step.several))
    output = _Merging("what it returns", "", dtypes).merged([reading.output for reading in raw], other.output)
    alive = _alive(steps, output)
    used = {leaf.name for step in alive for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Own)}
    used |= {leaf.name for leaf in leaves(output) if isinstance(leaf, Own)}
    if changed := next((name for name in last.written if name in used), None):
        raise ModelError(f"the model modifies its own {changed} in forward, so it cannot be read: compute new tensors instead")
    notes = last.notes + tuple(f"{name}: not updated, since no output of the model depends on it" for name in last.written)
    tensors = {name: tensor for name, tensor in last.tensors.items() if name in used}
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise ModelError(f"{name} is complex, which cannot be made elastic: store its real and imaginary parts instead")
    return Trace(alive, tensors, output, tuple(resolutions), notes, channels=channels)


def _read(
    model: nn.Module,
    device: torch.device,
    fit: Fit | None,
    channels: int,
    pixels: Resolution,
    batch: int = BATCH,
    other_type: bool = False,
) -> "_Reading":
    """Read a copy of the model at one resolution."""
    copy = _copied(model, device, fit, pixels)
    if other_type:
        copy = copy.float() if dtype_of(copy) == torch.float64 else copy.double()
    return _Reading(model, copy, *export(copy, pixels, batch, channels))


def _copied(model: nn.Module, device: torch.device, fit: Fit | None, pixels: Resolution) -> nn.Module:
    copy = copied(model, device, fit)
    if fit:
        fit.resize(copy, pixels)
    return copy


def _checked(read: Callable[..., "_Reading"], first: "_Reading") -> "_Reading":
    """Read again with another batch size and, if possible, in another precision: numbers that differ are not constants."""
    try:
        reading = read(OTHER_BATCH, other_type=True)
        if reading.outline() == first.outline():
            return reading
    except ModelError:
        pass
    reading = read(OTHER_BATCH)
    if reading.outline() != first.outline():
        raise ModelError(OTHER_OPERATIONS)
    return reading


@dataclass
class _Merging:
    """Compares the arguments of one step between all resolutions, another batch size and another precision."""

    name: str
    module: str
    dtypes: tuple[torch.dtype, ...]

    def size(self, numbers: Sequence[int], check: int) -> Size:
        """A size from its value at each resolution; `check` is its value at the last resolution for another batch size."""
        last = numbers[-1]
        batch = last != check and (last % BATCH, check % OTHER_BATCH) == (0, 0) and last // BATCH == check // OTHER_BATCH
        if (last != check and not batch) or (batch and any(number % BATCH for number in numbers)):
            raise self.error("the batch size")
        times = [number // BATCH if batch else number for number in numbers]
        return Size(((times[0] if len(set(times)) == 1 else tuple(times), -1),), batch)

    def merged(self, values: Sequence[Any], check: Any) -> Any:
        """Arguments with a `Size` for numbers that differ or count images, and "<dtype>" for the model's type."""
        first = values[0]
        if isinstance(first, tuple):
            if any(not isinstance(value, tuple) or len(value) != len(first) for value in (*values, check)):
                raise self.error("the resolution or the batch size")
            return tuple(self.merged([value[i] for value in values], check[i]) for i in range(len(first)))
        if isinstance(first, Mapping):
            return {key: self.merged([value[key] for value in values], check[key]) for key in first}
        if all(isinstance(value, int) and not isinstance(value, bool) for value in (*values, check)):
            if len({*values, check}) == 1:
                return first
            return self.size(values, check)
        if isinstance(first, Value) and isinstance(check, Value) and first.name.partition("_")[0] == "to":
            return check  # a cast that does nothing in the model's own type is replaced by its argument
        if any(value != first for value in values):
            raise self.error("the resolution")
        if check != first and not (isinstance(first, float) and first != first):
            own, other = (f"dtype:{str(dtype).removeprefix('torch.')}" for dtype in self.dtypes)
            if (first, check) == (own, other):
                return "<dtype>"
            rounded = isinstance(first, float) and isinstance(check, float) and math.isclose(first, check, rel_tol=1e-6)
            limit = isinstance(first, float) and self.dtypes[0] != self.dtypes[1] and abs(first) in limits(self.dtypes[0])
            if not (rounded or limit):
                raise self.error("the batch size")
        return first

    def error(self, what: str) -> ModelError:
        where = f"{self.name} in {self.module}" if self.module else self.name
        return ModelError(
            f"a number in {where} depends on {what} in a way that cannot be traced: give a single resolution, or have the model "
            "compute the number from whole dimensions of a shape"
        )


class _NoNumbersError(Exception):
    """A constant was created on the meta device, so its values are unknown."""


class _Reading:
    """The steps of one exported program, with the numbers at its resolution."""

    def __init__(self, model: nn.Module, copy: nn.Module, exported: torch.export.ExportedProgram, notes: tuple[str, ...]) -> None:
        self.copy, self.notes, self.mixed = copy, notes, mixed_types(model)
        self.steps: list[Step] = []
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[fx.Node, Any] = {}
        self.fresh: set[Any] = set()  # nodes of constants that each run recreates, as torch.tensor does
        self.written: dict[str, None] = {}  # the model's tensors that it writes to
        self.suffix = ""  # distinguishes the names in a nested graph
        owned, of_copy = (
            {**dict(each.named_parameters(remove_duplicate=False)), **dict(each.named_buffers(remove_duplicate=False))}
            for each in (model, copy)
        )
        first_name = {id(tensor): name for name, tensor in reversed(owned.items())}
        both = [*reversed(owned.items()), *reversed(of_copy.items())]
        stored = {memory_of(tensor): name for name, tensor in both if not tensor.is_meta}
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
                    tensor = value_of(model, target, constants)
                    if tensor is None:
                        raise _NoNumbersError(target)
                    target = stored.get(memory_of(tensor), target)  # the constant may be one of the model's tensors
                    tensor = owned.get(target, tensor)
                name = first_name.get(id(tensor), target)
                self.tensors[name] = tensor
                self.names[node] = Own(name)
            elif node.op == "output":
                self._output(node, exported)
            else:
                self._step(node)

    def _step(self, node: fx.Node) -> None:
        if node.op == "call_function" and str(node.target) in CONTEXTS:
            self._context(node)
        elif node.op == "call_function":
            self._call(node)
        elif not all(str(user.target) in CONTEXTS for user in node.users):
            raise ModelError(
                f"the model's graph contains a nested graph ({node.target}), which cannot be read: instead of torch.cond, compute "
                "both branches and select with torch.where"
            )

    def _context(self, node: fx.Node) -> None:
        """Read the operations inside a context such as torch.no_grad or torch.autocast; autocast itself is ignored."""
        at = CONTEXTS[str(node.target)]
        graph, *given = node.args[at:]
        assert isinstance(graph, fx.Node)
        if at > 1 and node.args[2] and AUTOCAST not in self.notes:
            self.notes += (AUTOCAST,)
        nodes = list(graph.graph.owning_module.get_submodule(str(graph.target)).graph.nodes)  # type: ignore
        passed = [(own, arg) for own, arg in zip(nodes, given, strict=False) if isinstance(arg, fx.Node)]
        self.names |= {own: self._argument(arg) for own, arg in zip(nodes, given, strict=False)}
        self.fresh |= {own for own, arg in passed if arg in self.fresh}
        before, self.suffix = self.suffix, f"_in_{graph.name}{self.suffix}"
        for own in nodes[len(given) : -1]:
            self._step(own)
        self.names[node], self.suffix = self._argument(nodes[-1].args[0]), before
        self.names |= {arg: self.names[own] for own, arg in passed}  # later reads get what was written inside

    def outline(self) -> list[tuple[str, str]]:
        """Names and operations of the steps."""
        return [(step.name, step.op) for step in self.steps]

    def _call(self, node: fx.Node) -> None:
        where = module_of(node) or "the model"
        if node.target is operator.getitem:
            op = "getitem"
        elif isinstance(node.target, torch._ops.OpOverload):
            space, _, name = str(node.target._schema.name).partition("::")
            op = f"{'' if space == 'aten' else space + '::'}{name.split('.')[0]}.{node.target._overloadname}"
        else:
            raise ModelError(
                f"{str(node.target).partition(' at ')[0]} in {where} is run-time control flow or a "
                "transform such as torch.vmap, which cannot be read: write it with plain tensor operations"
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
        if kind in REFUSED:
            raise ModelError(f"{kind} in {where} depends on the memory layout, so it cannot be read: use view")
        if kind in ("channel_shuffle", "native_channel_shuffle"):
            return self._shuffle(node, args)
        if kind == "einsum":
            args[0] = spelled(args[0], [item.meta["val"].ndim for item in node.args[1]])  # type: ignore
        if kind == "instance_norm" and args[5] is False:  # it uses running statistics
            op, kind = "batch_norm.default", "frozen_norm"
        if kind == DECOMPOSED_NORM:  # restore the original operation
            op, kind = "batch_norm.default", "batch_norm"
            args = [*args[:5], "<training>", *args[5:], True]
            self._add(node, op, args, {}, [node.meta["val"][0]], False)
            return
        if op == "getitem" and isinstance(node.args[0], fx.Node) and DECOMPOSED_NORM in str(node.args[0].target):
            self.names[node] = args[0]
            return
        if op == "getitem" and isinstance(args[0], tuple):  # the results of a context
            self.names[node] = args[0][args[1]]
            return
        if kind in SAME and args:
            self.names[node] = args[0]
            if kind == "lift_fresh_copy" or node.args[0] in self.fresh:
                self.fresh.add(node)
            return
        changed = node.args[0] if kind.endswith("_") and not kind.endswith("__") and node.args else None
        if isinstance(changed, fx.Node) and isinstance(self.names[changed], Own) and changed not in self.fresh:
            self.written[self.names[changed].name] = None
        if changed is not None:
            op = op.replace(f"{kind}.", f"{kind[:-1]}.", 1)
            kind = kind[:-1]
        if kind == "clone":
            self.names[node] = args[0]
            return
        source = node.args[1] if kind == "copy" else None
        if isinstance(source, fx.Node) and source.meta["val"].dtype == node.meta["val"].dtype:  # copy has no derivative
            op, args, kwargs = "expand_as.default", [args[1], args[0]], {}
        mode = TRAINING.get(kind)
        if mode is not None and len(args) > mode and args[mode] is False and (kind != "batch_norm" or args[3] is not None):
            args[mode] = "<training>"
        value = node.meta["val"]
        several = isinstance(value, tuple | list)
        self._add(node, op, args, kwargs, list(value) if several else [value], several)
        if isinstance(changed, fx.Node):
            self.names[changed] = self.names[node]  # later reads get the new value

    def _shuffle(self, node: fx.Node, args: list[Any]) -> None:
        """Record a channel shuffle as view, transpose and reshape, so that it can have fewer groups."""
        whole = node.meta["val"]
        split = whole.view(len(whole), args[1], -1, *whole.shape[2:])
        for op, own, found in (
            ("view.default", tuple(split.shape), split),
            ("transpose.int", (1, 2), split.transpose(1, 2)),
            ("reshape.default", tuple(whole.shape), whole),
        ):
            given = own if op == "transpose.int" else (own,)
            source = args[0] if found is split else self.names[node]
            self._add(node, op, [source, *given], {}, [found], False, "" if found is whole else f"_{op.partition('.')[0]}")

    def _add(
        self, node: fx.Node, op: str, args: list[Any], kwargs: dict[str, Any], found: list[Any], several: bool, part: str = ""
    ) -> None:
        if any(not isinstance(item, Tensor) for item in found):
            raise ModelError(f"{op} in {module_of(node) or 'the model'} returns no tensor, so it cannot be read: use only tensors")
        if any(isinstance(size, torch.SymInt) for item in found for size in item.shape):
            raise ModelError(
                f"{op} in {module_of(node) or 'the model'} makes a tensor whose size depends on the pixels, which cannot be read: "
                "use a mask of fixed size"
            )
        shapes = [tuple(map(int, item.shape)) for item in found]
        dtype = str(found[0].dtype).removeprefix("torch.") if found else "float32"
        name = f"{node.name}{part}{self.suffix}"
        self.steps.append(Step(name, op, tuple(args), kwargs, shapes, [], dtype, module_of(node), several))
        self.names[node] = Value(name)

    def _argument(self, value: Any) -> Any:
        match value:
            case fx.Node():
                return self.names[value]
            case list() | tuple():
                return tuple(self._argument(item) for item in value)
            case torch.dtype() if value in self.mixed:  # a supernet has only one floating-point type
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
        specs = exported.graph_signature.output_specs
        kinds = [spec.kind.name for spec in specs]
        for spec in specs:
            if spec.kind.name == "BUFFER_MUTATION":
                self.written[str(spec.target)] = None
        flat = [item for item, kind in zip(flat, kinds, strict=True) if kind == "USER_OUTPUT"]
        try:
            self.output = _plain(pytree.tree_unflatten(flat, exported.call_spec.out_spec))
        except Exception as error:  # the model may return objects of any class
            raise ModelError(
                f"what the model returns cannot be read ({type(error).__name__}): return tensors, tuples or mappings"
            ) from None
        found = list(leaves(self.output))
        if not any(isinstance(leaf, Value) and leaf.name != "x" for leaf in found):
            raise ModelError("the model returns nothing that it computes from the images, so nothing is elastic: return logits")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, Value | Own) or value is None or isinstance(value, int | float | str | bool):
        return value
    raise TypeError(type(value).__name__)


def _alive(steps: list[Step], output: Any) -> list[Step]:
    """The steps that the output depends on."""
    reads = {step.name: step.reads for step in steps}
    needed = ancestors((leaf.name for leaf in leaves(output) if isinstance(leaf, Value)), lambda name: reads.get(name, ()))
    return [step for step in steps if step.name in needed]
