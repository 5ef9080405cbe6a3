"""Networks that searches found and measured: lines of searches.jsonl, and front.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...arch import Arch
from ...options.shared import Budget


@dataclass(frozen=True)
class Finalist:
    """A network that a search found and measured; points of a front have no device and budget.

    Args:
        measured_ms: measured latency.
        held_out_top1: top-1 on `held_out_images` held-out images.
        held_out_score: the value of `metric` on these images; None if that is top-1.
        metric: the metric it was chosen by; None for the run's.
    """

    arch: Arch
    measured_ms: float
    held_out_top1: float
    held_out_score: float | None = None
    held_out_images: int | None = None
    predicted_top1: float | None = None
    predicted_ms: float | None = None
    device: str = ""
    budget: Budget = field(default_factory=Budget)
    metric: str | None = None

    @staticmethod
    def older(data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Flatten the "held_out" object of a point of front.json."""
        held_out = data.get("held_out")
        return {**data, **{f"held_out_{key}": value for key, value in held_out.items()}} if isinstance(held_out, dict) else data

    @property
    def held_out(self) -> float:
        """The held-out value of the metric that it was chosen by."""
        return self.held_out_top1 if self.held_out_score is None else self.held_out_score


@dataclass(frozen=True)
class MeasuredFront:
    """The content of front.json."""

    device: str
    points: tuple[Finalist, ...]
