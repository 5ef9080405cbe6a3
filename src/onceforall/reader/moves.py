"""Rules for operations that move entries: reshape, permute, slice, concatenate. NumPy moves labels as torch moves numbers."""

from collections.abc import Callable
from math import prod

import numpy as np

from ..graph import Own, Size, Value
from .labels import Array, Factors, Labels, collapsed
from .rules import because, factors_of, keep_dims, keep_only, long_dims, merge, opaque, rule, shape_of, with_ones
from .trace import Step


def moved(labels: Labels, step: Step, move: Callable[[Array], Array]) -> list[Factors]:
    return [[move(factor) for factor in factors_of(labels, step.args[0])]]


@rule("view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view", "reshape_as", "view_as")
def reshape(labels: Labels, step: Step) -> list[Factors]:
    before, after = shape_of(labels, step.args[0]), step.shapes[0]
    found = []
    for factor in factors_of(labels, step.args[0]):
        made = reshaped(factor, before, after)
        if made.size == factor.size or not any(copies[0] <= factor.flat[0] <= copies[-1] for copies in labels.copies):
            found.append(made)
        else:
            labels.fix([factor], because(step, "copies become entries of another dimension, with whose labels they go"))
    return [found]


def reshaped(factor: Array, before: tuple[int, ...], after: tuple[int, ...]) -> Array:
    """Labels of a reshaped tensor.

    Only dimensions that are merged or split together with a labeled one are expanded; the others keep size 1.
    """
    for old, _ in _blocks(before, after):
        if any(factor.shape[dim] > 1 for dim in old):
            factor = np.broadcast_to(factor, [before[d] if d in old else factor.shape[d] for d in range(len(before))])
    shape: list[int] = []
    for old, new in _blocks(before, after):
        known = prod(factor.shape[dim] for dim in old) > 1
        shape += [after[dim] if known else 1 for dim in new]
    return collapsed(factor.reshape(shape))


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The shortest corresponding runs of dimensions in both shapes that have equal numbers of entries."""
    blocks, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        old, new, a, b = [], [], 1, 1
        if i < len(before):
            old, a, i = [i], before[i], i + 1
        if j < len(after) and (a != 1 or i > len(before) or not old or after[j] == 1 or len(after) - j > len(before) - i):
            new, b, j = [j], after[j], j + 1
        while a != b:
            if a < b and i < len(before):
                old.append(i)
                a *= before[i]
                i += 1
            elif j < len(after):
                new.append(j)
                b *= after[j]
                j += 1
            else:
                break
        blocks.append((old, new))
    return blocks


@rule("permute")
def permute(labels: Labels, step: Step) -> list[Factors]:
    return moved(labels, step, lambda f: f.transpose(step.args[1]))


@rule("transpose", "swapaxes")
def transpose(labels: Labels, step: Step) -> list[Factors]:
    return moved(labels, step, lambda f: np.swapaxes(f, step.args[1], step.args[2]))


@rule("t", "numpy_T", "mT", "adjoint")
def transpose_last(labels: Labels, step: Step) -> list[Factors]:
    return moved(labels, step, lambda f: np.swapaxes(f, -1, -2) if f.ndim > 1 else f)


@rule("movedim")
def movedim(labels: Labels, step: Step) -> list[Factors]:
    return moved(labels, step, lambda f: np.moveaxis(f, step.args[1], step.args[2]))


@rule("expand", "expand_as", "broadcast_to")
def expand(labels: Labels, step: Step) -> list[Factors]:
    """Repeat a dimension of size 1; the copies get labels of their own."""
    after, ndim = step.shapes[0], len(step.shapes[0])
    before = (1,) * (ndim - len(shape_of(labels, step.args[0]))) + shape_of(labels, step.args[0])
    (kept,) = moved(labels, step, lambda f: with_ones(f, ndim))
    for dim, (old, size) in enumerate(zip(before, step.sizes[0], strict=True)):
        if old == 1 < after[dim] and not size.batch and len(size.terms) == 1 and isinstance(size.terms[0][0], int):
            (made,) = labels.fresh([n if d == dim else 1 for d, n in enumerate(after)])
            labels.copies.append(made.ravel())
            kept.append(made)
    return [kept]


@rule("repeat", "tile")
def repeat(labels: Labels, step: Step) -> list[Factors]:
    before, after = shape_of(labels, step.args[0]), step.shapes[0]
    padded = (1,) * (len(after) - len(before)) + before
    times = [new // old if old else 1 for old, new in zip(padded, after, strict=True)]
    given = [with_ones(f, len(after)) for f in factors_of(labels, step.args[0])]
    return [[np.tile(f, [n if size > 1 else 1 for n, size in zip(times, f.shape, strict=True)]) for f in given]]


@rule("repeat_interleave")
def repeat_interleave(labels: Labels, step: Step) -> list[Factors]:
    """Repeat each entry, as for keys and values that several heads share."""
    if step.op != "repeat_interleave.self_int" or len(step.args) < 3 or not all(isinstance(arg, int) for arg in step.args[1:3]):
        return opaque(labels, step)
    times, dim = step.args[1:3]
    return moved(labels, step, lambda f: np.repeat(f, times if f.shape[dim] > 1 else 1, dim))


@rule("cat", "concat", "concatenate")
def cat(labels: Labels, step: Step) -> list[Factors]:
    tensors = step.args[0]
    dim = step.argument(1, "dim", 0) % len(step.shapes[0])
    others, along = [], []
    for tensor in tensors:
        factors, shape = factors_of(labels, tensor), shape_of(labels, tensor)
        if len(shape) != len(step.shapes[0]) or shape[dim] == 0:
            continue  # an empty tensor
        rest, own = keep_dims(factors, lambda d: d != dim)
        others.append((rest, tuple(1 if d == dim else s for d, s in enumerate(shape))))
        if len(own) > 1:
            labels.fix(own, because(step, "channels that are mixed with other dimensions"))
        along.append((own[0] if len(own) == 1 else None, shape[dim]))
    found = merge(labels, step, others)
    if all(f is not None for f, _ in along) and any(f is not None and f.size != size for f, size in along):
        given = [f for f, _ in along if f is not None]  # labels along several dimensions, such as heads and their channels
        common = np.broadcast_shapes(*([*f.shape[:dim], 1, *f.shape[dim + 1 :]] for f in given))
        whole = [np.broadcast_to(f, (*common[:dim], f.shape[dim], *common[dim + 1 :])) for f in given]
        found.append(np.concatenate(whole, dim))
    elif any(f is not None for f, _ in along):
        for factor, size in along:
            if factor is not None and factor.size != size:
                labels.fix([factor], because(step, "channels that are mixed with other dimensions"))
        along = [(f if f is not None and f.size == size else None, size) for f, size in along]
        parts: list[Array] = []
        for factor, size in along:
            if factor is None:  # unlabeled parts get fixed labels
                factor = np.arange(labels.count, labels.count + size)
                labels.count += size
                labels.fix([factor], because(step))
            parts.append(factor.ravel())
        found.append(np.concatenate(parts).reshape([-1 if d == dim else 1 for d in range(len(step.shapes[0]))]))
    return [found]


@rule("stack")
def stack(labels: Labels, step: Step) -> list[Factors]:
    dim = step.argument(1, "dim", 0) % len(step.shapes[0])
    made = merge(labels, step, [(factors_of(labels, t), shape_of(labels, t)) for t in step.args[0]])
    return [[np.expand_dims(f, dim) for f in made]]


@rule("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(labels: Labels, step: Step) -> list[Factors]:
    ndim = len(shape_of(labels, step.args[0]))
    dim = step.argument(2, "dim", 0) % ndim
    edges = np.cumsum([shape[dim] for shape in step.shapes])[:-1]
    results: list[Factors] = [[] for _ in step.shapes]
    for factor in factors_of(labels, step.args[0]):
        parts = np.split(factor, edges, dim) if factor.shape[dim] > 1 else [factor] * len(results)
        for own, part in zip(results, parts, strict=True):
            own.append(collapsed(part) if part.size == 1 else part)
    return results


@rule("glu")
def glu(labels: Labels, step: Step) -> list[Factors]:
    """Multiply one half by the sigmoid of the other."""
    dim = step.argument(1, "dim", -1) % len(step.shapes[0])
    halves: list[Factors] = [[], []]
    for factor in factors_of(labels, step.args[0]):
        for own, part in zip(halves, np.split(factor, 2, dim) if factor.shape[dim] > 1 else (factor, factor), strict=True):
            own.append(part)
    return [merge(labels, step, [(own, step.shapes[0]) for own in halves])]


@rule("unbind")
def unbind(labels: Labels, step: Step) -> list[Factors]:
    ndim = len(shape_of(labels, step.args[0]))
    dim = step.argument(1, "dim", 0) % ndim
    results: list[Factors] = [[] for _ in step.shapes]
    for factor in factors_of(labels, step.args[0]):
        for i, own in enumerate(results):
            own.append(_taken(factor, i, dim))
        if factor.shape[dim] > 1:
            _one_by_one(labels, step, factor, dim)
    return results


def _one_by_one(labels: Labels, step: Step, factor: Array, dim: int) -> None:
    """Fix entries along a dimension that are selected by index, unless they also have labels of other dimensions."""
    if factor.size == factor.shape[dim]:
        labels.fix([factor], because(step, "channels that are taken one by one"))


@rule("getitem")
def getitem(labels: Labels, step: Step) -> list[Factors]:
    source, index = step.args
    return [labels.values[source.name][index]]


@rule("select")
def select(labels: Labels, step: Step) -> list[Factors]:
    dim, index = step.args[1], step.args[2]
    found = []
    for factor in factors_of(labels, step.args[0]):
        if factor.shape[dim] > 1:
            _one_by_one(labels, step, factor, dim % factor.ndim)
        found.append(_taken(factor, index, dim))
    return [found]


def _taken(factor: Array, index: int, dim: int) -> Array:
    """The labels at an index along a dimension, which is removed."""
    return np.asarray(np.take(factor, index if factor.shape[dim] > 1 else 0, dim))


@rule("slice", "narrow")
def cut(labels: Labels, step: Step) -> list[Factors]:
    _, dim, start, end, jump = (*step.args, *(0, 0, None, 1)[len(step.args) - 1 :])[:5]
    if isinstance(start, Size) or isinstance(end, Size) or isinstance(jump, Size):
        axis = dim % len(step.shapes[0])
        return [keep_only(labels, step, step.args[0], lambda d: d != axis, "channels that are cut by the resolution")]
    if step.kind == "narrow":
        start = start + shape_of(labels, step.args[0])[dim] if start < 0 else start
        end = start + end
    if 0 in step.shapes[0]:  # an empty tensor, whose other dimensions keep their labels
        own = dim % len(step.shapes[0])
        return [[f.take([0], own) for f in factors_of(labels, step.args[0]) if long_dims(f) != {own}]]
    found = []
    for factor in factors_of(labels, step.args[0]):
        if factor.shape[dim] > 1:
            if jump not in (1, None) and factor.size == factor.shape[dim]:
                labels.fix([factor], because(step, "channels that are taken in steps"))
            index = [slice(None)] * factor.ndim
            index[dim] = slice(start, end, jump)
            factor = factor[tuple(index)]
        found.append(factor)
    return [found]


@rule("slice_scatter")
def slice_scatter(labels: Labels, step: Step) -> list[Factors]:
    """Overwrite a part of a tensor."""
    x, source, dim, start, end, jump = (*step.args, *(0, None, None, 1)[len(step.args) - 2 :])[:6]
    if jump != 1 or isinstance(start, Size) or isinstance(end, Size):
        return opaque(labels, step)
    factors, whole = factors_of(labels, x), [slice(None)] * len(step.shapes[0])
    part = [*whole[:dim], slice(start, end), *whole[dim + 1 :]]
    parts = [factor[tuple(part)] if factor.shape[dim] > 1 else factor for factor in factors]
    shape = shape_of(labels, source)
    merge(labels, step, [(parts, shape), (factors_of(labels, source), shape)])
    return [list(factors)]


@rule("pixel_shuffle")
def pixel_shuffle(labels: Labels, step: Step) -> list[Factors]:
    """Turn groups of adjacent channels, which are tied, into pixels."""
    x, scale = step.args
    kept = keep_only(labels, step, x, lambda dim: dim == 1, "pixels that are moved")
    return [[labels.tie_along(factor.reshape(-1, scale**2), [1]).reshape(1, -1, 1, 1) for factor in kept]]


@rule("pixel_unshuffle")
def pixel_unshuffle(labels: Labels, step: Step) -> list[Factors]:
    """Turn pixels into adjacent channels."""
    x, scale = step.args
    kept = keep_only(labels, step, x, lambda dim: dim == 1, "pixels that are moved")
    return [[np.repeat(factor, scale**2, 1) for factor in kept]]


@rule("index", "embedding")
def indexed(labels: Labels, step: Step) -> list[Factors]:
    """Select entries of a table along one dimension, at fixed positions."""
    table, chosen = step.args[:2]
    positions = chosen if isinstance(chosen, tuple) else (chosen,)
    given = [(dim, p) for dim, p in enumerate(positions) if p is not None]
    if len(given) != 1 or not isinstance(given[0][1], Value | Own):
        return opaque(labels, step)
    ((dim, where),) = given
    labels.fix(factors_of(labels, where), because(step, "positions in a table"))
    kept = keep_only(labels, step, table, lambda d: d != dim, "entries of a table")
    new = len(shape_of(labels, where))
    return [[f.reshape((*f.shape[:dim], *(1,) * new, *f.shape[dim + 1 :])) for f in kept]]


@rule("index_select")
def index_select(labels: Labels, step: Step) -> list[Factors]:
    table, dim, where = step.args
    labels.fix(factors_of(labels, where), because(step, "positions in a table"))
    return [keep_only(labels, step, table, lambda d: d != dim % len(step.shapes[0]), "entries of a table")]
