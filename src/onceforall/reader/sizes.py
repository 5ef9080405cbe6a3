"""Rewrite arguments of steps that count entries as sizes that depend on the sub-network."""

from collections.abc import Mapping
from typing import Any

from ..graph import Size
from .rules import factors_of, shape_of
from .trace import Step
from .units import OrderError, Units


def plain(size: Size) -> Any:
    """The size as a number if it is constant, otherwise unchanged."""
    if len(size.terms) == 1 and not size.batch and size.terms[0][1] < 0 and isinstance(size.terms[0][0], int):
        return size.terms[0][0]
    return size


def sized(
    step: Step, units: Units, elastic: set[int]
) -> tuple[str, tuple[Any, ...], Mapping[str, Any], tuple[tuple[Size, ...], ...]]:
    """The operation, its arguments, and the shapes of its results, as functions of the numbers of units in the elastic groups.

    Raises:
        OrderError: the units of a group are in an order that cannot be cut.
    """
    labels = units.labels
    shapes = tuple(
        tuple(units.size(base, units.along(factors, dim, elastic), elastic) for dim, base in enumerate(sizes))
        for sizes, factors in zip(step.sizes, labels.values[step.name], strict=True)
    )
    op, args = step.op, list(step.args)
    first = args[0] if args else None

    def line(argument: Any, dim: int) -> Any:
        return units.along(factors_of(labels, argument), dim, elastic)

    match step.kind:
        case "view" | "reshape" | "_unsafe_view":
            args[1] = tuple(map(plain, shapes[0]))
        case "reshape_as" | "view_as":
            return "reshape.default", (first, tuple(map(plain, shapes[0]))), {}, shapes
        case "expand_as":
            return "expand.default", (first, tuple(map(plain, shapes[0]))), {}, shapes
        case "unflatten":
            at = args[1] % len(shape_of(labels, first))
            args[2] = tuple(map(plain, shapes[0][at : at + len(args[2])]))
        case "expand" | "broadcast_to":
            before = (1,) * (len(shapes[0]) - len(shape_of(labels, first))) + shape_of(labels, first)
            new = len(shapes[0]) - len(shape_of(labels, first))
            args[1] = tuple(plain(size) if dim < new or before[dim] == 1 else -1 for dim, size in enumerate(shapes[0]))
        case "chunk" | "split" | "split_with_sizes" | "tensor_split" | "unsafe_split" | "unsafe_chunk":
            dim = step.argument(2, "dim", 0) % len(step.shapes[0])
            if line(first, dim) is not None or step.kind not in ("chunk", "tensor_split"):
                op = "split_with_sizes.default"
                args = [first, tuple(plain(shape[dim]) for shape in shapes), dim]
                return op, tuple(args), {}, shapes
        case "select" | "unbind":
            along = line(first, step.argument(1, "dim", 0) % len(shape_of(labels, first)))
            if along is not None:  # units cannot be selected by index
                raise OrderError(int(units.group[along].max()))
        case "repeat_interleave":  # output_size only matters for repeats in a tensor
            return op, tuple(args), {name: value for name, value in step.kwargs.items() if name != "output_size"}, shapes
        case "squeeze":
            before = shape_of(labels, first)
            if len(args) == 1:  # only dimensions of size 1 when the model was read
                op = "squeeze.dims"
                args.append(tuple(dim for dim, size in enumerate(before) if size == 1))
        case "slice" | "narrow" | "slice_scatter":
            at = 2 if step.kind == "slice_scatter" else 1  # index of the argument `dim`
            given: list[Any] = [*args[at : at + 3], *[0, None, None][len(args) - at :]]
            dim, start, end = given
            jump = args[at + 3 :]
            along = line(first, dim)
            if along is not None and jump and jump[0] != 1:
                raise OrderError(int(units.group[along].max()))
            if along is not None:
                size = len(along)
                if step.kind == "narrow":
                    start = start + size if start < 0 else start
                    end = start + end
                begin = 0 if start is None else max(0, start + size if start < 0 else start)
                stop = size if end is None else min(size, end + size if end < 0 else end)
                edges = [plain(units.size(Size(((n, -1),)), along[:n] if n else None, elastic)) for n in (begin, stop)]
                op = op if step.kind == "slice_scatter" else "slice.Tensor"
                return op, (*args[:at], dim, *edges, *jump), {}, shapes
        case "layer_norm" | "rms_norm":
            args[1] = tuple(map(plain, shapes[0][len(shapes[0]) - len(args[1]) :]))
        case "group_norm":
            along = line(first, 1)
            if along is not None and args[1] > 1:
                args[1] = plain(units.size(Size(((args[1], -1),)), along.reshape(args[1], -1)[:, 0], elastic))
        case "conv1d" | "conv2d" | "conv3d":
            along = line(args[1], 0)
            if along is not None and len(args) > 6 and args[6] > 1:
                args[6] = plain(units.size(Size(((args[6], -1),)), along.reshape(args[6], -1)[:, 0], elastic))
    return op, tuple(args), step.kwargs, shapes
