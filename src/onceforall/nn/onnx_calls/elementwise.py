"""Write element-wise functions, and sums and products of tensors."""

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import torch

from .writer import Array, NotWrittenError, Write, Writing

Number = float | int
F64 = torch.float64


def _unary(kind: str) -> Write:
    return lambda w, x: w.node(kind, [x])


def _number(value: Number) -> torch.Tensor:
    return torch.tensor(float(value), dtype=F64)


def _clip(w: Writing, x: Array, low: Any, high: Any) -> str:
    if any(isinstance(bound, Array) for bound in (low, high)):
        given = [(kind, bound) for kind, bound in (("Max", low), ("Min", high)) if bound is not None]
        last = w.name(x)
        for i, (kind, bound) in enumerate(given):
            last = w.node(kind, [last, w.operand(bound, x, f"{kind}.bound")], "" if i == len(given) - 1 else "inner")
        return last
    if not x.floating and w.opset < 12:
        raise NotWrittenError("a clamp of integers needs opset 12")
    if w.opset < 11:
        bounds = {name: float(bound) for name, bound in (("min", low), ("max", high)) if bound is not None}
        return w.node("Clip", [x], **bounds)
    number = _number if x.floating else lambda bound: torch.tensor(int(bound))
    names = [w.name(number(bound), name) if bound is not None else "" for name, bound in (("min", low), ("max", high))]
    return w.node("Clip", [x, *names] if names[1] else [x, names[0]])


def _hard_swish(w: Writing, x: Array) -> str:
    if w.opset >= 14:
        return w.node("HardSwish", [x])
    return w.node("Mul", [x, w.node("HardSigmoid", [x], "gate", alpha=1 / 6)])


def _gelu(w: Writing, x: Array, approximate: str) -> str:
    if w.opset >= 20:
        return w.node("Gelu", [x], **({} if approximate == "none" else {"approximate": approximate}))
    if approximate == "none":
        inner = w.node("Erf", [w.node("Div", [x, _number(sqrt(2))], "scaled")], "erf")
    else:
        cube = w.node("Mul", [w.node("Mul", [x, x], "square"), x], "cube")
        inner = w.node("Add", [x, w.node("Mul", [cube, _number(0.044715)], "term")], "sum")
        inner = w.node("Tanh", [w.node("Mul", [inner, _number(sqrt(2 / pi))], "scaled")], "tanh")
    gate = w.node("Add", [inner, _number(1)], "gate")
    return w.node("Mul", [w.node("Mul", [x, gate], "gated"), _number(0.5)])


def _softplus(w: Writing, x: Array, beta: Number = 1, threshold: Number = 20) -> str:
    if beta == 1:
        return w.node("Softplus", [x])
    soft = w.node("Softplus", [w.node("Mul", [x, _number(beta)], "scaled")], "soft")
    return w.node("Div", [soft, _number(beta)])


def _elu(w: Writing, x: Array, alpha: Number, scale: Number, input_scale: Number) -> str:
    if scale != 1 or input_scale != 1:
        raise NotWrittenError("custom scales")
    return w.node("Elu", [x], **({} if alpha == 1 else {"alpha": float(alpha)}))


def _prelu(w: Writing, x: Array, weight: Array) -> str:
    if weight.value is None:
        raise NotWrittenError("slopes that depend on the images")
    return w.node("PRelu", [x, weight.value.reshape(-1, *[1] * (x.rank - 2))])


def _pow(w: Writing, x: Any, exponent: Any) -> str:
    if not isinstance(x, Array) or not x.floating:
        raise NotWrittenError("a base that is not a tensor")
    if exponent == 2:
        return w.node("Mul", [x, x])
    if exponent == 0.5:
        return w.node("Sqrt", [x])
    return w.node("Pow", [x, w.operand(exponent, w.out[0], "exponent")])


def _binary(kind: str, swapped: bool = False) -> Write:
    def write(w: Writing, x: Any, other: Any, alpha: Number = 1, rounding_mode: Any = None) -> str:
        if rounding_mode is not None or (kind == "Div" and not w.out[0].floating):
            raise NotWrittenError("rounding")
        factor, summand = (other, x) if not swapped else (x, other)
        if alpha != 1 and not isinstance(factor, Array):
            factor = factor * alpha
        second = w.operand(factor, w.out[0], "other")
        first = w.operand(summand, w.out[0], "first")
        if alpha != 1 and isinstance(factor, Array):
            second = w.node("Mul", [second, w.operand(alpha, w.out[0], "alpha")], "scaled")
        return w.node(kind, [first, second])

    return write


def _added_product(w: Writing, x: Any, tensor1: Any, tensor2: Any, value: Number) -> str:
    product = w.node("Mul", [tensor1, tensor2], "product")
    scaled = product if value == 1 else w.node("Mul", [product, _number(value)], "scaled")
    return w.node("Add", [x, scaled])


def _to(w: Writing, x: Array, **ignored: Any) -> str:
    if w.out[0].metas[0].dtype in (torch.float16, torch.bfloat16):
        raise NotWrittenError("half precision")
    return w.cast(x, w.out[0].metas[0].dtype, "cast")


