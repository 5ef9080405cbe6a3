"""Rules for matrix products, including attention. Products of stacked matrices reveal attention heads."""

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
    """Multiply (…, n, k) by (…, k, m); if these are matrices of several heads, tie all labels of each head."""
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
    mask = step.argument(3, "attn_mask")
    q, k, v = (shape_of(labels, t) for t in (query, key, value))
    keys, values = factors_of(labels, key), factors_of(labels, value)
    if step.kwargs.get("enable_gqa") or step.args[7:8] == (True,):  # several query heads share keys and values
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
    """Follow an einsum without repeated letters in an operand, as a matrix product or an element-wise product and a sum."""
    operands, (terms, result) = step.args[1], step.args[0].split("->")
    names = terms.split(",")
    if any(len(set(name)) < len(name) for name in (*names, result)):
        return opaque(labels, step)
    summed = [c for c in dict.fromkeys("".join(names)) if c not in result]

    def laid(order: str, i: int) -> tuple[Factors, tuple[int, ...]]:
        """An operand with its dimensions in this order, with size 1 for those that it lacks."""
        own = [names[i].index(c) for c in order if c in names[i]]
        spread = [slice(None) if c in names[i] else None for c in order]
        shape = shape_of(labels, operands[i])
        factors = [f.transpose(own)[tuple(spread)] for f in factors_of(labels, operands[i])]
        return factors, tuple(shape[names[i].index(c)] if c in names[i] else 1 for c in order)

    if len(names) == 2:
        batch = [c for c in result if c in names[0] and c in names[1]]
        rows, columns = ([c for c in name if c in result and c not in batch] for name in names)
        if len(rows) == len(columns) == len(summed) == 1 and summed[0] in names[0] and summed[0] in names[1]:
            made = product(
                labels, step, *laid("".join((*batch, *rows, *summed)), 0), *laid("".join((*batch, *summed, *columns)), 1)
            )
            order = "".join((*batch, *rows, *columns))
            return [[f.transpose([order.index(c) for c in result]) for f in made]]
    whole = merge(labels, step, [laid("".join((*result, *summed)), i) for i in range(len(names))])
    made, over = [], set(range(len(result), len(result) + len(summed)))
    for factor in whole:
        mixed = long_dims(factor) & over
        if not mixed or long_dims(factor) - over:
            made.append(labels.tie_along(factor, sorted(mixed)).reshape(factor.shape[: len(result)]))
    return [made]
