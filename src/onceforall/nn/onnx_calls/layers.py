"""Write convolutions, norms, pooling, matrix products and attention."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod, sqrt
from operator import floordiv, mod
from typing import Any

import torch

from .shapes import interleaved
from .writer import Array, NotWrittenError, Write, Writing, affine


def _each(value: Any, n: int) -> list[int]:
    """One number per dimension, given as a single number or one for each."""
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _window(kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], dilation: Sequence[int]) -> dict[str, list[int]]:
    """Attributes of a convolution or pooling that differ from their defaults."""
    given = {"kernel_shape": list(kernel)}
    if any(step != 1 for step in stride):
        given["strides"] = list(stride)
    if any(pads):
        given["pads"] = list(pads)
    if any(step != 1 for step in dilation):
        given["dilations"] = list(dilation)
    return given


def _conv(w: Writing, x: Array, weight: Array, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> str:
    if not isinstance(groups, int):
        raise NotWrittenError("one group per image")
    kernel = [weight.size(i) for i in range(2, weight.rank)]
    n = len(kernel)
    stride, dilation = _each(stride, n), _each(dilation, n)
    if padding == "same":
        total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        pads = [*(size // 2 for size in total), *(size - size // 2 for size in total)]
    else:
        pads = [0] * 2 * n if padding == "valid" else _each(padding, n) * 2
    if x.rank != n + 2:
        raise NotWrittenError("images without a batch")
    more = {"group": groups} if groups != 1 else {}
    return w.node("Conv", [x, weight, bias], **_window(kernel, stride, pads, dilation), **more)


def _conv_transpose(
    w: Writing, x: Array, weight: Array, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> str:
    kernel = [weight.size(i) for i in range(2, weight.rank)]
    n = len(kernel)
    more: dict[str, Any] = {"group": groups} if groups != 1 else {}
    if any(_each(output_padding, n)):
        more["output_padding"] = _each(output_padding, n)
    window = _window(kernel, _each(stride, n), _each(padding, n) * 2, _each(dilation, n))
    return w.node("ConvTranspose", [x, weight, bias], **window, **more)


def _patches(w: Writing, x: Array, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> str:
    """The pixels of each window as channels (F.unfold), by a convolution that copies."""
    kernel, pads = _each(kernel_size, 2), _each(padding, 2) * 2
    if x.rank != 4:
        raise NotWrittenError("images without a batch")
    window = _window(kernel, _each(stride, 2), pads, _each(dilation, 2))
    found = w.node("Conv", [x, _copying(x.size(1), kernel)], "windows", **window, group=x.size(1))
    return w.reshaped(found, [*w.out[0].dims, 1], w.out[0].dims)  # for any height and width


def _from_patches(w: Writing, x: Array, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> str:
    """The sum of overlapping windows (F.fold), by a transposed convolution that copies."""
    kernel, step, apart, pads = (_each(value, 2) for value in (kernel_size, stride, dilation, padding))
    if x.rank != 3:
        raise NotWrittenError("images without a batch")
    spans = [w.out[0].size(i + 2) + 2 * pads[i] - apart[i] * (kernel[i] - 1) - 1 for i in range(2)]
    places, rest = ([part(span, s) for span, s in zip(spans, step, strict=True)] for part in (floordiv, mod))
    lead = w.reshaped(w.name(x), x.dims, [*x.dims[:2], *(place + 1 for place in places)], "windows")
    more: dict[str, Any] = {"output_padding": rest} if any(rest) else {}
    more |= {"group": w.out[0].size(1), **_window(kernel, step, pads * 2, apart)}
    return w.node("ConvTranspose", [lead, _copying(w.out[0].size(1), kernel)], **more)


def _copying(channels: int, kernel: Sequence[int]) -> torch.Tensor:
    """Weights of a depthwise convolution with one output for each pixel of the window."""
    pixels = kernel[0] * kernel[1]
    return torch.eye(pixels).reshape(pixels, 1, *kernel).repeat(channels, 1, 1, 1)


def _linear(w: Writing, x: Array, weight: Array, bias: Any) -> str:
    if x.rank == 2:
        return w.node("Gemm", [x, weight, bias], transB=1)
    if weight.value is None:
        turned: Array | torch.Tensor | str = w.node("Transpose", [weight], "turned", perm=[1, 0])
    else:
        turned = w.name(weight.value.T, "weight")
    if bias is None:
        return w.node("MatMul", [x, turned])
    return w.node("Add", [w.node("MatMul", [x, turned], "product"), bias])


def _values(*arrays: Array | None) -> list[torch.Tensor | None]:
    if any(array is not None and array.value is None for array in arrays):
        raise NotWrittenError("weights that depend on the images")
    return [None if array is None else array.value for array in arrays]


def _batch_norm(
    w: Writing, x: Array, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, eps: float, **ignored: Any
) -> str:
    if training or running_mean is None:
        raise NotWrittenError("statistics of the batch")
    own = _values(weight, bias, running_mean, running_var)
    scale, shift = (value.reshape(-1, *[1] * (x.rank - 2)) for value in affine(*own, eps=eps))
    return w.node("Add", [w.node("Mul", [x, w.name(scale, "scale")], "scaled"), w.name(shift, "shift")])


def _layer_norm(w: Writing, x: Array, normalized_shape: Any, weight: Any, bias: Any, eps: float, **ignored: Any) -> str:
    n = len(normalized_shape)
    if w.opset >= 17:
        scale = weight if weight is not None else w.name(torch.ones(tuple(normalized_shape)), "scale")
        more: dict[str, Any] = {} if n == 1 else {"axis": -n}
        more |= {} if eps == 1e-5 else {"epsilon": eps}
        return w.node("LayerNormalization", [x, scale, bias], **more)
    axes = [x.rank - n + i for i in range(n)]
    centred = w.node("Sub", [x, _reduced(w, "ReduceMean", x, axes, True, "mean")], "centred")
    variance = _reduced(w, "ReduceMean", w.node("Mul", [centred, centred], "square"), axes, True, "variance")
    spread = w.node("Sqrt", [w.node("Add", [variance, torch.tensor(eps)], "more")], "spread")
    return _scaled(w, w.node("Div", [centred, spread], "normal"), weight, bias)


def _scaled(w: Writing, x: str, weight: Any, bias: Any) -> str:
    """Multiply by the weight and add the bias, if given."""
    if weight is not None:
        x = w.node("Mul", [x, weight], "scaled")
    return x if bias is None else w.node("Add", [x, bias], "shifted")


def _rms_norm(w: Writing, x: Array, normalized_shape: Any, weight: Any, eps: Any) -> str:
    axes = [x.rank - len(normalized_shape) + i for i in range(len(normalized_shape))]
    mean = _reduced(w, "ReduceMean", w.node("Mul", [x, x], "square"), axes, True, "mean")
    least = torch.finfo(torch.float32).eps if eps is None else eps
    root = w.node("Sqrt", [w.node("Add", [mean, torch.tensor(least)], "more")], "root")
    return _scaled(w, w.node("Div", [x, root], "normal"), weight, None)


def _group_norm(w: Writing, x: Array, num_groups: int, weight: Any, bias: Any, eps: float, **ignored: Any) -> str:
    grouped = [x.dims[0], num_groups, x.size(1) // num_groups * prod(x.size(i) for i in range(2, x.rank))]
    parts = w.reshaped(w.name(x), x.dims, grouped, "groups")
    ones, zeros = torch.ones(num_groups), torch.zeros(num_groups)
    more = {} if eps == 1e-5 else {"epsilon": eps}
    normal = w.node("InstanceNormalization", [parts, w.name(ones, "ones"), w.name(zeros, "zeros")], "normal", **more)
    back = w.reshaped(normal, grouped, x.dims, "back")
    shape = [-1, *[1] * (x.rank - 2)]
    pairs = zip(("weight", "bias"), _values(weight, bias), strict=True)
    own = [None if value is None else w.name(value.reshape(shape), name) for name, value in pairs]
    return _scaled(w, back, *own)


def _reduced(w: Writing, kind: str, x: Array | str, axes: Sequence[int], keep: bool, part: str = "") -> str:
    """Reduce along axes, which are an attribute in older opsets and an input in newer ones (since 13 for sums, 18 for others)."""
    more: dict[str, Any] = {} if keep else {"keepdims": 0}
    if w.opset >= (13 if kind == "ReduceSum" else 18):
        return w.node(kind, [x, w.name(torch.tensor(axes, dtype=torch.long), f"{part}.axes")], part, **more)
    return w.node(kind, [x], part, axes=list(axes), **more)


def _reduce(kind: str) -> Write:
    def write(w: Writing, x: Array, dim: Any = None, keepdim: bool = False, **ignored: Any) -> str:
        if not x.floating:
            raise NotWrittenError("integers")
        axes = (
            list(range(x.rank)) if dim is None or dim == () else sorted(x.dim(d) for d in ([dim] if isinstance(dim, int) else dim))
        )
        if any(not isinstance(x.dims[axis], int) for axis in axes):
            raise NotWrittenError("it combines images")
        if kind == "ReduceMean" and keepdim and x.rank == 4 and axes == [2, 3]:
            return w.node("GlobalAveragePool", [x])
        return _reduced(w, kind, x, axes, keepdim)

    return write


def _extreme(kind: str) -> Write:
    """The largest or smallest entry along a dimension; its index, the second result, only if nothing uses it."""

    def write(w: Writing, x: Array, dim: Any = None, keepdim: bool = False, other: Any = None) -> list[str]:
        if len(w.out) < 2 or other is not None:
            raise NotWrittenError("the extreme of two tensors or of all entries")
        return [_reduce(kind)(replace(w, out=w.out[:1]), x, dim, keepdim), ""]  # type: ignore[list-item]

    return write


def _variance(root: bool) -> Write:
    """The variance, or its square root."""

    def write(w: Writing, x: Array, dim: Any = None, correction: Any = None, keepdim: bool = False, **ignored: Any) -> str:
        less = ignored.get("unbiased", 1 if correction is None else correction)
        axes = list(range(x.rank)) if dim is None or dim == () else sorted(x.dim(d) for d in dim)
        count = prod(map(x.size, axes))
        centred = w.node("Sub", [x, _reduced(w, "ReduceMean", x, axes, True, "mean")], "centred")
        found = _reduced(w, "ReduceMean", w.node("Mul", [centred, centred], "square"), axes, keepdim, "of")
        share = torch.tensor(count / max(0, count - less), dtype=torch.float64)
        found = w.node("Mul", [found, share], "more" if root else "")
        return w.node("Sqrt", [found]) if root else found

    return write


def _vector_norm(w: Writing, x: Array, ord: Any = 2, dim: Any = None, keepdim: bool = False, **ignored: Any) -> str:
    kinds = {1: "ReduceL1", 2: "ReduceL2"}
    order = ignored.get("p", ord)
    if order not in kinds:
        raise NotWrittenError(f"a norm of order {order}")
    return _reduce(kinds[order])(w, x, dim, keepdim)  # type: ignore[return-value]


def _adaptive(w: Writing, x: Array, output_size: Any) -> str:
    """Average pooling if all windows are equal, else products with matrices that average rows and columns over each window."""
    sizes = [x.size(i) for i in (-2, -1)]
    out = [w.out[0].size(i) for i in (-2, -1)]
    if out == [1, 1] and x.rank == 4:
        return w.node("GlobalAveragePool", [x])
    if out == sizes:
        return w.name(x)
    if x.rank == 4 and all(size % wanted == 0 for size, wanted in zip(sizes, out, strict=True)):
        kernel = [size // wanted for size, wanted in zip(sizes, out, strict=True)]
        return w.node("AveragePool", [x], **_window(kernel, kernel, [0] * 4, [1, 1]))
    rows, columns = (_windows(size, wanted) for size, wanted in zip(sizes, out, strict=True))
    return w.node("MatMul", [w.node("MatMul", [w.name(rows, "rows"), x], "high"), w.name(columns.T, "columns")])


def _windows(size: int, wanted: int) -> torch.Tensor:
    """The weight of each entry in each window's mean (wanted, size)."""
    matrix = torch.zeros(wanted, size, dtype=torch.float64)
    for i in range(wanted):
        first, last = i * size // wanted, -(-(i + 1) * size // wanted)
        matrix[i, first:last] = 1 / (last - first)
    return matrix


