"""Write calls as nodes of an ONNX graph.

Shapes are found by computing every call for two batch sizes on torch's meta device: a dimension that differs is proportional to
the number of images. Everything that does not depend on the images is computed by torch in float64 and stored.

All floating-point types become float32, all integers int64.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError, StatisticsError
from ...graph import each
from ...ops import Batch, Call, Input, Shape, Weight, leaves
from ...plan import Segment
from ..calls import STATISTICS, constant, function_of, state_tensor

IMAGES = 2, 3  # batch sizes at which shapes are compared; not 1, which would be broadcast


class NotWrittenError(Exception):
    """A call cannot be written with the operators of an opset; the message names the part."""


@dataclass(eq=False)
class Array:
    """A tensor of the graph.

    Args:
        metas: meta tensors for each batch size in `IMAGES`.
        name: name in the graph; "" for a constant that is not stored yet.
        value: value of a constant.
        label: name for a constant when it is stored.
    """

    metas: tuple[Tensor, Tensor]
    name: str = ""
    value: Tensor | None = None
    label: str = ""

    @property
    def rank(self) -> int:
        return self.metas[0].ndim

    @property
    def dims(self) -> tuple[int | Batch, ...]:
        """The shape, with `Batch` for sizes that depend on the number of images."""
        return tuple(_dim(*sizes) for sizes in zip(*(meta.shape for meta in self.metas), strict=True))

    @property
    def floating(self) -> bool:
        return self.metas[0].is_floating_point()

    def size(self, dim: int) -> int:
        """The size of a dimension that does not depend on the images."""
        found = self.dims[dim]
        if isinstance(found, Batch):
            raise NotWrittenError("it combines images")
        return found

    def dim(self, number: int) -> int:
        """Normalize a dimension to count from the first."""
        return number % self.rank if self.rank else 0


def array(name: str, shape: Shape) -> Array:
    """A tensor of the graph, with its shape for one image."""
    first, second = ((images, *shape) for images in IMAGES)
    return Array((_meta(first, torch.float32), _meta(second, torch.float32)), name)


@lru_cache(1024)
def _meta(shape: Shape, dtype: torch.dtype) -> Tensor:
    """A meta tensor, which must not be changed."""
    return torch.empty(shape, dtype=dtype, device="meta")


def _dim(first: int, second: int) -> int | Batch:
    times, rest = divmod(second - first, IMAGES[1] - IMAGES[0])
    if not times:
        return first
    if rest or times * IMAGES[0] != first:
        raise NotWrittenError("the size of its result is not a multiple of the number of images")
    return Batch(times)


Constant = Tensor | np.ndarray[Any, Any]  # arrays for operations that were written for this library
Value = Any  # an `Array`, or a list of them where a call has several results
Write = Callable[..., str | list[str]]  # (Writing, arguments by their names in ATen) -> names in the graph


class Writer:
    """The calls written so far.

    Args:
        table: how each operation is written, by its ATen name without the overload.
        node: adds a node: kind, inputs, output, attributes.
        store: adds a constant: name, value.
        state: tensors of the network by name.
        opset: version of the operators.
        batch: images per call; None for any number.
    """

    def __init__(
        self,
        table: Mapping[str, Write],
        node: Callable[..., str],
        store: Callable[[str, np.ndarray[Any, Any]], str],
        state: Mapping[str, Tensor],
        *,
        opset: int,
        batch: int | None,
    ) -> None:
        self.table = table
        self.node = node
        self.store = store
        self.state = state
        self.opset = opset
        self.batch = batch
        self.weights: dict[str, Array] = {}
        self.stored: set[str] = set()  # names of constants
        self.images = ""  # name of the number of images, (1,)
        self.first = ""  # name of the graph's input
        self.shapes: dict[str, list[int | str]] = {}  # shapes of the segments' results
        self.kinds: dict[str, int] = {}  # types of the segments' results, as in `onnx.TensorProto`

    def add(self, segment: Segment, source: str) -> Any:
        """Add the calls of a segment that reads tensor `source`; return the name of its result, or nested names."""
        self.first = self.first or source
        values: dict[str, Value] = {"in": array(source, segment.in_shape)}
        calls = [op for op in segment.ops if isinstance(op, Call)]
        readers = Counter(leaf.name for op in calls for leaf in leaves((op.args, op.kwargs)) if isinstance(leaf, Input))
        norms = {}
        for op in calls:
            if op.target == "batch_norm.default" and isinstance(op.args[0], Input) and readers[op.args[0].name] == 1:
                norms[op.args[0].name] = op
        last: Any = values["in"]
        done: set[str] = set()
        for op in calls:
            try:
                if op.target == "output":
                    return self.named(each(op.args[0], lambda leaf: self._resolved(leaf, values)))
                norm = norms.get(op.name) if op.target.partition(".")[0] in FOLDED else None
                if op.name in done:
                    last = values[op.args[0].name]
                elif norm is not None and (made := self._folded(segment.name, op, norm, values)) is not None:
                    last = made
                    done.add(norm.name)
                else:
                    last = self._value(f"{segment.name}.{op.name}", op, values)
            except NotWrittenError as error:
                raise NotWrittenError(f"{op.target.partition('.')[0]} in {segment.name} ({error})") from error
            values[op.name] = last
        return self.named(last)

    def named(self, value: Any) -> Any:
        """The names in the graph of all leaves of a nested value."""

        def one(leaf: Any) -> Any:
            if leaf is None:
                return None
            if not isinstance(leaf, Array):
                raise NotWrittenError("the network returns something other than tensors")
            name = self.name_of(leaf)
            self.kinds[name] = CODES[_kind(leaf.metas[0].dtype)]
            self.shapes[name] = [dim if isinstance(dim, int) else self._symbol(dim) for dim in leaf.dims]
            return name

        return one(value) if isinstance(value, Array) else value if isinstance(value, str) else each(value, one)

    def _symbol(self, dim: Batch) -> int | str:
        if self.batch is not None:
            return dim.times * self.batch
        return "batch" if dim.times == 1 else f"batch*{dim.times}"

    def name_of(self, array: Array) -> str:
        """The name of an array; a constant is stored first."""
        if not array.name:
            assert array.value is not None
            array.name = self.constant(array.label, array.value)
        return array.name

    def constant(self, label: str, value: Tensor) -> str:
        """Store a constant under a unique name."""
        name, count = label, 1
        while name in self.stored:
            count += 1
            name = f"{label}.{count}"
        self.stored.add(name)
        return self.store(name, _stored(value))

    def number_of_images(self) -> str:
        """(1,) int64, from the graph's input."""
        if not self.images:
            shape = self.node("Shape", [self.first], "images.shape")
            self.images = self.node(
                "Gather", [shape, self.constant("images.first", torch.zeros(1, dtype=torch.long))], "images.number"
            )
        return self.images

    def _resolved(self, leaf: Any, values: Mapping[str, Value]) -> Any:
        match leaf:
            case Input(name):
                return values[name]
            case Weight():
                return self._weight(leaf)
            case "<training>":
                return False
        return leaf

    def _weight(self, weight: Weight) -> Array:
        if weight.name not in self.weights:
            value = self.read(weight.name, weight.shape, weight.trained)
            self.weights[weight.name] = known(value, weight.name)
        return self.weights[weight.name]

    def read(self, name: str, shape: Shape, trained: bool) -> Tensor:
        """A checked tensor of the state dict, in float64 if it is floating-point."""
        value = state_tensor(self.state, name, shape)
        measured = name.endswith(STATISTICS)
        value = value.double() if value.is_floating_point() else value
        if (trained or measured) and not np.isfinite(value.numpy()).all():  # torch's isfinite takes five times as long
            raise (
                StatisticsError(f"{name} holds values that are not finite: recalibrate the network first")
                if measured
                else CheckpointError(f"{name} holds values that are not finite: the weights are damaged or have diverged")
            )
        if name.endswith("running_var") and value.numpy().min() < 0:
            raise StatisticsError(f"{name} holds {value.min():g}, a variance is never negative: recalibrate the network")
        return value

    def _value(self, at: str, op: Call, values: Mapping[str, Value]) -> Value:
        """The result of one call, which is written, or computed now if it does not depend on the images."""
        args = each(op.args, lambda leaf: self._resolved(leaf, values))
        kwargs = {name: each(value, lambda leaf: self._resolved(leaf, values)) for name, value in op.kwargs}
        found = list(leaves((args, kwargs)))
        if not any(isinstance(leaf, Batch) or (isinstance(leaf, Array) and leaf.value is None) for leaf in found):
            value = _computed(op.target, args, kwargs)
            return [known(item, at) for item in value] if isinstance(value, tuple | list) else known(value, at)
        if op.target == "getitem":
            if not (item := args[0][args[1]]).name and item.value is None:
                raise NotWrittenError("another operation uses the index of a maximum")
            return item
        metas = [self._shaped(op.target, args, kwargs, i) for i in range(len(IMAGES))]
        several = isinstance(metas[0], tuple | list)
        out = [Array(pair) for pair in zip(*metas, strict=True)] if several else [Array((metas[0], metas[1]))]
        kind = op.target.partition(".")[0]
        if kind not in self.table:
            raise NotWrittenError("no ONNX operators for it are known")
        names = self.table[kind](Writing(self, at, op.target, out), **arguments(op.target, args, kwargs))
        if not several:
            assert isinstance(names, str)
            out[0].name = names
            return out[0]
        for array, name in zip(out, names, strict=True):
            array.name = name
        return out

    def _shaped(self, target: str, args: Any, kwargs: Mapping[str, Any], which: int) -> Any:
        def meta(leaf: Any) -> Any:
            match leaf:
                case Array():
                    return leaf.metas[which]
                case Batch(times):
                    return times * IMAGES[which]
                case str():
                    return constant(leaf, torch.empty(0, device="meta"))
            return leaf

        try:
            return function_of(target)(*each(args, meta), **each(kwargs, meta))
        except Exception as error:  # torch's meta functions have no common error class
            raise NotWrittenError(f"its shapes cannot be found ({type(error).__name__})") from error

    def _folded(self, segment: str, op: Call, norm: Call, values: Mapping[str, Value]) -> Array | None:
        """Write a convolution or linear layer with the norm folded into its weights; None if that is impossible."""
        bound = arguments(op.target, each(op.args, lambda leaf: self._resolved(leaf, values)), {})
        weight, bias = bound["weight"], bound["bias"]
        rest = [self._resolved(leaf, values) for leaf in norm.args[1:5]]
        constants = [array for array in (weight, bias, *rest) if array is not None]
        source = bound["x"]
        if (
            any(array.value is None for array in constants)
            or source.value is not None
            or (op.target.startswith("linear") and source.rank != 2)
        ):
            return None
        gain, offset, mean, var = (None if array is None else array.value for array in rest)
        if mean is None or var is None:
            return None
        scale, shift = affine(gain, offset, mean, var, eps=norm.args[7])
        folded = weight.value * scale.reshape(-1, *[1] * (weight.rank - 1))
        added = shift if bias is None else bias.value * scale + shift
        at = f"{segment}.{op.name}"
        bound |= {"weight": known(folded, f"{at}.weight"), "bias": known(added, f"{at}.bias")}
        metas = [self._shaped(op.target, list(bound.values()), {}, i) for i in range(len(IMAGES))]
        made = Array((metas[0], metas[1]))
        written = self.table[op.target.partition(".")[0]](Writing(self, at, op.target, [made]), **bound)
        assert isinstance(written, str)
        made.name = written
        return made


