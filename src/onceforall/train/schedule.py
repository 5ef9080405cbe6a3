"""`Schedule`: what is trained when. A schedule is data; the loop in `loop.py` follows any of them.

A strategy draws the sub-networks of one step: a pure function of (space of the phase, number, generator) -> architectures.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..arch import Arch
from ..errors import TrainingError
from ..space import Space

__all__ = ["STRATEGIES", "Phase", "Recipe", "Schedule", "learning_rate", "progressive_shrinking"]

FORMAT = "onceforall.schedule/1"


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of choices.

    Args:
        name: unique in its schedule.
        keep: how many of the largest choices are trained, as arguments of `Space.keep_largest`; {} trains the whole space.
        steps: optimiser steps.
        warmup_steps: of these, with linearly rising learning rate; the others follow a cosine to zero.
        rate: peak learning rate.
        subnets: sub-networks per step; their gradients are added up for one optimiser step.
        strategy: name in `STRATEGIES`.
        distil: learn also from the frozen largest network as it was at the end of the first phase.
        sort: before the phase, sort channels by importance within the widths of this many largest expand ratios, the ones
            trained so far. None: no sorting.
    """

    name: str
    keep: dict[str, int]
    steps: int
    warmup_steps: int
    rate: float
    subnets: int = 1
    strategy: str = "uniform"
    distil: bool = True
    sort: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How each step is made, the same for all phases.

    Args:
        batch_size: images per step.
        optimizer: "sgd" (Nesterov) or "adamw".
        momentum: of SGD.
        weight_decay: of convolution and linear weights and kernel matrices; batch norm and biases have none.
        label_smoothing: of the loss on labels.
        dropout: before the classifier.
        distil_weight: factor of the loss on the teacher's softmax.
        zero_residual: start the last batch norm of every block with a shortcut at zero, so that blocks start as identities.
        clip: largest norm of the step's gradient; 0 does not clip.
    """

    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    dropout: float = 0.1
    distil_weight: float = 1.0
    zero_residual: bool = False
    clip: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Phases in order, and the recipe they share."""

    phases: tuple[Phase, ...]
    recipe: Recipe

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a global step (from 0) and the step within it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError("step lies beyond the schedule")

    def to_json(self) -> str:
        """The schedule as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Schedule":
        """Read what `to_json` wrote.

        Raises:
            TrainingError: another format, or fields that are missing or unknown.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["format"] != FORMAT:
                raise TrainingError(f"unknown schedule format {data['format']!r}: this version reads {FORMAT!r}")
            return cls(tuple(Phase(**phase) for phase in data["phases"]), Recipe(**data["recipe"]))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"not a schedule: {error!r}") from None


def learning_rate(phase: Phase, step: int) -> float:
    """Learning rate of a step within its phase: linear warm-up, then cosine to zero, both per step."""
    if step < phase.warmup_steps:
        return phase.rate * (step + 1) / phase.warmup_steps
    progress = (step - phase.warmup_steps) / max(1, phase.steps - phase.warmup_steps)
    return float(0.5 * phase.rate * (1 + np.cos(np.pi * progress)))


# -- strategies ----------------------------------------------------------------------------------------------------------

Strategy = Callable[[Space, int, np.random.Generator], list[Arch]]


