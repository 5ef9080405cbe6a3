"""Rules: what each kind of operation ties. An operation without a rule is *opaque*: everything it touches stays fixed.

A rule takes the labels so far and a step, and returns the factors of each result of the step. To make an operation elastic, write
its rule and register it here.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from ..graph import Own, Value
from ..ops import leaves
from .labels import Array, Factors, Labels, Reason
from .trace import Step

Rule = Callable[[Labels, Step], list[Factors]]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations with these ATen names, without overload."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


# -- helpers -----------------------------------------------------------------------------------------------------------


def factors_of(labels: Labels, argument: Any) -> Factors:
    """The factors of a tensor argument."""
    match argument:
        case Value(name):
            return labels.values[name][0]
        case Own(name):
            return labels.weights[name]
    return []


def shape_of(labels: Labels, argument: Any) -> tuple[int, ...]:
    """The shape of an argument; () for a number."""
    match argument:
        case Value(name):
            return labels.shapes[name][0]
        case Own(name):
            return labels.shapes[f"own {name}"][0]
    return ()


def because(step: Step, text: str = "") -> Reason:
    """A reason that names the step."""
    return Reason(step.op, step.module, text)


def opaque(labels: Labels, step: Step) -> list[Factors]:
    """Fix everything that the step touches."""
    for leaf in leaves((step.args, step.kwargs)):
        if isinstance(leaf, Value | Own):
            for factors in labels.values[leaf.name] if isinstance(leaf, Value) else [labels.weights.get(leaf.name, [])]:
                labels.fix(factors, because(step))
    return [[] for _ in step.shapes]


def with_ones(array: Array, ndim: int) -> Array:
    """Add leading dimensions of size 1, like broadcasting."""
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


def merge(labels: Labels, step: Step, several: Sequence[tuple[Factors, tuple[int, ...]]]) -> Factors:
    """Tie tensors, given with their shapes, that are broadcast against each other; return the factors of the result."""
    ndim = max(len(shape) for _, shape in several)
    tensors = [([with_ones(f, ndim) for f in factors], (1,) * (ndim - len(shape)) + shape) for factors, shape in several]
    fixed: list[Array] = []
    for i, (own, shape) in enumerate(tensors):
        for other, other_shape in tensors[i + 1 :]:
            fixed += _tie_pair(labels, step, own, other, shape, other_shape)
    found: list[tuple[int, Array]] = []  # with the index of its tensor, as two factors of the same tensor are not tied
    for i, (own, _) in enumerate(tensors):
        for factor in own:
            dims = long_dims(factor)
            if any(dims <= long_dims(kept) and j != i for j, kept in found) or any(factor is other for other in fixed):
                continue
            found = [(j, kept) for j, kept in found if j == i or not long_dims(kept) <= dims] + [(i, factor)]
    return [factor for _, factor in found]


def long_dims(factor: Array) -> set[int]:
    """Dimensions along which a factor has labels."""
    return {dim for dim, size in enumerate(factor.shape) if size > 1}


def _tie_pair(
    labels: Labels, step: Step, own: Factors, other: Factors, shape: tuple[int, ...], other_shape: tuple[int, ...]
) -> list[Array]:
    """Tie the factors of two operands; return the factors that are fixed, which the result need not carry."""
    shared = {dim for dim, (a, b) in enumerate(zip(shape, other_shape, strict=True)) if a > 1 and b > 1}
    ours, fixed = _against_unlabeled(labels, step, own, other, shared)
    theirs, more = _against_unlabeled(labels, step, other, own, shared)
    for a in ours:
        for b in theirs:
            both = long_dims(a) & long_dims(b)
            if both and min(long_dims(a)) == min(long_dims(b)):
                labels.tie(a, b)
            elif both:  # channels shared by all heads stay fixed, as heads are only dropped as a whole
                heads, channels = sorted((a, b), key=lambda f: min(long_dims(f)))
                labels.tie_along(heads, sorted(both))
                labels.fix([channels], because(step, "all heads share it"))
                fixed.append(channels)
    return fixed + more


def _against_unlabeled(labels: Labels, step: Step, own: Factors, other: Factors, shared: set[int]) -> tuple[Factors, Factors]:
    """An operand's factors, tied along dimensions in which the other operand has entries without labels; and the fixed ones."""
    known = set().union(*map(long_dims, other))
    found: Factors = []
    fixed: Factors = []
    for factor in own:
        whole = long_dims(factor) & shared - known
        if not whole:
            found.append(factor)
        elif long_dims(factor) - whole:  # heads, each of which spans all unlabeled entries
            found.append(labels.tie_along(factor, sorted(whole)))
        else:
            labels.fix([factor], because(step, "the other operand's size is fixed"))
            fixed.append(factor)
    return found, fixed


