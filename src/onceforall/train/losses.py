"""Distillation losses between the logits of a student and a teacher (batch, classes), averaged over the batch.

Each function returns the loss to differentiate and the value to report, which differ for the adaptive divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..tasks.task import Task

if TYPE_CHECKING:  # schedules refer to these by name, without torch
    from torch import Tensor

CLIP = 5.0  # maximum of q / p in the adaptive divergence

Divergence = Callable[[Any, Any], tuple[Any, Any]]  # of tensors


def cross_entropy(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy between the student's and the teacher's softmax at temperature 1 (OFA, section 3.3).

    Args:
        student: logits (batch, classes), of any precision.
        teacher: logits of the same shape; no gradient flows into them.
    """
    from torch.nn import functional as F

    student = precise(student)
    loss = F.cross_entropy(student, teacher.detach().to(student.dtype).softmax(1))
    return loss, loss.detach()


def adaptive_alpha(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The adaptive α-divergence of AlphaNet (Wang et al., 2021): the larger of the two at α = -1 (clipped) and α = 1, per image.

    With student q, teacher p and w = min(q / p, 5): D₋ = Σ q (w - 1) / 2 with surrogate Σ q (w - ½) log q, whose weights are
    constants; D₊ = Σ p log(p / q) with surrogate -Σ p log q. Ratios are differences of logarithms, which do not overflow.

    Args:
        student: logits (batch, classes), of any precision.
        teacher: logits of the same shape; no gradient flows into them.
    """
    import torch

    log_q = precise(student).log_softmax(1)
    with torch.no_grad():
        log_p = teacher.to(log_q.dtype).log_softmax(1)
        p, q = log_p.exp(), log_q.exp()
        ratio = (log_q - log_p).clamp(max=math.log(CLIP)).exp()
        minus = (q * (ratio - 1)).sum(1) / 2
        plus = (p * (log_p - log_q)).sum(1)
        larger = (minus > plus)[:, None]
        weights = torch.where(larger, q * (ratio - 0.5), -p)
    loss = (weights * log_q).sum(1).mean()
    return loss, torch.where(larger[:, 0], minus, plus).mean()


DIVERGENCES: dict[str, Divergence] = {"cross_entropy": cross_entropy, "adaptive_alpha": adaptive_alpha}


def divergence_of(name: str, task: Task, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The named divergence between two networks' logits; with several labels per image, summed over the labels."""
    (own, times), (wanted, _) = task.rows(student), task.rows(teacher)
    loss, reported = DIVERGENCES[name](own, wanted)
    return times * loss, times * reported


def precise(logits: Tensor) -> Tensor:
    """Convert half precision to float32, since differences of logits could overflow."""
    return logits.float() if logits.dtype.itemsize < 4 else logits