def _glu(w: Writing, x: Array, dim: int) -> str:
    axis = x.dim(dim)
    half = x.size(axis) // 2
    parts = [
        w.node("Slice", [x, *(torch.tensor([n]) for n in (start, start + half, axis))], part)
        for part, start in (("value", 0), ("gate", half))
    ]
    return w.node("Mul", [parts[0], w.node("Sigmoid", [parts[1]], "open")])


def _compare(kind: str, part: str = "") -> Write:
    def write(w: Writing, x: Array, other: Any) -> str:
        like = x if x.floating or not isinstance(other, Array) else other
        return w.node(kind, [w.operand(x, like, "first"), w.operand(other, like, "other")], part)

    return write


def _not_less(kind: str) -> Write:
    """Negate the opposite comparison, since the direct operators need opset 12."""
    return lambda w, x, other: w.node("Not", [_compare(kind, "opposite")(w, x, other)])


def _logical(kind: str) -> Write:
    """Logical operations on booleans; bitwise operations on integers need opset 18."""

    def write(w: Writing, x: Array, other: Any = None) -> str:
        given = [x] if other is None else [x, other]
        if any(not isinstance(item, Array) or item.metas[0].dtype != torch.bool for item in given):
            raise NotWrittenError("operands that are not boolean")
        return w.node(kind, given)

    return write


def _running_sum(w: Writing, x: Array, dim: int, **ignored: Any) -> str:
    w.need(11, "CumSum")
    x.size(dim)
    summand = w.cast(x, w.out[0].metas[0].dtype, "cast")
    return w.node("CumSum", [summand, torch.tensor(x.dim(dim), dtype=torch.long)])


def _several(kind: str) -> Write:
    return lambda w, x, other: w.node(kind, [w.operand(x, w.out[0], "first"), w.operand(other, w.out[0], "other")])


IDENTITIES: Sequence[str] = ("dropout", "feature_dropout", "alpha_dropout", "detach", "clone", "contiguous", "alias", "lift_fresh")
ELEMENTWISE: dict[str, Write] = {
    **{name: _unary(kind) for name, kind in {
        "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "sqrt": "Sqrt", "neg": "Neg", "abs": "Abs",
        "erf": "Erf", "log": "Log", "sin": "Sin", "cos": "Cos", "reciprocal": "Reciprocal", "floor": "Floor", "ceil": "Ceil",
        "sign": "Sign", "selu": "Selu", "softsign": "Softsign", "atan": "Atan",
    }.items()},
    "relu6": lambda w, x: _clip(w, x, 0.0, 6.0),
    "hardtanh": lambda w, x, min_val, max_val: _clip(w, x, min_val, max_val),
    "clamp": lambda w, x, min, max: _clip(w, x, min, max),
    "clamp_min": lambda w, x, min: _clip(w, x, min, None),
    "clamp_max": lambda w, x, max: _clip(w, x, None, max),
    "hardswish": _hard_swish,
    "hardsigmoid": lambda w, x: w.node("HardSigmoid", [x], alpha=1 / 6),
    "silu": lambda w, x: w.node("Mul", [x, w.node("Sigmoid", [x], "gate")]),
    "mish": lambda w, x: w.node("Mul", [x, w.node("Tanh", [w.node("Softplus", [x], "soft")], "gate")]),
    "leaky_relu": lambda w, x, negative_slope: w.node("LeakyRelu", [x], alpha=float(negative_slope)),
    "log_sigmoid": lambda w, x: w.node("Neg", [w.node("Softplus", [w.node("Neg", [x], "less")], "soft")]),
    "rsqrt": lambda w, x: w.node("Reciprocal", [w.node("Sqrt", [x], "root")]),
    "square": lambda w, x: w.node("Mul", [x, x]),
    "gelu": _gelu, "softplus": _softplus, "elu": _elu, "prelu": _prelu, "glu": _glu, "pow": _pow,
    "add": _binary("Add"), "sub": _binary("Sub"), "rsub": _binary("Sub", swapped=True), "mul": _binary("Mul"),
    "div": _binary("Div"),
    "addcmul": _added_product, "maximum": _several("Max"), "minimum": _several("Min"),
    "where": lambda w, condition, x, other: w.node(
        "Where", [condition, w.operand(x, w.out[0], "first"), w.operand(other, w.out[0], "other")]
    ),
    "masked_fill": lambda w, x, mask, value: w.node("Where", [mask, w.operand(value, w.out[0], "value"), x]),
    **{name: _logical(kind) for word in ("bitwise", "logical") for name, kind in (
        (f"{word}_not", "Not"), (f"{word}_and", "And"), (f"{word}_or", "Or"), (f"{word}_xor", "Xor"),
    )},
    "cumsum": _running_sum,
    "__and__": _logical("And"), "__or__": _logical("Or"), "__xor__": _logical("Xor"),
    "ge": _not_less("Less"), "le": _not_less("Greater"), "ne": _not_less("Equal"),
    "gt": _compare("Greater"), "lt": _compare("Less"), "eq": _compare("Equal"),
    **dict.fromkeys(IDENTITIES, lambda w, x, **ignored: w.name(x)),
    "to": _to, "_to_copy": _to, "type_as": _to,
}  # fmt: skip