def uniform(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """Sub-networks drawn uniformly, all at one resolution."""
    archs = [space.sample(rng) for _ in range(number)]
    return [Arch(archs[0].resolution, arch.stages) for arch in archs]


def sandwich(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """The largest and the smallest sub-network and random ones between, all at one resolution (BigNAS, 2020)."""
    drawn = uniform(space, max(1, number - 2), rng)
    resolution = drawn[0].resolution
    return [space.largest(resolution), space.smallest(resolution), *drawn][:number]


def ends(space: Space, number: int, rng: np.random.Generator) -> list[Arch]:
    """The largest or the smallest sub-network, with equal odds, and random ones, all at one resolution.

    For short schedules, in which uniform draws alone train the two ends too rarely.
    """
    drawn = uniform(space, max(1, number - 1), rng)
    end = space.largest if rng.random() < 0.5 else space.smallest
    return [end(drawn[0].resolution), *drawn][:number]


STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "ends": ends,
    "sandwich": sandwich,
}


# -- schedules -----------------------------------------------------------------------------------------------------------

# Epochs, warm-up epochs and learning rate relative to the first phase, and sub-networks per step, of the paper (appendix B):
# the largest network, elastic kernel, elastic depth in two steps, elastic expand ratio in two steps.
PAPER_EPOCHS = {"largest": 180.0, "kernel": 125.0, "depth": 150.0, "expand": 150.0}
PAPER_RATES = {"largest": 1.0, "kernel": 0.96 / 2.6, "first": 0.08 / 2.6, "depth": 0.24 / 2.6, "expand": 0.24 / 2.6}
PAPER_SUBNETS = {"kernel": 1, "depth": 2, "expand": 4}
FIRST_SHARE = 25 / 150  # of a dimension's epochs, spent on its first narrowing where there are two


def progressive_shrinking(
    space: Space,
    *,
    steps: int,
    rate: float,
    recipe: Recipe,
    epochs: Mapping[str, float] = PAPER_EPOCHS,
    rates: Mapping[str, float] = PAPER_RATES,
    subnets: Mapping[str, int] = PAPER_SUBNETS,
    strategy: str = "uniform",
) -> Schedule:
    """The paper's schedule scaled to a number of steps: the largest network first, then each dimension narrowed step by step.

    Resolution is elastic throughout. A dimension with one choice has no phase; with three choices it is opened in two.

    Args:
        space: what is trained in the end.
        steps: optimiser steps of all phases together.
        rate: peak learning rate of the first phase.
        recipe: shared by all phases.
        epochs: relative length of "largest", "kernel", "depth" and "expand".
        rates: peak learning rates relative to `rate`; "first" is that of a dimension's first narrowing of two.
        subnets: sub-networks per step, by dimension.
        strategy: how they are drawn.

    Raises:
        TrainingError: fewer steps than phases.
    """
    names = {"kernel": "kernels", "depth": "depths", "expand": "expand_ratios"}
    keep = dict.fromkeys(names.values(), 1)
    plan: list[tuple[str, dict[str, int], float, float, int, int | None]]
    plan = [("largest", dict(keep), epochs["largest"], rates["largest"], 1, None)]
    for short, name in names.items():
        widest = max(len(getattr(stage, name)) for stage in space.stages)
        stops = list(range(2, widest + 1)) if short != "kernel" else [widest] if widest > 1 else []
        for stop in stops:
            last = stop == widest
            share = 1.0 if len(stops) == 1 else 1 - FIRST_SHARE if last else FIRST_SHARE / (len(stops) - 1)
            trained = keep[name]
            keep[name] = stop
            label = short if len(stops) == 1 else f"{short}-{stop}"
            rate_here = rates[short if last else "first"]
            plan.append(
                (label, dict(keep), epochs[short] * share, rate_here, subnets[short], trained if short == "expand" else None)
            )
    if steps < len(plan):
        raise TrainingError(f"{steps} steps for {len(plan)} phases: train for more epochs, or use more images or a smaller batch")
    total = sum(length for _, _, length, _, _, _ in plan)
    ends = np.round(np.cumsum([length for _, _, length, _, _, _ in plan]) / total * (steps - len(plan))).astype(int)
    phases = []
    for (label, kept, _, relative, number, sort), count in zip(plan, np.diff([0, *ends]) + 1, strict=True):
        phases.append(
            Phase(
                name=label,
                keep=kept,
                steps=int(count),
                warmup_steps=int(count * (0.1 if label == "largest" else 0.04)),
                rate=rate * relative,
                subnets=number,
                strategy=strategy if number > 1 else "uniform",
                distil=label != "largest",
                sort=sort,
            )
        )
    return Schedule(tuple(phases), recipe)