FOLDED = {"conv1d", "conv2d", "linear"}  # operations that a batch norm can be folded into


def affine(weight: Any, bias: Any, mean: Any, var: Any, *, eps: float) -> tuple[Any, Any]:
    """Scale and shift (channels,) of a batch norm in eval mode, from tensors or arrays; weight and bias may be None."""
    scale = (1 if weight is None else weight) / (var + eps) ** 0.5
    return scale, (0 if bias is None else bias) - mean * scale


@dataclass(frozen=True)
class Writing:
    """Context for writing one call.

    Args:
        writer: the writer that it belongs to.
        at: name of the call, the prefix of its nodes' names.
        target: the operation.
        out: its results, whose shapes are known but not their names.
    """

    writer: Writer
    at: str
    target: str
    out: Sequence[Array]

    @property
    def opset(self) -> int:
        return self.writer.opset

    def node(self, kind: str, inputs: Sequence[Constant | Array | str | None], part: str = "", /, **attributes: Any) -> str:
        """Add a node; inputs that are None are omitted, and the last node of the call has no `part`."""
        given = [item for item in inputs if item is not None]
        names = [item if isinstance(item, str) else self.name(item, f"{part or 'in'}{i}") for i, item in enumerate(given)]
        return self.writer.node(kind, names, f"{self.at}.{part}" if part else self.at, **attributes)

    def name(self, item: Constant | Array | str, part: str = "constant") -> str:
        """The name of an array, or of a constant of the call, which is stored."""
        if isinstance(item, Array):
            return self.writer.name_of(item)
        if isinstance(item, np.ndarray):
            return self.writer.store(f"{self.at}.{part}", item.astype(np.float32))
        return item if isinstance(item, str) else self.writer.constant(f"{self.at}.{part}", item)

    def need(self, opset: int, what: str) -> None:
        """Raise NotWrittenError if the opset is older."""
        if self.opset < opset:
            raise NotWrittenError(f"{what} needs opset {opset}")

    def operand(self, item: Array | float | int | bool, like: Array, part: str) -> str:
        """An operand as a tensor of the type of `like`."""
        if not isinstance(item, Array):
            return self.name(torch.tensor(float(item) if like.floating else int(item)), part)
        if item.value is not None and _kind(item.metas[0].dtype) != _kind(like.metas[0].dtype):
            return self.name(item.value.to(torch.float64 if like.floating else torch.int64), part)
        return self.cast(item, like.metas[0].dtype, part)

    def cast(self, item: Array, dtype: torch.dtype, part: str) -> str:
        """Convert an array to another type of number."""
        if _kind(item.metas[0].dtype) == _kind(dtype):
            return self.name(item)
        return self.node("Cast", [item], part, to=CODES[_kind(dtype)])

    def shape(self, dims: Sequence[int | Batch], part: str = "shape") -> str:
        """A shape as a tensor (rank,) int64; its sizes may depend on the number of images."""
        batch = self.writer.batch
        if batch is not None:
            dims = [dim.times * batch if isinstance(dim, Batch) else dim for dim in dims]
        if not any(isinstance(dim, Batch) for dim in dims):
            return self.name(torch.tensor(dims, dtype=torch.long), part)
        parts = []
        for i, dim in enumerate(dims):
            if isinstance(dim, int):
                parts.append(self.name(torch.tensor([dim]), f"{part}{i}"))
            elif dim.times == 1:
                parts.append(self.writer.number_of_images())
            else:
                parts.append(self.node("Mul", [self.writer.number_of_images(), torch.tensor([dim.times])], f"{part}{i}"))
        return self.node("Concat", parts, part, axis=0)

    def reshaped(self, item: str, before: Sequence[int | Batch], after: Sequence[int | Batch], part: str = "") -> str:
        """Reshape a tensor; at most one size can be inferred from the others."""
        if tuple(before) == tuple(after):
            return item
        if len(after) == 2 and len(before) > 2 and before[0] == after[0] == Batch():
            return self.node("Flatten", [item], part)
        sizes = [dim if isinstance(dim, int) else 0 if i < len(before) and before[i] == dim else -1 for i, dim in enumerate(after)]
        if sizes.count(-1) > 1 or (0 in sizes and any(dim == 0 for dim in after)):
            raise NotWrittenError("two sizes of its result depend on the number of images")
        return self.node("Reshape", [item, torch.tensor(sizes, dtype=torch.long)], part)


