"""Write views, slices and concatenations of tensors."""

from collections.abc import Sequence
from typing import Any

import torch

from ...ops import Batch
from ..calls import function_of
from .writer import Array, NotWrittenError, Write, Writing


def _ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long)


def _transpose(w: Writing, x: Array, **rest: Any) -> str:
    counted = torch.empty(*range(1, x.rank + 1), device="meta")  # distinct sizes identify the dimensions
    moved = [size - 1 for size in function_of(w.target)(counted, **rest).shape]
    return w.node("Transpose", [x], perm=moved) if moved != list(range(x.rank)) else w.name(x)


def _expand(w: Writing, x: Array, **ignored: Any) -> str:
    out = w.out[0].dims
    own = (*[1] * (len(out) - x.rank), *x.dims)
    sizes = [1 if have == want else want for have, want in zip(own, out, strict=True)]
    if all(size == 1 for size in sizes):
        return w.reshaped(w.name(x), x.dims, out)
    return w.node("Expand", [x, w.shape(sizes)])


def _filled(w: Writing, x: Any = None, **rest: Any) -> str:
    """A constant tensor whose size depends on the number of images."""
    value = {"zeros": 0, "new_zeros": 0, "zeros_like": 0, "ones": 1, "new_ones": 1, "ones_like": 1}.get(w.target.partition(".")[0])
    number = rest["fill_value"] if value is None else value
    like = w.out[0]
    return w.node("Expand", [w.operand(number, like, "value"), w.shape(like.dims)])


def _slice(w: Writing, x: Array, dim: int, start: Any, end: Any, step: int) -> str:
    axis = x.dim(dim)
    size = x.dims[axis]
    if isinstance(size, Batch):
        if start in (None, 0) and step == 1 and (end is None or (isinstance(end, int) and end > 2**31)):
            return w.name(x)
        raise NotWrittenError("it combines images")
    first, last, _ = slice(start, end, None).indices(size)
    return _cut(w, x, axis, first, last, step)


def _cut(w: Writing, x: Array | str, axis: int, first: int, last: int, step: int = 1, part: str = "") -> str:
    steps = [_ints(step)] if step != 1 else []
    return w.node("Slice", [x, _ints(first), _ints(last), _ints(axis), *steps], part)


def _narrow(w: Writing, x: Array, dim: int, start: int, length: int) -> str:
    axis = x.dim(dim)
    first = start % x.size(axis) if start < 0 else start
    return _cut(w, x, axis, first, first + length)


def _slice_scatter(w: Writing, x: Array, src: Array, dim: int, start: Any, end: Any, step: int) -> str:
    axis, size = x.dim(dim), x.size(dim)
    written = range(size)[slice(start, end, step)]
    return _scattered(w, x, w.operand(src, x, "source"), axis, written)


def _select_scatter(w: Writing, x: Array, src: Array, dim: int, index: int) -> str:
    axis, size = x.dim(dim), x.size(dim)
    source = w.reshaped(w.operand(src, x, "source"), src.dims, [*x.dims[:axis], 1, *x.dims[axis + 1 :]], "entry")
    return _scattered(w, x, source, axis, [index % size])


def _scattered(w: Writing, x: Array, source: str, axis: int, written: Sequence[int]) -> str:
    """Replace the entries at indices `written` along a dimension by those of `source`."""
    at = list(range(x.size(axis)))
    for number, place in enumerate(written):
        at[place] = len(at) + number
    both = w.node("Concat", [x, source], "both", axis=axis)
    return w.node("Gather", [both, _ints(*at)], **({"axis": axis} if axis else {}))


def _select(w: Writing, x: Array, dim: int, index: int, part: str = "") -> str:
    """One entry along a dimension, which is removed."""
    axis = x.dim(dim)
    size = x.size(axis)
    if size == 1:
        return w.reshaped(w.name(x), x.dims, [*x.dims[:axis], *x.dims[axis + 1 :]], part)
    at = torch.tensor(index % size, dtype=torch.long)
    return w.node("Gather", [x, at], part, **({"axis": axis} if axis else {}))


def _split(w: Writing, x: Array, dim: int, **ignored: Any) -> list[str]:
    axis = x.dim(dim)
    sizes = [part.size(axis) for part in w.out]
    if len(sizes) == 1:
        return [w.name(x)]
    names, at = [], 0
    for i, size in enumerate(sizes):  # slices, which later passes can drop if unused
        names.append(_cut(w, x, axis, at, at + size, 1, f"{i}"))
        at += size
    return names