def keep_dims(factors: Factors, kept: Callable[[int], bool]) -> tuple[Factors, Factors]:
    """Split factors into those with labels only along kept dimensions, and the others."""
    inside = [f for f in factors if all(map(kept, long_dims(f)))]
    return inside, [f for f in factors if not all(map(kept, long_dims(f)))]


def keep_only(labels: Labels, step: Step, argument: Any, kept: Callable[[int], bool], why: str) -> Factors:
    """The factors of an argument with labels only along kept dimensions; all others are fixed."""
    inside, others = keep_dims(factors_of(labels, argument), kept)
    labels.fix(others, because(step, why))
    return inside


# -- element by element ------------------------------------------------------------------------------------------------


def pointwise(labels: Labels, step: Step) -> list[Factors]:
    """Tie the operands of an element-wise operation, which are broadcast against each other."""
    tensors = [leaf for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Value | Own)]
    if not tensors:
        return [[]]
    found = merge(labels, step, [(factors_of(labels, t), shape_of(labels, t)) for t in tensors])
    return [[with_ones(f, len(step.shapes[0])) for f in found]]


ELEMENTWISE = [
    "dropout", "alpha_dropout", "feature_dropout", "hardsigmoid", "hardswish", "hardtanh", "relu", "relu6", "gelu", "silu", "mish",
    "sigmoid", "tanh", "elu", "selu", "celu", "leaky_relu", "softplus", "prelu_", "threshold", "clamp", "clamp_min", "clamp_max",
    "detach", "to", "_to_copy", "zeros_like", "ones_like", "full_like", "zero", "fill", "softsign", "log_sigmoid", "hardshrink",
    "add", "sub", "mul", "div", "pow", "sqrt", "rsqrt", "exp", "log", "neg", "abs", "square", "where", "maximum", "minimum",
    "float", "rsub", "true_divide", "reciprocal", "cos", "sin", "erf", "round", "floor", "ceil", "sign", "masked_fill",
    "logical_not", "eq", "ne", "lt", "gt", "le", "ge", "bitwise_and", "bitwise_not", "remainder", "feature_alpha_dropout",
]  # fmt: skip
RULES.update(dict.fromkeys(ELEMENTWISE, pointwise))


def element_by_element(op: str) -> bool:
    """Whether ATen marks an operation as element-wise."""
    kind, _, overload = op.partition(".")
    if "::" in kind:
        return False
    try:
        return torch.Tag.pointwise in getattr(getattr(torch.ops.aten, kind), overload).tags
    except AttributeError:
        return False


# -- layers ------------------------------------------------------------------------------------------------------------


