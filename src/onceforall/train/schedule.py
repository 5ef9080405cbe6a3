"""`Schedule`: what is trained when. A schedule is data; the loop in `loop.py` follows any of them."""

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import TrainingError
from ..space import Choices
from .losses import DIVERGENCES
from .strategies import LARGEST_FIRST, STRATEGIES

FORMAT = "onceforall.schedule/1"
OPTIMIZERS = ("sgd", "adamw")
TEACHERS = ("frozen", "largest", "external")
LABELS = ("all", "largest")
LATER = ("layer_decay", "drop_path", "patience", "balance")  # fields of a recipe that the first version of the format had not


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of choices.

    Args:
        keep: how many of the largest choices are trained, as arguments of `Space.keep_largest`; {} trains the whole space.
        steps: optimiser steps; 0 where only the first networks are made.
        warmup_steps: of these, with linearly rising learning rate; the others follow a cosine to zero.
        rate: peak learning rate.
        subnets: sub-networks per step; their gradients are added up for one optimiser step.
        strategy: name in `STRATEGIES`.
        distil: learn also from a teacher.
        teacher: "frozen" is the largest network as it was before the first phase with this teacher, "largest" is the largest
            network of the same step (in-place distillation), "external" another model, given to `Trainer`.
        labels: "all" sub-networks learn from the labels, or only the "largest", the first of the step.
        divergence: how far from the teacher a sub-network is, a name in `DIVERGENCES`.
        ramp: factor of the loss of all but the largest at the beginning of the phase; it rises linearly to 1 at its end.
        cosine: which part of a cosine from the peak rate to zero the phase follows after its warm-up, so that two phases can share
            one. A phase that does not begin at 0 keeps the optimiser's state of the one before.
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
    teacher: str = "frozen"
    labels: str = "all"
    divergence: str = "cross_entropy"
    ramp: float = 1.0
    cosine: tuple[float, float] = (0.0, 1.0)
    sort: int | None = None

    def __post_init__(self) -> None:
        where = f"phase {self.name!r}: "
        for name, value, least in (("steps", self.steps, 0), ("warmup_steps", self.warmup_steps, 0), ("subnets", self.subnets, 1)):
            whole(where + name, value, least)
        if self.warmup_steps > self.steps:
            raise TrainingError(
                f"{where}{self.warmup_steps} of its {self.steps} steps are warm-up: it can have at most all of them"
            )
        _within(where + "rate", self.rate, 0.0, 1e6, "above 0 and at most 1000000", not_low=True)
        _yes_or_no(where + "distil", self.distil)
        if self.sort is not None:
            whole(where + "sort", self.sort, 1)
        options = {"strategy": STRATEGIES, "teacher": TEACHERS, "labels": LABELS, "divergence": DIVERGENCES}
        for name, allowed in options.items():
            _one_of(where + name, getattr(self, name), allowed)
        _within(where + "ramp", self.ramp, 0.0, 1.0, "from 0 to 1")
        largest = self.labels == "largest" or (self.distil and self.teacher == "largest") or self.ramp < 1
        if self.strategy not in LARGEST_FIRST and largest:
            raise TrainingError(
                f"{where}strategy {self.strategy!r} has no largest network to treat differently: use {' or '.join(LARGEST_FIRST)}"
            )
        if self.labels == "largest" and not self.distil:
            raise TrainingError(f"{where}without labels and teacher the smaller networks learn nothing: set distil")
        begin, end = self.cosine if isinstance(self.cosine, tuple) and len(self.cosine) == 2 else (0.0, math.nan)
        _within(where + "cosine", begin, 0.0, 1.0, "from 0 to 1")
        _within(where + "cosine", end, begin, 1.0, "after its beginning and at most 1", not_low=True)
        if self.sort is not None and begin > 0:
            raise TrainingError(f"{where}sorting needs a fresh optimiser, which a phase with cosine {self.cosine} does not have")
        for name, number in self.keep.items():
            _one_of(where + "keep", name, Choices.__dataclass_fields__)
            whole(where + name, number, 1)


