"""What searches found and measured: a line of searches.jsonl for each finalist, and front.json."""

from dataclasses import dataclass

from ...arch import Arch
from ...options.shared import Budget


@dataclass(frozen=True)
class Finalist:
    """A line of searches.jsonl: a network found for a budget, and measured. `held_out_score` is by the run's metric."""

    budget: Budget
    device: str
    arch: Arch
    measured_ms: float
    held_out_top1: float
    held_out_score: float | None = None
    held_out_images: int | None = None
    predicted_top1: float | None = None
    predicted_ms: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """What a network scores on held-out images: top-1, and the run's metric where that is another."""

    top1: float
    images: int
    score: float | None = None

    @property
    def value(self) -> float:
        """By the run's metric."""
        return self.top1 if self.score is None else self.score


@dataclass(frozen=True)
class FrontPoint:
    """A network of the front; `stands`: no other one is as accurate and as fast, or better."""

    stands: bool
    arch: Arch
    predicted_top1: float
    predicted_std: float
    predicted_ms: float | None
    held_out: HeldOut
    measured_ms: float


@dataclass(frozen=True)
class MeasuredFront:
    """What front.json holds."""

    device: str
    points: tuple[FrontPoint, ...]