@rule("conv1d", "conv2d", "conv3d")
def convolution(labels: Labels, step: Step) -> list[Factors]:
    x, weight, *rest = step.args
    bias = rest[0] if rest else None
    groups = step.args[6] if len(step.args) > 6 else 1
    if not isinstance(groups, int):  # one group per image, each with its own weight
        return opaque(labels, step)
    out = step.shapes[0][1]
    channels = _along(labels, step, factors_of(labels, x), 1)
    rows, columns = _of_matrix(labels, step, weight)
    inside = shape_of(labels, x)[1]
    if groups == 1:
        contract(labels, step, channels, columns)
    elif rows is not None and channels is not None:
        read = channels.reshape(groups, inside // groups)
        made = rows.reshape(groups, out // groups)
        if inside > groups or out > groups:
            labels.tie_along(read, [1])
            labels.tie_along(made, [1])
        labels.tie(read[:, :1], made[:, :1])
        if columns is not None:
            labels.fix([columns], because(step, "inside the groups of a convolution"))
    else:
        labels.fix([found for found in (rows, columns, channels) if found is not None], because(step, "groups of fixed channels"))
    _tie_bias(labels, step, bias, rows)
    single = set(shape_of(labels, weight)[2:]) == {1} and step.shapes[0][2:] == shape_of(labels, x)[2:]
    return [[*_beside(labels, step, x, single), *([] if rows is None else [_standing(rows, 1, len(step.shapes[0]))])]]


def _beside(labels: Labels, step: Step, x: Any, single: bool) -> Factors:
    """Factors of a convolution's input along dimensions other than channels; those over pixels only stay for a 1×1 window."""
    kept, others = keep_dims(factors_of(labels, x), lambda dim: dim == 0 or (single and dim > 1))
    labels.fix([f for f in others if long_dims(f) != {1}], because(step, "a window over them"))
    return kept


@rule("conv_transpose2d")
def transposed(labels: Labels, step: Step) -> list[Factors]:
    x, weight, *rest = step.args
    groups = rest[4] if len(rest) > 4 else 1
    if groups != 1:
        return opaque(labels, step)
    rows, columns = _of_matrix(labels, step, weight)
    contract(labels, step, _along(labels, step, factors_of(labels, x), 1), rows)
    _tie_bias(labels, step, rest[0] if rest else None, columns)
    return [[*_beside(labels, step, x, False), *([] if columns is None else [_standing(columns, 1, 4)])]]


@rule("linear")
def linear(labels: Labels, step: Step) -> list[Factors]:
    x, weight, *rest = step.args
    ndim = len(shape_of(labels, x))
    factors = factors_of(labels, x)
    others, last = keep_dims(factors, lambda dim: dim != ndim - 1)
    rows, columns = _of_matrix(labels, step, weight)
    contract(labels, step, _along(labels, step, last, ndim - 1), columns)
    _tie_bias(labels, step, rest[0] if rest else None, rows)
    return [[*others, *([] if rows is None else [_standing(rows, ndim - 1, ndim)])]]


def _along(labels: Labels, step: Step, factors: Factors, dim: int) -> Array | None:
    """The labels of the first factor that only has labels along this dimension; others that also have labels there are fixed."""
    found = None
    for factor in factors:
        if long_dims(factor) == {dim} and found is None:
            found = factor.ravel()
        elif dim in long_dims(factor):
            labels.fix([factor], because(step, "channels that are mixed with other dimensions"))
    return found


def _of_matrix(labels: Labels, step: Step, weight: Any) -> tuple[Array | None, Array | None]:
    """Labels of a weight's rows and columns; all others are fixed."""
    matrix = keep_only(labels, step, weight, lambda dim: dim < 2, "the window of a convolution")
    return _along(labels, step, matrix, 0), _along(labels, step, matrix, 1)


def contract(labels: Labels, step: Step, read: Array | None, columns: Array | None) -> None:
    """Tie the dimension that a product sums over."""
    if read is not None and columns is not None:
        labels.tie(read, columns)
    else:
        labels.fix([found for found in (read, columns) if found is not None], because(step, "it reads a fixed number of channels"))


def _tie_bias(labels: Labels, step: Step, bias: Any, rows: Array | None) -> None:
    if bias is None:
        return
    if rows is None:
        labels.fix(factors_of(labels, bias), because(step, "its weight has a fixed number of rows"))
    else:
        _tie_vector(labels, step, bias, rows)


def _tie_vector(labels: Labels, step: Step, vector: Any, along: Array) -> None:
    factors = factors_of(labels, vector)
    if factors:
        labels.tie(factors[0].ravel(), along)
    elif prod(shape_of(labels, vector)) > 1:
        labels.fix([along], because(step, "a bias of fixed size"))


def _standing(along: Array, dim: int, ndim: int) -> Array:
    return along.reshape([-1 if d == dim else 1 for d in range(ndim)])


@rule("batch_norm", "instance_norm", "prelu")
def norm(labels: Labels, step: Step) -> list[Factors]:
    return [_channelwise(labels, step, factors_of(labels, step.args[0]), step.args[1:5])]


def _channelwise(labels: Labels, step: Step, factors: Factors, vectors: Sequence[Any]) -> Factors:
    channels = _along(labels, step, factors, 1)
    for vector in vectors:
        if isinstance(vector, Value | Own) and factors_of(labels, vector):
            if channels is None:
                labels.fix(factors_of(labels, vector), because(step, "its input has a fixed number of channels"))
            else:
                _tie_vector(labels, step, vector, channels)
    return factors


@rule("group_norm")
def group_norm(labels: Labels, step: Step) -> list[Factors]:
    x, groups, *vectors = step.args
    factors = factors_of(labels, x)
    channels = _along(labels, step, factors, 1)
    if channels is not None and groups > 1:
        labels.tie_along(channels.reshape(groups, -1), [1])
    return [_channelwise(labels, step, factors, vectors[:2])]


@rule("layer_norm", "rms_norm")
def layer_norm(labels: Labels, step: Step) -> list[Factors]:
    x, _, *vectors = step.args
    operands = [x, *(v for v in vectors if isinstance(v, Value | Own))]
    return [merge(labels, step, [(factors_of(labels, t), shape_of(labels, t)) for t in operands])]


# -- pixels ------------------------------------------------------------------------------------------------------------


@rule(
    "avg_pool1d", "avg_pool2d", "max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
    "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d", "replication_pad2d", "lp_pool2d",
    "max_pool1d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_nearest_exact2d",
)  # fmt: skip
def over_pixels(labels: Labels, step: Step) -> list[Factors]:
    first = len(shape_of(labels, step.args[0])) - (1 if "1d" in step.kind else 2)  # dimension of pixels
    kept = keep_only(labels, step, step.args[0], lambda dim: dim < first, "a window over them")
    return [kept for _ in step.shapes]


@rule("pad", "constant_pad_nd")
def pad(labels: Labels, step: Step) -> list[Factors]:
    x, amounts = step.args[:2]
    ndim = len(shape_of(labels, x))
    padded = {ndim - 1 - i // 2 for i, amount in enumerate(amounts) if amount != 0}
    return [keep_only(labels, step, x, lambda dim: dim not in padded, "padding of channels")]


# -- sums --------------------------------------------------------------------------------------------------------------


@rule(
    "mean", "sum", "amax", "amin", "var", "std", "var_mean", "linalg_vector_norm", "norm", "logsumexp", "max", "min", "argmax",
    "prod", "argmin",
)  # fmt: skip
def reduced(labels: Labels, step: Step) -> list[Factors]:
    if step.op in ("max.other", "min.other"):
        return pointwise(labels, step)
    x = step.args[0]
    ndim, out = len(shape_of(labels, x)), len(step.shapes[0])
    dims = next((a for a in (*step.args[1:], step.kwargs.get("dim")) if _are_dims(a, ndim)), None)
    if dims is None:
        dims = tuple(range(ndim))
    over = {d % ndim for d in ((dims,) if isinstance(dims, int) else dims)} or set(range(ndim))
    found = []
    for factor in factors_of(labels, x):
        mixed = long_dims(factor) & over
        if mixed and (step.kind in ("argmax", "argmin") or step.name in labels.indexed):
            labels.fix([factor], because(step, "numbers of channels are returned"))
        if mixed and long_dims(factor) - over:
            factor = labels.tie_along(factor, sorted(mixed))
        elif mixed:
            continue
        found.append(factor if out == ndim else factor.reshape([s for d, s in enumerate(factor.shape) if d not in over]))
    return [list(found) for _ in step.shapes]


def _are_dims(argument: Any, ndim: int) -> bool:
    if isinstance(argument, bool):
        return False
    if isinstance(argument, int):
        return -ndim <= argument < ndim
    return isinstance(argument, tuple) and all(isinstance(d, int) and -ndim <= d < ndim for d in argument)


@rule("softmax", "_softmax", "log_softmax", "cumsum", "flip", "roll", "sort", "topk")
def mixed_along(labels: Labels, step: Step) -> list[Factors]:
    """Tie or fix the entries that are combined along a dimension."""
    x, *rest = step.args
    ndim = len(shape_of(labels, x))
    if step.kind == "topk":
        dims: Any = rest[1] if len(rest) > 1 else step.kwargs.get("dim", -1)
    elif step.kind == "roll":
        dims = rest[1] if len(rest) > 1 else tuple(range(ndim))
    else:
        dims = rest[0] if rest else step.kwargs.get("dim", -1)
    over = {d % ndim for d in ((dims,) if isinstance(dims, int) else dims)}
    found = []
    for factor in factors_of(labels, x):
        mixed = long_dims(factor) & over
        if mixed and long_dims(factor) - over:
            factor = labels.tie_along(factor, sorted(mixed))
        elif mixed:
            labels.fix([factor], because(step, "entries that are compared with each other"))
            continue
        found.append(factor)
    return [list(found) for _ in step.shapes]


@rule("new_zeros", "new_ones", "new_full", "new_empty")
def new(labels: Labels, step: Step) -> list[Factors]:
    """The result takes only the type of the argument."""
    return [[]]


@rule("type_as")
def type_as(labels: Labels, step: Step) -> list[Factors]:
    """The result takes only the type of the second argument."""
    return [factors_of(labels, step.args[0])]