def _pool(w: Writing, x: Array, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, **rest: Any) -> str:
    n = max(len(_each(kernel_size, 1)), x.rank - 2)
    kernel, pads = _each(kernel_size, n), _each(padding, n)
    stride = _each(stride, n) if stride not in (None, (), []) else kernel
    dilation = _each(rest.get("dilation", 1), n)
    mean = "count_include_pad" in rest
    if rest.get("divisor_override") is not None:
        raise NotWrittenError("a custom divisor")
    ends = list(pads)
    ceil: dict[str, int] = {}
    for i in range(n):
        covered = (w.out[0].size(i - n) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        missing = covered - (x.size(i - n) + 2 * pads[i])
        if missing <= 0:
            continue
        if not any(pads):
            ceil = {"ceil_mode": 1}
        elif mean:
            raise NotWrittenError("windows that extend beyond padded edges")
        else:
            ends[i] += missing  # pixels that are never the maximum
    more = {"count_include_pad": 1} if mean and rest["count_include_pad"] and any(pads) else {}
    return w.node("AveragePool" if mean else "MaxPool", [x], **_window(kernel, stride, [*pads, *ends], dilation), **ceil, **more)


def _resize(mode: str) -> Write:
    def write(w: Writing, x: Array, output_size: Any = None, align_corners: bool = False, **ignored: Any) -> str:
        sizes, out = ([array.size(i) for i in (-2, -1)] for array in (x, w.out[0]))
        if sizes == out:
            return w.name(x)
        scales = [wanted / size for wanted, size in zip(out, sizes, strict=True)]
        if w.opset < 11:
            if mode != "nearest" or any(scale != int(scale) for scale in scales):
                raise NotWrittenError("scale factors that are not integers need opset 11")
            return w.node("Resize", [x, torch.tensor([1.0, 1.0, *scales])])
        where = "asymmetric" if mode == "nearest" else "align_corners" if align_corners else "half_pixel"
        more: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {"mode": mode}
        more |= {"cubic_coeff_a": -0.75} if mode == "cubic" else {}
        more |= {} if where == "half_pixel" else {"coordinate_transformation_mode": where}
        if all(scale == int(scale) for scale in scales):
            rois = "" if w.opset >= 13 else w.name(torch.zeros(0), "roi")
            return w.node("Resize", [x, rois, w.name(torch.tensor([1.0, 1.0, *scales]), "scales")], **more)
        empty = ["", ""] if w.opset >= 13 else [w.name(torch.zeros(0), "roi"), w.name(torch.zeros(0), "scales")]
        return w.node("Resize", [x, *empty, w.shape(w.out[0].dims, "sizes")], **more)

    return write


def _added(w: Writing, x: Array, beta: Any = 1, alpha: Any = 1, **factors: Array) -> str:
    """beta · x + alpha · (a @ b)"""
    product = w.node("MatMul", list(factors.values()), "product")
    if alpha != 1:
        product = w.node("Mul", [product, torch.tensor(float(alpha))], "scaled")
    if beta == 0:
        return product
    return w.node("Add", [x if beta == 1 else w.node("Mul", [x, torch.tensor(float(beta))], "part"), product])


def _attention(
    w: Writing,
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Any,
    dropout_p: float,
    is_causal: bool,
    scale: Any,
    enable_gqa: bool,
) -> str:
    keys: Array | str = key
    values: Array | str = value
    if enable_gqa:  # several query heads share keys and values
        times, axis = query.size(-3) // key.size(-3), key.rank - 3
        keys, values = (
            interleaved(w, x, times, axis, [times * x.size(axis) if i == axis else size for i, size in enumerate(x.dims)], part)
            for x, part in ((key, "keys"), (value, "values"))
        )
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    factor = torch.tensor(1 / sqrt(query.size(-1)) if scale is None else float(scale), dtype=torch.float64)
    product = w.node("MatMul", [w.node("Mul", [query, factor], "query"), w.node("Transpose", [keys], "key", perm=order)], "product")
    if is_causal:
        allowed = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool).tril()
        product = w.node("Where", [w.name(allowed, "mask"), product, torch.tensor(-torch.inf)], "masked")
    elif attn_mask is not None and attn_mask.metas[0].dtype == torch.bool:
        product = w.node("Where", [attn_mask, product, torch.tensor(-torch.inf)], "masked")
    elif attn_mask is not None:
        product = w.node("Add", [product, attn_mask], "masked")
    return w.node("MatMul", [_softmaxed(w, "Softmax", product, query.rank - 1, query.rank, "shares"), values])