CODES = {"float": 1, "int": 7, "bool": 9}  # of onnx.TensorProto


def arguments(target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by their ATen names, including defaults; the first tensor is always called x."""
    kind, _, overload = target.partition(".")
    space, _, name = kind.rpartition("::")
    schema = getattr(getattr(getattr(torch.ops, space or "aten"), name), overload)._schema
    bound = {arg.name: arg.default_value for arg in schema.arguments}
    bound |= {arg.name: value for arg, value in zip(schema.arguments, args, strict=False)} | dict(kwargs)
    return {"x" if name in ("self", "input") else name: value for name, value in bound.items()}


def _computed(target: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Compute a call with torch, in float64 if the operation supports it."""
    if target == "getitem":
        return args[0][args[1]]

    def value(leaf: Any, dtype: torch.dtype) -> Any:
        if isinstance(leaf, Array):
            assert leaf.value is not None
            return leaf.value.to(dtype) if leaf.floating else leaf.value
        return constant(leaf, torch.empty(0, dtype=dtype)) if isinstance(leaf, str) else leaf

    for dtype in (torch.float64, torch.float32):
        try:
            with torch.no_grad():
                return function_of(target)(*each(args, lambda x: value(x, dtype)), **each(kwargs, lambda x: value(x, dtype)))  # noqa: B023, called at once
        except RuntimeError as error:  # incompatible types
            failed = error
    raise NotWrittenError(f"it cannot be computed ({type(failed).__name__})") from failed


def known(value: Any, label: str) -> Array:
    """A constant with the name to store it under."""
    if isinstance(value, Array):
        return value
    meta = _meta(tuple(value.shape), _plain(value.dtype))
    return Array((meta, meta), value=value, label=label)


def _plain(dtype: torch.dtype) -> torch.dtype:
    """Replace any floating-point type by float32, so that types do not matter for finding shapes."""
    return torch.float32 if dtype.is_floating_point else dtype


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        raise NotWrittenError("complex numbers")
    return "float" if dtype.is_floating_point else "bool" if dtype == torch.bool else "int"


def _stored(value: Tensor) -> np.ndarray[Any, Any]:
    to = {"float": torch.float32, "int": torch.int64, "bool": torch.bool}[_kind(value.dtype)]
    return value.detach().cpu().to(to).contiguous().numpy()