def _cat(w: Writing, tensors: Sequence[Array], dim: int) -> str:
    kept = [tensor for tensor in tensors if tensor.dims != (0,)]
    if len(kept) == 1:
        return w.name(kept[0])
    return w.node("Concat", [w.operand(tensor, w.out[0], f"{i}") for i, tensor in enumerate(kept)], axis=w.out[0].dim(dim))


def _stack(w: Writing, tensors: Sequence[Array], dim: int) -> str:
    axis = w.out[0].dim(dim)
    out = [*w.out[0].dims]
    parts = [
        w.reshaped(w.name(tensor), tensor.dims, [*out[:axis], 1, *out[axis + 1 :]], f"{i}") for i, tensor in enumerate(tensors)
    ]
    return w.node("Concat", parts, axis=axis)


def _pad(w: Writing, x: Array, pad: Sequence[int], mode: str = "constant", value: Any = None) -> str:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise NotWrittenError(f"{mode} padding")
    if not any(pad):
        return w.name(x)
    edges = [0] * (x.rank * 2)
    for i in range(len(pad) // 2):
        edges[x.rank - 1 - i], edges[2 * x.rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    kind = {"mode": modes[mode]} if mode != "constant" else {}
    if w.opset < 11:
        return w.node("Pad", [x], pads=edges, **kind, **({"value": float(value)} if value else {}))
    return w.node("Pad", [x, _ints(*edges), *([w.operand(value, x, "value")] if value else [])], **kind)


def _index(w: Writing, x: Array, indices: Sequence[Any]) -> str:
    """Select entries along one dimension, at constant positions."""
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(given) != 1 or not isinstance(given[0][1], Array) or given[0][1].value is None:
        raise NotWrittenError("positions that depend on the images, or along several dimensions")
    ((axis, index),) = given
    at = index.value
    if at.dtype == torch.bool:
        if at.ndim != 1:
            raise NotWrittenError("a mask with several dimensions")
        at = at.nonzero()[:, 0]
    size = x.size(axis)
    return w.node("Gather", [x, at.long() % size], **({"axis": axis} if axis else {}))


def _windows(w: Writing, x: Array, dimension: int, size: int, step: int) -> str:
    """Overlapping windows of entries, in a new last dimension."""
    axis = x.dim(dimension)
    starts = torch.arange(0, x.size(axis) - size + 1, step)
    found = w.node("Gather", [x, starts[:, None] + torch.arange(size)], "runs", **({"axis": axis} if axis else {}))
    order = [i for i in range(x.rank + 1) if i != axis + 1]
    return w.node("Transpose", [found], perm=[*order, axis + 1])


def _roll(w: Writing, x: Array, shifts: Any, dims: Any) -> str:
    shifts, dims = ((value,) if isinstance(value, int) else tuple(value) for value in (shifts, dims))
    if not dims:
        raise NotWrittenError("all dimensions at once")
    moves = [(x.dim(dim), shift % x.size(dim)) for shift, dim in zip(shifts, dims, strict=True)]
    moves = [(axis, shift) for axis, shift in moves if shift]
    last = w.name(x)
    for number, (axis, shift) in enumerate(moves):
        size = x.size(axis)
        end = _cut(w, last, axis, size - shift, size, 1, f"end{number}")
        start = _cut(w, last, axis, 0, size - shift, 1, f"start{number}")
        last = w.node("Concat", [end, start], "" if number == len(moves) - 1 else f"moved{number}", axis=axis)
    return last


def _flip(w: Writing, x: Array, dims: Sequence[int]) -> str:
    axes = [x.dim(dim) for dim in dims]
    for axis in axes:
        x.size(axis)
    return w.node("Slice", [x, _ints(*[-1] * len(axes)), _ints(*[-(2**31)] * len(axes)), _ints(*axes), _ints(*[-1] * len(axes))])


def _repeat(w: Writing, x: Array, repeats: Sequence[Any]) -> str:
    if any(isinstance(times, Batch) for times in repeats):
        own = (*[1] * (len(repeats) - x.rank), *x.dims)
        if any(have != 1 and times != 1 for have, times in zip(own, repeats, strict=True)):
            raise NotWrittenError("it repeats more than one entry for each image")
        return _expand(w, x)
    lead = w.reshaped(w.name(x), x.dims, [*[1] * (len(repeats) - x.rank), *x.dims], "lead")
    return lead if all(times == 1 for times in repeats) else w.node("Tile", [lead, _ints(*repeats)])


def interleaved(w: Writing, x: Array, times: int, axis: int, out: Sequence[int | Batch], part: str = "") -> str:
    """Repeat each entry along a dimension."""
    dims = [*x.dims[: axis + 1], 1, *x.dims[axis + 1 :]]
    lead = w.reshaped(w.name(x), x.dims, dims, f"{part}lead")
    sizes = [times if i == axis + 1 else 1 for i in range(len(dims))]
    wide = w.node("Expand", [lead, w.shape(sizes, f"{part}sizes")], f"{part}wide")
    return w.reshaped(wide, [times if i == axis + 1 else size for i, size in enumerate(dims)], out, part)


def _repeat_interleave(w: Writing, x: Array, repeats: Any, dim: int | None = None, output_size: Any = None) -> str:
    if not isinstance(repeats, int) or dim is None:
        raise NotWrittenError("repeats given by a tensor")
    return interleaved(w, x, repeats, x.dim(dim), w.out[0].dims)


def _shuffled(w: Writing, x: Array, between: Sequence[int | Batch], order: Sequence[int]) -> str:
    """Reshape, transpose and reshape again."""
    parts = w.reshaped(w.name(x), x.dims, between, "parts")
    moved = w.node("Transpose", [parts], "moved", perm=order)
    return w.reshaped(moved, [between[i] for i in order], w.out[0].dims)


def _pixel_shuffle(w: Writing, x: Array, upscale_factor: int) -> str:
    if x.rank == 4 and w.opset >= 11:
        return w.node("DepthToSpace", [x], blocksize=upscale_factor, mode="CRD")
    r, (*lead, _, height, width) = upscale_factor, x.dims
    n = len(lead)
    between = [*lead, x.size(-3) // r**2, r, r, height, width]
    return _shuffled(w, x, between, [*range(n), n, n + 3, n + 1, n + 4, n + 2])


def _pixel_unshuffle(w: Writing, x: Array, downscale_factor: int) -> str:
    r, n = downscale_factor, x.rank - 3
    between = [*x.dims[:-2], x.size(-2) // r, r, x.size(-1) // r, r]
    return _shuffled(w, x, between, [*range(n), n, n + 2, n + 4, n + 1, n + 3])


def _channel_shuffle(w: Writing, x: Array, groups: int) -> str:
    between = [x.dims[0], groups, x.size(1) // groups, *x.dims[2:]]
    return _shuffled(w, x, between, [0, 2, 1, *range(3, len(between))])


VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
TRANSPOSES = ("permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "numpy_T", "mT", "adjoint")
FILLED = ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
SHAPES: dict[str, Write] = {
    **dict.fromkeys(VIEWS, lambda w, x, **ignored: w.reshaped(w.name(x), x.dims, w.out[0].dims)),
    **dict.fromkeys(TRANSPOSES, _transpose),
    **dict.fromkeys(FILLED, _filled),
    "expand": _expand, "expand_as": _expand, "broadcast_to": _expand, "copy": lambda w, x, src, **ignored: _expand(w, src),
    "repeat": _repeat, "repeat_interleave": _repeat_interleave,
    "slice": _slice, "narrow": _narrow, "select": _select,
    "unbind": lambda w, x, dim: [_select(w, x, dim, i, f"{i}") for i in range(x.size(dim))],
    "index": _index, "index_select": lambda w, x, dim, index: _index(w, x, [*[None] * x.dim(dim), index]),
    "unfold": _windows, "slice_scatter": _slice_scatter, "select_scatter": _select_scatter,
    "split": _split, "split_with_sizes": _split, "chunk": _split, "tensor_split": _split,
    "cat": _cat, "concat": _cat, "stack": _stack,
    "pad": _pad, "constant_pad_nd": _pad, "roll": _roll, "flip": _flip,
    "one_hot": lambda w, x, num_classes: w.node("OneHot", [x, _ints(num_classes), _ints(0, 1)]),
    "pixel_shuffle": _pixel_shuffle, "pixel_unshuffle": _pixel_unshuffle, "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
}  # fmt: skip
