"""Divergences against plain Python in double precision, written from the published formulas, and against finite differences."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from onceforall.train import DIVERGENCES
from onceforall.train.losses import adaptive_alpha, cross_entropy

Rows = list[list[float]]
LOGITS = st.floats(-30, 30)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Rows, Rows]:
    images, classes = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rows = st.lists(st.lists(LOGITS, min_size=classes, max_size=classes), min_size=images, max_size=images)
    return draw(rows), draw(rows)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    exps = [math.exp(value - top) for value in row]
    return [value / math.fsum(exps) for value in exps]


def log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    log_sum = math.log(math.fsum(math.exp(value - top) for value in row))
    return [value - top - log_sum for value in row]


def of_cross_entropy(student: Rows, teacher: Rows) -> tuple[float, float]:
    losses = [
        -math.fsum(p * log_q for p, log_q in zip(softmax(t), log_softmax(s), strict=True))
        for s, t in zip(student, teacher, strict=True)
    ]
    return math.fsum(losses) / len(losses), math.fsum(losses) / len(losses)


def weights_and_value(student: list[float], teacher: list[float]) -> tuple[list[float], float, float]:
    """Of one image: the factors of log q in the surrogate, the divergence, and how far the two divergences are apart."""
    q, p, log_q, log_p = softmax(student), softmax(teacher), log_softmax(student), log_softmax(teacher)
    ratio = [math.exp(min(a - b, math.log(5))) for a, b in zip(log_q, log_p, strict=True)]
    minus = math.fsum(a * (w - 1) / 2 for a, w in zip(q, ratio, strict=True))
    plus = math.fsum(b * (lb - la) for b, la, lb in zip(p, log_q, log_p, strict=True))
    if minus > plus:
        return [a * (w - 0.5) for a, w in zip(q, ratio, strict=True)], minus, minus - plus
    return [-b for b in p], plus, plus - minus


def of_adaptive_alpha(student: Rows, teacher: Rows) -> tuple[float, float]:
    loss = value = 0.0
    for s, t in zip(student, teacher, strict=True):
        weights, divergence, _ = weights_and_value(s, t)
        loss += math.fsum(w * log_q for w, log_q in zip(weights, log_softmax(s), strict=True))
        value += divergence
    return loss / len(student), value / len(student)


REFERENCES: dict[str, Callable[[Rows, Rows], tuple[float, float]]] = {
    "cross_entropy": of_cross_entropy,
    "adaptive_alpha": of_adaptive_alpha,
}


def decided(student: Rows, teacher: Rows) -> bool:
    """Whether no image's two divergences are so near that rounding chooses between them."""
    return all(weights_and_value(s, t)[2] > 1e-9 for s, t in zip(student, teacher, strict=True))


def test_each_has_a_reference() -> None:
    assert REFERENCES.keys() == DIVERGENCES.keys()


