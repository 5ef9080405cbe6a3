"""Rules for matrix products, including attention: heads are found where matrices of several heads are multiplied."""

import numpy as np

from .labels import Factors, Labels
from .rules import because, contract, factors_of, long_dims, merge, opaque, rule, shape_of, with_ones
from .trace import Step


@rule("matmul", "bmm", "mm")
def matmul(labels: Labels, step: Step) -> list[Factors]:
    a, b = step.args[:2]
    return [product(labels, step, factors_of(labels, a), shape_of(labels, a), factors_of(labels, b), shape_of(labels, b))]


@rule("baddbmm", "addmm")
def added_product(labels: Labels, step: Step) -> list[Factors]:
    c, a, b = step.args[:3]
    made = product(labels, step, factors_of(labels, a), shape_of(labels, a), factors_of(labels, b), shape_of(labels, b))
    return [merge(labels, step, [(made, step.shapes[0]), (factors_of(labels, c), shape_of(labels, c))])]


def product(labels: Labels, step: Step, a: Factors, a_shape: tuple[int, ...], b: Factors, b_shape: tuple[int, ...]) -> Factors:
    """(…, n, k) times (…, k, m). If matrices of several heads are multiplied, all labels of a head are tied."""
    ndim = max(len(a_shape), len(b_shape))
    if min(len(a_shape), len(b_shape)) < 2:
        labels.fix([*a, *b], because(step, "a product with a vector"))
        return []
    a_shape, b_shape = ((1,) * (ndim - len(s)) + s for s in (a_shape, b_shape))
    sides = []
    for factors, summed in ((a, ndim - 1), (b, ndim - 2)):
        heads, kept, read = [], [], None
        for factor in (with_ones(f, ndim) for f in factors):
            long = long_dims(factor)
            inner = long & {ndim - 2, ndim - 1}
            if long - inner:
                if inner:
                    factor = labels.tie_along(factor, sorted(inner))
                    labels.heads.append(factor.ravel())
                heads.append(factor)
            elif inner == {summed} and read is None:
                read = factor.ravel()
            elif summed in inner:
                labels.fix([factor], because(step, "a product over mixed dimensions"))
            else:
                kept.append(factor)
        sides.append((heads, kept, read))
    (a_heads, a_kept, a_read), (b_heads, b_kept, b_read) = sides
    if a_read is not None or b_read is not None:
        contract(labels, step, a_read, b_read)
    batches = merge(labels, step, [(a_heads, (*a_shape[:-2], 1, 1)), (b_heads, (*b_shape[:-2], 1, 1))])
    return [*batches, *a_kept, *b_kept]


@rule("scaled_dot_product_attention")
def attention(labels: Labels, step: Step) -> list[Factors]:
    query, key, value = step.args[:3]
    mask = step.args[3] if len(step.args) > 3 else step.kwargs.get("attn_mask")
    q, k, v = (shape_of(labels, t) for t in (query, key, value))
    keys, values = factors_of(labels, key), factors_of(labels, value)
    if step.kwargs.get("enable_gqa") or step.args[7:8] == (True,):  # several queries for each key and value
        times = q[-3] // k[-3]
        keys, values = ([np.repeat(f, times if f.shape[-3] > 1 else 1, -3) for f in factors] for factors in (keys, values))
        k, v = ((*shape[:-3], q[-3], *shape[-2:]) for shape in (k, v))
    turned = [np.swapaxes(f, -1, -2) for f in keys]
    scores = product(labels, step, factors_of(labels, query), q, turned, (*k[:-2], k[-1], k[-2]))
    if mask is not None:
        scores = merge(labels, step, [(scores, (*q[:-1], k[-2])), (factors_of(labels, mask), shape_of(labels, mask))])
    return [product(labels, step, scores, (*q[:-1], k[-2]), values, v)]


@rule("einsum")
def einsum(labels: Labels, step: Step) -> list[Factors]:
    """Einsum of two operands, each with distinct letters, as a matrix product."""
    text = step.args[0].replace(" ", "")
    operands = step.args[1]
    if "->" not in text or "." in text or len(operands) != 2:
        return opaque(labels, step)
    terms, result = text.split("->")
    names = terms.split(",")
    if any(len(set(name)) < len(name) for name in (*names, result)):
        return opaque(labels, step)
    a, b = names
    batch = [c for c in result if c in a and c in b]
    summed = [c for c in a if c in b and c not in result]
    own = [[c for c in name if c in result and c not in other] for name, other in ((a, b), (b, a))]
    if any(c not in result and c not in other for name, other in ((a, b), (b, a)) for c in name) or len(summed) > 1:
        return opaque(labels, step)
    if len(own[0]) != 1 or len(own[1]) != 1 or len(summed) != 1:
        return opaque(labels, step)
    orders = ("".join((*batch, own[0][0], summed[0])), "".join((*batch, summed[0], own[1][0])))
    moved, shapes = [], []
    for name, order, operand in zip(names, orders, operands, strict=True):
        axes = [name.index(c) for c in order]
        moved.append([f.transpose(axes) for f in factors_of(labels, operand)])
        shapes.append(tuple(shape_of(labels, operand)[i] for i in axes))
    made = product(labels, step, moved[0], shapes[0], moved[1], shapes[1])
    order = "".join((*batch, own[0][0], own[1][0]))
    return [[f.transpose([order.index(c) for c in result]) for f in made]]