@dataclass(frozen=True)
class Recipe:
    """How each step is made, the same for all phases.

    Args:
        optimizer: "sgd" (Nesterov) or "adamw".
        momentum: of SGD.
        weight_decay: of convolution and linear weights and kernel matrices; batch norm and biases have none.
        label_smoothing: of the loss on labels.
        dropout: before the classifier.
        distil_weight: factor of the loss on the teacher's softmax.
        zero_residual: start the last batch norm of every block with a shortcut at zero, so that blocks start as identities.
        clip: largest norm of the step's gradient; 0 does not clip.
        clip_value: largest value of any entry of the step's gradient; 0 does not clip.
        ema: decay per step of a running mean of the weights, which is what is validated and kept in the end; 0 for none. After t
            steps it is at most (1 + t) / (10 + t).
        layer_decay: factor of the learning rate from each segment of the network to the one before it: of the classifier it is
            the schedule's, of the stem the smallest; 1 for the same rate everywhere.
        drop_path: rate at which the last residual branch is left out for an image (stochastic depth); from the first branch on it
            rises to that. Where a network that was brought has rates of its own, these stay.
        patience: end when the mean accuracy has not risen in this many validations of the last phase, and keep the weights of the
            best; 0: train to the end of the schedule and keep the last weights. Not where one network alone is fine-tuned.
        balance: how far the loss on labels makes up for uneven classes: an image counts in proportion to its class's number of
            images to the power of minus this. 0: all images alike; 1: all classes alike.
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
    clip_value: float = 0.0
    ema: float = 0.0
    layer_decay: float = 1.0
    drop_path: float = 0.0
    patience: int = 0
    balance: float = 0.0

    def __post_init__(self) -> None:
        whole("batch size", self.batch_size, 1)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("label_smoothing", "momentum", "dropout", "drop_path"):
            _within(name, getattr(self, name), 0.0, 0.999, "from 0 to 0.999")
        _within("layer_decay", self.layer_decay, 0.0, 1.0, "above 0 and at most 1", not_low=True)
        whole("patience", self.patience, 0)
        _within("balance", self.balance, 0.0, 1.0, "from 0 to 1")
        for name, value in (
            ("weight_decay", self.weight_decay),
            ("distil_weight", self.distil_weight),
            ("clip", self.clip),
            ("clip_value", self.clip_value),
        ):
            _within(name, value, 0.0, 1e6, "from 0 to 1000000")
        _within("ema", self.ema, 0.0, 1.0, "from 0 to below 1", not_high=True)
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
        """The global step before which the largest network becomes the frozen teacher; `steps` if it never does."""
        start = 0
        for phase in self.phases:
            if phase.distil and phase.teacher == "frozen":
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

    def steps_done(self, steps: int) -> list[int]:
        """Steps completed in each phase after `steps` steps in all."""
        done = []
        for phase in self.phases:
            done.append(min(steps, phase.steps))
            steps -= done[-1]
        return done

    def to_json(self) -> str:
        """The schedule as JSON text, as versions write it that know nothing of what is at its default."""
        data = {"format": FORMAT, **asdict(self)}
        data["recipe"] = {k: v for k, v in data["recipe"].items() if k not in LATER or v != getattr(Recipe, k)}
        return json.dumps(data, indent=1)

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
            phases = [{**phase, "cosine": tuple(phase.get("cosine", (0.0, 1.0)))} for phase in data["phases"]]
            return cls(tuple(Phase(**phase) for phase in phases), Recipe(**data["recipe"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainingError(f"not a schedule: {error!r}") from None


def learning_rate(phase: Phase, step: int) -> float:
    """Learning rate of a step within its phase: linear warm-up, then its part of a cosine to zero, both per step."""
    if step < phase.warmup_steps:
        return phase.rate * (step + 1) / phase.warmup_steps
    begin, end = phase.cosine
    progress = begin + (end - begin) * (step - phase.warmup_steps) / max(1, phase.steps - phase.warmup_steps)
    return float(0.5 * phase.rate * (1 + np.cos(np.pi * progress)))


def whole(what: str, value: int, least: int) -> None:
    """Do nothing if this is a whole number that is large enough.

    Raises:
        TrainingError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TrainingError(f"{what} is {value!r}: it must be a whole number of at least {least}")


def _within(
    what: str, value: float, low: float, high: float, allowed: str, *, not_low: bool = False, not_high: bool = False
) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or (not_low and value == low) or (not_high and value == high):
        raise TrainingError(f"{what} is {value!r}: it must be a number {allowed}")


def _one_of(what: str, value: str, allowed: Collection[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise TrainingError(f"{what} is {value!r}: choose from {', '.join(allowed)}")


def _yes_or_no(what: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise TrainingError(f"{what} is {value!r}: it must be true or false")