@pytest.mark.parametrize("name", DIVERGENCES)
@given(rows=pairs())
def test_against_plain_python(name: str, rows: tuple[Rows, Rows]) -> None:
    student, teacher = (torch.tensor(r, dtype=torch.float64) for r in rows)
    loss, value = DIVERGENCES[name](student, teacher)
    assert loss.shape == value.shape == ()
    expected = REFERENCES[name](*rows)
    assert value.item() == pytest.approx(expected[1], rel=1e-9, abs=1e-9)
    if name == "cross_entropy" or decided(*rows):
        assert loss.item() == pytest.approx(expected[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(rows=pairs())
def test_gradient(name: str, rows: tuple[Rows, Rows]) -> None:
    """Central differences of the surrogate with its weights held; no gradient reaches the teacher."""
    student, teacher = (torch.tensor(r, dtype=torch.float64, requires_grad=True) for r in rows)
    loss, value = DIVERGENCES[name](student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert not value.requires_grad
    assert student.grad is not None
    if name == "adaptive_alpha":
        if not decided(*rows):
            return
        weights = [weights_and_value(s, t)[0] for s, t in zip(*rows, strict=True)]
    else:
        weights = [[-p for p in softmax(t)] for t in rows[1]]

    def surrogate(i: int, row: list[float]) -> float:
        return math.fsum(w * log_q for w, log_q in zip(weights[i], log_softmax(row), strict=True)) / len(rows[0])

    for i, row in enumerate(rows[0]):
        for c in range(len(row)):
            up, down = ([v + sign * 1e-5 * (k == c) for k, v in enumerate(row)] for sign in (1, -1))
            slope = (surrogate(i, up) - surrogate(i, down)) / 2e-5
            assert student.grad[i, c].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_clipped_ratio() -> None:
    """By hand: q / p is 9 for the first class and counts as 5, so α = 1 is the larger; then 3, and α = -1 is."""
    q, p = [0.9, 0.1], [0.1, 0.9]
    loss, value = adaptive_alpha(torch.tensor([q], dtype=torch.float64).log(), torch.tensor([p], dtype=torch.float64).log())
    minus, plus = (0.9 * 4 + 0.1 * (1 / 9 - 1)) / 2, 0.1 * math.log(1 / 9) + 0.9 * math.log(9)
    assert minus < plus == pytest.approx(value.item())
    assert loss.item() == pytest.approx(-0.1 * math.log(0.9) - 0.9 * math.log(0.1))
    q, p = [0.75, 0.25], [0.25, 0.75]
    loss, value = adaptive_alpha(torch.tensor([q], dtype=torch.float64).log(), torch.tensor([p], dtype=torch.float64).log())
    minus = (0.75 * 2 + 0.25 * (1 / 3 - 1)) / 2
    assert minus == pytest.approx(value.item())
    assert loss.item() == pytest.approx(0.75 * 2.5 * math.log(0.75) + 0.25 * (1 / 3 - 0.5) * math.log(0.25))


@given(rows=pairs())
def test_alike(rows: tuple[Rows, Rows]) -> None:
    """Equal distributions: no divergence and no gradient, whatever constant is added to the logits."""
    teacher = torch.tensor(rows[0], dtype=torch.float64)
    student = (teacher + 3.5).requires_grad_()
    loss, value = adaptive_alpha(student, teacher)
    loss.backward()
    assert student.grad is not None
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12
    _, entropy = cross_entropy(student, teacher)
    assert entropy.item() == pytest.approx(of_cross_entropy(rows[0], rows[0])[1], abs=1e-9)


@given(rows=pairs())
def test_no_divergence_is_negative(rows: tuple[Rows, Rows]) -> None:
    _, value = adaptive_alpha(*(torch.tensor(r, dtype=torch.float64) for r in rows))
    assert value.item() >= -1e-12


EXTREMES = [
    [[100.0, -100.0, 0.0], [-100.0, 100.0, 100.0]],
    [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]],
    [[6e4, -6e4, 0.0], [-6e4, 6e4, 6e4]],
    [[0.0, 0.0, 0.0], [1e4, 1e4, 1e4]],
]


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("kinds", [("float64", "float64"), ("float32", "float32"), ("float16", "float16"),
                                   ("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float16")])  # fmt: skip
def test_extreme_logits(name: str, kinds: tuple[str, str]) -> None:
    types = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    for own, others, sign in product(EXTREMES, EXTREMES, (1, -1)):
        student = torch.tensor(own, dtype=types[kinds[0]], requires_grad=True)
        teacher = torch.tensor(others, dtype=types[kinds[1]]) * sign
        loss, value = DIVERGENCES[name](student, teacher)
        loss.backward()
        assert student.grad is not None
        assert all(tensor.isfinite().all() for tensor in (loss, value, student.grad)), (own, others, sign)
        assert value.dtype in (torch.float32, torch.float64)
        expected = REFERENCES[name](student.tolist(), teacher.tolist())
        assert value.item() == pytest.approx(expected[1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_half_precision_is_that_of_its_inputs(name: str) -> None:
    rng = np.random.default_rng(0)
    student, teacher = (torch.tensor(rng.normal(0, 4, (16, 10)), dtype=torch.bfloat16) for _ in range(2))
    found: list[list[Tensor]] = []
    for kind in (torch.bfloat16, torch.float64):
        own = student.to(kind).clone().detach().requires_grad_()
        loss, value = DIVERGENCES[name](own, teacher.to(kind))
        loss.backward()
        assert own.grad is not None
        found.append([loss.detach().double(), value.double(), own.grad.double()])
    for half, full in zip(*found, strict=True):
        torch.testing.assert_close(half, full, rtol=1e-2, atol=1e-5)
