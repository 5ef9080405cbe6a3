"""What a report tells, as plain data. Whatever is None or empty is not known yet; the page says which command finds it.

Shares and top-1 are fractions in [0, 1], latencies milliseconds, memory bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["AccuracyFacts", "Check", "ChosenFacts", "Curve", "FrontFacts", "LatencyFacts", "PhaseFacts", "ReportFacts", "RunFacts"]


@dataclass(frozen=True)
class RunFacts:
    """The run as a whole.

    Args:
        folder: the run directory as the user wrote it.
        command: the command line that made it.
        data: name of the data set; None if there are no images.
        classes: names of the classes.
        images: split ("train", "held-out", "test") -> number of images.
        space: the space as text, e.g. "mobilenet_v3(width=0.5)".
        networks: how many networks the space holds.
        seed: the run's seed.
        hardware: the machine that made it.
        versions: package -> version.
        seconds: wall time of the training.
        images_seen: images that went through a network while training, each sub-network counted.
        weights: where the weights come from, if they were not trained in this run.
        predictor: what predicts accuracy, if it was not fitted in this run.
        origin: the run whose weights the training started from, if not random ones.
    """

    folder: str
    command: str
    data: str | None
    classes: Sequence[str]
    images: Mapping[str, int]
    space: str
    networks: int
    seed: int
    hardware: str
    versions: Mapping[str, str]
    seconds: float | None = None
    images_seen: int | None = None
    weights: str | None = None
    predictor: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class PhaseFacts:
    """One phase of the schedule. `choices` tells in words what may be drawn; `first_step` counts from the run's start."""

    name: str
    choices: str
    first_step: int
    steps: int
    epochs: float
    learning_rate: float
    networks_per_step: int
    seconds: float | None = None


@dataclass(frozen=True)
class Curve:
    """Values over the steps of the whole run; NaN where there is none."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Check:
    """A network that was not used for fitting: predicted, measured, and the measurement's 95 % interval if known."""

    name: str
    predicted: float
    measured: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AccuracyFacts:
    """The accuracy predictor: fitted on `fitted_on` networks, checked on others; top-1 measured on `images` held-out images."""

    fitted_on: int
    images: int
    checks: Sequence[Check]
    rmse: float
    kendall_tau: float


@dataclass(frozen=True)
class LatencyFacts:
    """The latency table of a device, checked end to end. `mape` is the mean absolute error over the measured value, a fraction."""

    device: str
    method: str
    checks: Sequence[Check]
    mape: float
    kendall_tau: float


@dataclass(frozen=True)
class FrontFacts:
    """Predicted (latency in ms, top-1) pairs of one device: random networks of the space, and the Pareto front that was found."""

    device: str
    random: Sequence[tuple[float, float]]
    front: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class ChosenFacts:
    """A network that was chosen and written out.

    Args:
        name: short.
        device: where it was measured.
        limits: what was asked for, in words.
        budget_ms: the latency asked for.
        latency_ms: measured on the device through the exported file, with its 95 % interval.
        top1: on `images` test images, through the exported file.
        picture: SVG text from `onceforall.picture.draw`; it is put into the page as it is.
        folder: where it was written.
    """

    name: str
    device: str
    limits: str
    budget_ms: float | None
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    predicted_latency_ms: float | None
    top1: float
    images: int
    predicted_top1: float | None
    macs: int
    params: int
    peak_memory_bytes: int
    picture: str
    folder: str


@dataclass(frozen=True)
class ReportFacts:
    """Everything on the page. `problems` are sentences about what went wrong or should make a reader doubt."""

    run: RunFacts
    phases: Sequence[PhaseFacts] = ()
    losses: Sequence[Curve] = ()
    top1: Sequence[Curve] = ()
    accuracy: AccuracyFacts | None = None
    latency: Sequence[LatencyFacts] = ()
    fronts: Sequence[FrontFacts] = ()
    chosen: Sequence[ChosenFacts] = ()
    problems: Sequence[str] = field(default=())
