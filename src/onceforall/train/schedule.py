"""`Schedule`: what is trained when. A schedule is data; the loop in `loop.py` follows any of them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import TrainingError
from ..space import Choices, Space
from .strategies import STRATEGIES

__all__ = ["Phase", "Recipe", "Schedule", "learning_rate", "progressive_shrinking"]

FORMAT = "onceforall.schedule/1"
OPTIMIZERS = ("sgd", "adamw")


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
        distil: learn also from the largest network, frozen as it was before the first phase that does.
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

    def __post_init__(self) -> None:
        where = f"phase {self.name!r}: "
        for name, value, least in (("steps", self.steps, 1), ("warmup_steps", self.warmup_steps, 0), ("subnets", self.subnets, 1)):
            _whole(where + name, value, least)
        _within(where + "rate", self.rate, 0.0, 1e6, "above 0 and at most 1000000", not_low=True)
        _yes_or_no(where + "distil", self.distil)
        if self.sort is not None:
            _whole(where + "sort", self.sort, 1)
        _one_of(where + "strategy", self.strategy, STRATEGIES)
        for name, number in self.keep.items():
            _one_of(where + "keep", name, Choices.__dataclass_fields__)
            _whole(where + name, number, 1)


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

    def __post_init__(self) -> None:
        _whole("batch size", self.batch_size, 1)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name, value in (("label_smoothing", self.label_smoothing), ("momentum", self.momentum), ("dropout", self.dropout)):
            _within(name, value, 0.0, 0.999, "from 0 to 0.999")
        for name, value in (("weight_decay", self.weight_decay), ("distil_weight", self.distil_weight), ("clip", self.clip)):
            _within(name, value, 0.0, 1e6, "from 0 to 1000000")
        _yes_or_no("zero_residual", self.zero_residual)


@dataclass(frozen=True)
class Schedule:
    """Phases in order, and the recipe they share."""

    phases: tuple[Phase, ...]
    recipe: Recipe

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise TrainingError(f"a schedule needs phases, each with a name of its own; these are {names}")

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def teacher_step(self) -> int:
        """The global step before which the largest network becomes the teacher; `steps` if there is none."""
        start = 0
        for phase in self.phases:
            if phase.distil:
                break
            start += phase.steps
        return start

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
            TrainingError: another format, fields that are missing or unknown, or values that they cannot have.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["format"] != FORMAT:
                raise TrainingError(f"unknown schedule format {data['format']!r}: this version reads {FORMAT!r}")
            if set(data) != {"format", "phases", "recipe"}:
                raise TrainingError(f"not a schedule: expected format, phases and recipe, found {', '.join(sorted(data))}")
            return cls(tuple(Phase(**phase) for phase in data["phases"]), Recipe(**data["recipe"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainingError(f"not a schedule: {error!r}") from None


def learning_rate(phase: Phase, step: int) -> float:
    """Learning rate of a step within its phase: linear warm-up, then cosine to zero, both per step."""
    if step < phase.warmup_steps:
        return phase.rate * (step + 1) / phase.warmup_steps
    progress = (step - phase.warmup_steps) / max(1, phase.steps - phase.warmup_steps)
    return float(0.5 * phase.rate * (1 + np.cos(np.pi * progress)))


def _whole(what: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TrainingError(f"{what} is {value!r}: it must be a whole number of at least {least}")


def _within(what: str, value: float, low: float, high: float, allowed: str, *, not_low: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or (not_low and value == low):
        raise TrainingError(f"{what} is {value!r}: it must be a number {allowed}")


def _one_of(what: str, value: str, allowed: Collection[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise TrainingError(f"{what} is {value!r}: choose from {', '.join(allowed)}")


def _yes_or_no(what: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise TrainingError(f"{what} is {value!r}: it must be true or false")


# Epochs, warm-up share, learning rate relative to the first phase, and sub-networks per step, of the paper (appendix B):
# the largest network, elastic kernel, elastic depth in two steps, elastic expand ratio in two steps.
PAPER_EPOCHS = {"largest": 180.0, "kernel": 125.0, "depth": 150.0, "expand": 150.0}
PAPER_RATES = {"largest": 1.0, "kernel": 0.96 / 2.6, "first": 0.08 / 2.6, "depth": 0.24 / 2.6, "expand": 0.24 / 2.6}
PAPER_WARMUPS = {"largest": 0.0, "kernel": 5 / 125, "first": 0.0, "depth": 5 / 125, "expand": 5 / 125}
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
    warmups: Mapping[str, float] = PAPER_WARMUPS,
    subnets: Mapping[str, int] = PAPER_SUBNETS,
    strategy: str = "uniform",
) -> Schedule:
    """The paper's schedule scaled to a number of steps: the largest network first, then each dimension narrowed step by step.

    Resolution is elastic throughout. A dimension with one choice has no phase; with three choices it is opened in two. Widths
    of stages, which the paper does not vary, are opened last, with the lengths, rates and sub-networks of "expand".

    Args:
        space: what is trained in the end.
        steps: optimiser steps of all phases together.
        rate: peak learning rate of the first phase.
        recipe: shared by all phases.
        epochs: relative length of "largest", "kernel", "depth" and "expand".
        rates: peak learning rates relative to `rate`; "first" is that of a dimension's first narrowing of two.
        warmups: shares of the phases in which the rate rises, with the names of `rates`.
        subnets: sub-networks per step, by dimension.
        strategy: how they are drawn where they are several; a phase with one draws it uniformly.

    Raises:
        TrainingError: fewer steps than phases.
    """
    names = {"kernel": "kernels", "depth": "depths", "expand": "expand_ratios", "width": "widths"}
    keep = dict.fromkeys(names.values(), 1)
    plan: list[tuple[str, dict[str, int], float, str, int, int | None]]
    plan = [("largest", dict(keep), epochs["largest"], "largest", 1, None)]
    for dimension, name in names.items():
        short = "expand" if dimension == "width" else dimension
        widest = max(len(getattr(stage, name)) for stage in space.stages)
        stops = list(range(2, widest + 1)) if short != "kernel" else [widest] if widest > 1 else []
        for stop in stops:
            last = stop == widest
            share = 1.0 if len(stops) == 1 else 1 - FIRST_SHARE if last else FIRST_SHARE / (len(stops) - 1)
            trained = keep[name]
            keep[name] = stop
            label = dimension if len(stops) == 1 else f"{dimension}-{stop}"
            kind = short if last else "first"
            plan.append(
                (label, dict(keep), epochs[short] * share, kind, subnets[short], trained if dimension == "expand" else None)
            )
    if steps < len(plan):
        raise TrainingError(f"{steps} steps for {len(plan)} phases: train for more epochs, or use more images or a smaller batch")
    total = sum(length for _, _, length, _, _, _ in plan)
    ends = np.round(np.cumsum([length for _, _, length, _, _, _ in plan]) / total * (steps - len(plan))).astype(int)
    phases = []
    for (label, kept, _, kind, number, sort), count in zip(plan, np.diff([0, *ends]) + 1, strict=True):
        phases.append(
            Phase(
                name=label,
                keep=kept,
                steps=int(count),
                warmup_steps=int(count * warmups[kind]),
                rate=rate * rates[kind],
                subnets=number,
                strategy=strategy if number > 1 else "uniform",
                distil=label != "largest",
                sort=sort,
            )
        )
    return Schedule(tuple(phases), recipe)
