"""`Schedule`: what is trained when. It is plain data that the training loop in `loop.py` follows."""

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
# Fields of a recipe that were added after the first version of the format.
LATER = ("layer_decay", "drop_path", "patience", "balance", "logit_adjustment")


@dataclass(frozen=True)
class Phase:
    """A part of the training that trains one subset of the choices.

    Args:
        keep: how many of the largest choices are trained, as arguments of `Space.keep_largest`; {} trains the whole space.
        steps: optimizer steps; 0 to only create the initial networks.
        warmup_steps: steps of linear warm-up; the learning rate of the remaining steps follows a cosine to zero.
        rate: peak learning rate.
        subnets: sub-networks per step; their gradients are summed for one optimizer step.
        strategy: name in `STRATEGIES`.
        distil: whether sub-networks also learn from a teacher.
        teacher: "frozen" is the largest network as it was before the first phase with this teacher, "largest" is the largest
            network of the same step (in-place distillation), "external" is another model passed to `Trainer`.
        labels: "all" sub-networks learn from the labels, or only the "largest", the first one of the step.
        divergence: loss between teacher and sub-network, a name in `DIVERGENCES`.
        ramp: factor of the loss of all sub-networks but the largest at the start of the phase; it rises linearly to 1 at the end.
        cosine: the part of a cosine from the peak rate to zero that the phase follows after warm-up, so that two phases can share
            one cosine. A phase that does not start at 0 continues with the optimizer state of the previous phase.
        sort: before the phase, sort channels by importance, within the widths of this many of the largest expand ratios (those
            trained so far). None: no sorting.
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
            raise TrainingError(f"{where}warmup_steps is {self.warmup_steps} and steps is {self.steps}: give at most as many")
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
            raise TrainingError(f"{where}without labels or a teacher, smaller networks learn nothing: set distil")
        begin, end = self.cosine if isinstance(self.cosine, tuple) and len(self.cosine) == 2 else (0.0, math.nan)
        _within(where + "cosine", begin, 0.0, 1.0, "from 0 to 1")
        _within(where + "cosine", end, begin, 1.0, "after its beginning and at most 1", not_low=True)
        if self.sort is not None and begin > 0:
            raise TrainingError(
                f"{where}sort needs a new optimizer, and a phase with cosine {self.cosine} continues one: omit sort"
            )
        for name, number in self.keep.items():
            _one_of(where + "keep", name, Choices.__dataclass_fields__)
            whole(where + name, number, 1)


@dataclass(frozen=True)
class Recipe:
    """Settings of every step, shared by all phases.

    Args:
        optimizer: "sgd" (Nesterov) or "adamw".
        momentum: momentum of SGD.
        weight_decay: for convolution and linear weights and kernel matrices, not for batch norms and biases.
        label_smoothing: smoothing of the loss on labels.
        dropout: dropout rate before the classifier.
        distil_weight: factor of the distillation loss.
        zero_residual: initialize the last batch norm of every block with a shortcut to zero, so that blocks start as identities.
        clip: maximum norm of the step's gradient; 0: no clipping.
        clip_value: maximum absolute value of the gradient's entries; 0: no clipping.
        ema: decay per step of a moving average of the weights, which is validated and becomes the result; 0: none. After t steps
            the decay is at most (1 + t) / (10 + t).
        layer_decay: factor of the learning rate from each segment to the one before it: the classifier trains at the schedule's
            rate, the stem at the lowest; 1: the same rate everywhere.
        drop_path: rate at which the last residual branch is dropped for an image (stochastic depth); rates rise linearly to this
            value from the first branch on. A user's own network that has such rates keeps them.
        patience: stop when the mean accuracy has not risen in this many validations of the last phase, and keep the best weights;
            0: train to the end of the schedule and keep the last weights. Ignored when fine-tuning a single network.
        balance: how strongly the loss on labels compensates for class imbalance: an image's weight is proportional to the number of
            images of its class, to the power of -balance. 0: all images count equally; 1: all classes count equally.
        logit_adjustment: the loss on labels adds this factor times the logarithms of the class frequencies to the logits (Menon et
            al., ICLR 2021). 0: networks learn that some classes are rare; 1: they predict as if all were equally frequent.
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
    logit_adjustment: float = 0.0

    def __post_init__(self) -> None:
        whole("batch size", self.batch_size, 1)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("label_smoothing", "momentum", "dropout", "drop_path"):
            _within(name, getattr(self, name), 0.0, 0.999, "from 0 to 0.999")
        _within("layer_decay", self.layer_decay, 0.0, 1.0, "above 0 and at most 1", not_low=True)
        whole("patience", self.patience, 0)
        _within("balance", self.balance, 0.0, 1.0, "from 0 to 1")
        _within("logit_adjustment", self.logit_adjustment, 0.0, 2.0, "from 0 to 2")
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
            raise TrainingError(f"the phases of a schedule are named {names}: give at least one phase, and each a unique name")

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def teacher_step(self) -> int:
        """The global step at which the largest network becomes the frozen teacher; `steps` if it never does."""
        start = 0
        for phase in self.phases:
            if phase.distil and phase.teacher == "frozen":
                break
            start += phase.steps
        return start

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a global step (from 0), and the step within that phase."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError("the step is beyond the end of the schedule")

    def steps_done(self, steps: int) -> list[int]:
        """Steps completed in each phase after `steps` total steps."""
        done = []
        for phase in self.phases:
            done.append(min(steps, phase.steps))
            steps -= done[-1]
        return done

    def to_json(self) -> str:
        """The schedule as JSON text, without newer fields that have default values, so that older versions can read it."""
        data = {"format": FORMAT, **asdict(self)}
        data["recipe"] = {k: v for k, v in data["recipe"].items() if k not in LATER or v != getattr(Recipe, k)}
        return json.dumps(data, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Schedule":
        """Read what `to_json` wrote.

        Raises:
            TrainingError: another format, missing or unknown fields, or invalid values.
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
    """Learning rate of a step within its phase: linear warm-up, then the phase's part of a cosine to zero."""
    if step < phase.warmup_steps:
        return phase.rate * (step + 1) / phase.warmup_steps
    begin, end = phase.cosine
    progress = begin + (end - begin) * (step - phase.warmup_steps) / max(1, phase.steps - phase.warmup_steps)
    return float(0.5 * phase.rate * (1 + np.cos(np.pi * progress)))


def whole(what: str, value: int, least: int) -> None:
    """Check that the value is a whole number of at least `least`.

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