def _softmaxed(w: Writing, kind: str, x: Array | str, axis: int, rank: int, part: str = "") -> str:
    """Softmax over one dimension; before opset 13 it must be the last, as all later dimensions would be included."""
    if w.opset >= 13:
        return w.node(kind, [x], part, **({} if axis == rank - 1 else {"axis": axis}))
    if axis == rank - 1:
        return w.node(kind, [x], part, **({} if axis == 1 else {"axis": axis}))
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    inner = w.node(kind, [w.node("Transpose", [x], f"{part}turned", perm=order)], f"{part}soft", axis=rank - 1)
    return w.node("Transpose", [inner], part, perm=order)


def _softmax(kind: str) -> Write:
    return lambda w, x, dim, **ignored: _softmaxed(w, kind, x, x.dim(dim), x.rank)


def _einsum(w: Writing, equation: str, tensors: Sequence[Array], path: Any = None) -> str:
    w.need(12, "Einsum")
    return w.node("Einsum", list(tensors), equation=equation.replace(" ", ""))


LAYERS: dict[str, Write] = {
    "conv1d": _conv, "conv2d": _conv, "conv3d": _conv,
    "im2col": _patches, "col2im": _from_patches, "conv_transpose1d": _conv_transpose, "conv_transpose2d": _conv_transpose,
    "linear": _linear, "batch_norm": _batch_norm, "layer_norm": _layer_norm, "group_norm": _group_norm, "rms_norm": _rms_norm,
    "mean": _reduce("ReduceMean"), "sum": _reduce("ReduceSum"), "amax": _reduce("ReduceMax"), "amin": _reduce("ReduceMin"),
    "max": _extreme("ReduceMax"), "min": _extreme("ReduceMin"),
    "var": _variance(False), "std": _variance(True),
    "linalg_vector_norm": _vector_norm, "norm": _vector_norm,
    "adaptive_avg_pool2d": _adaptive, "adaptive_avg_pool1d": lambda w, x, output_size: w.node(
        "MatMul", [x, w.name(_windows(x.size(-1), w.out[0].size(-1)).T, "columns")]
    ),
    "avg_pool2d": _pool, "avg_pool1d": _pool, "max_pool2d": _pool, "max_pool1d": _pool,
    "max_pool2d_with_indices": lambda w, x, **rest: [_pool(replace(w, out=w.out[:1]), x, **rest), ""],
    "upsample_nearest2d": _resize("nearest"), "upsample_bilinear2d": _resize("linear"), "upsample_bicubic2d": _resize("cubic"),
    **dict.fromkeys(("matmul", "bmm", "mm"), lambda w, x, **other: w.node("MatMul", [x, *other.values()])),
    "addmm": _added, "baddbmm": _added,
    "scaled_dot_product_attention": _attention, "softmax": _softmax("Softmax"), "_softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"), "einsum": _einsum,
}  # fmt: skip
