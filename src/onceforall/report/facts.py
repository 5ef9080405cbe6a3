"""What a report tells, as plain data. Whatever is None or empty is not known yet; the page says which command finds it.

Shares and top-1 are fractions in [0, 1], latencies milliseconds, memory bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "AccuracyFacts",
    "BlockFacts",
    "Check",
    "ChosenFacts",
    "ComparedFacts",
    "CostFacts",
    "Curve",
    "FileFacts",
    "FrontFacts",
    "LatencyFacts",
    "PhaseFacts",
    "ReportFacts",
    "RivalFacts",
    "RunFacts",
    "Spot",
    "Subnet",
    "VerdictFacts",
]


@dataclass(frozen=True)
class RunFacts:
    """The run as a whole.

    Args:
        folder: the run directory as the user wrote it.
        name: short, different from those of the other runs on the page.
        command: the command line that made it.
        data: name of the data set; None if there are no images.
        classes: names of the classes.
        images: split ("train", "held-out", "test") -> number of images.
        space: the space as text, e.g. "mobilenet_v3(width=0.5)".
        networks: how many networks the space holds.
        seed: the run's seed.
        hardware: the machine that made it.
        versions: package -> version.
        steps: done of the training.
        seconds: wall time of the training.
        images_seen: images that went through a network while training, each sub-network counted.
        joules: that the processor counted while training, whatever else ran on it; None if it was not counted.
        resume: the command that goes on with a training that has not finished.
        weights: where the weights come from, if they were not trained in this run.
        predictor: what predicts accuracy, if it was not fitted in this run.
        origin: the run whose weights the training started from, if not random ones.
    """

    folder: str
    name: str
    command: str
    data: str | None
    classes: Sequence[str]
    images: Mapping[str, int]
    space: str
    networks: int
    seed: int
    hardware: str
    versions: Mapping[str, str]
    steps: int = 0
    seconds: float | None = None
    images_seen: int | None = None
    joules: float | None = None
    resume: str | None = None
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
class Subnet:
    """A sub-network of the accuracy data: top-1 as measured on held-out images; depth is the number of blocks."""

    resolution: int
    depth: int
    macs: int
    top1: float


@dataclass(frozen=True)
class Check:
    """A network that was not used for fitting: predicted and measured, each with its interval (low, high) where it is known."""

    name: str
    predicted: float
    measured: float
    interval: tuple[float, float] | None = None
    predicted_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class AccuracyFacts:
    """The accuracy predictor: checked on networks that it was not fitted to; top-1 measured on `images` held-out images.

    Args:
        kind: of predictor.
        fitted_on: networks.
        images: that accuracies were measured on.
        checks: the networks, with the predictor's calibrated 90 % error bars and 95 % intervals of the measurements.
        rmse: root mean square error, a fraction.
        kendall_tau: rank correlation.
        coverage90: share of the measurements within the 90 % error bars.
        ceiling: Kendall tau that chance in measuring allows; None if it is not known.
    """

    kind: str
    fitted_on: int
    images: int
    checks: Sequence[Check]
    rmse: float
    kendall_tau: float
    coverage90: float
    ceiling: float | None = None


@dataclass(frozen=True)
class LatencyFacts:
    """The latency table of a device, checked end to end.

    Args:
        device: as `--device` takes it.
        method: processor and runtime, in words.
        checks: networks, with intervals of the measurements where they were kept.
        mape: mean absolute error over the measured value, a fraction, and its 95 % interval.
        kendall_tau: rank correlation, and its 95 % interval.
        within95: what the error of 95 % of the networks keeps, a fraction of the measured value.
    """

    device: str
    method: str
    checks: Sequence[Check]
    mape: tuple[float, float, float]
    kendall_tau: tuple[float, float, float]
    within95: float


@dataclass(frozen=True)
class Spot:
    """A network by its cost (ms or MACs) and top-1; `note` tells more about it."""

    name: str
    cost: float
    top1: float
    note: str = ""


@dataclass(frozen=True)
class FrontFacts:
    """Pairs of (cost, top-1): latency in ms on a device, or MACs.

    Args:
        device: as `--device` takes it; None where the cost is MACs.
        hardware: processor and runtime; "" for MACs.
        random: networks of the space, predicted.
        front: the best that the search found at each cost, predicted.
        measured: networks that were found and measured, on held-out images.
        elsewhere: published architectures in this space, predicted.
        published: other networks with the figures that their authors give, on the same data.
    """

    device: str | None
    hardware: str
    random: Sequence[tuple[float, float]]
    front: Sequence[tuple[float, float]]
    measured: Sequence[Spot] = ()
    elsewhere: Sequence[Spot] = ()
    published: Sequence[Spot] = ()


@dataclass(frozen=True)
class BlockFacts:
    """A part of a network. `kernel`: of its spatial convolution, if any; `ratio`: of a block of the stages, else None."""

    name: str
    kernel: int | None
    ratio: float | None
    width: int
    resolution: int | None
    macs: int
    share: float | None


@dataclass(frozen=True)
class FileFacts:
    """An exported file as measured: top-1 on the test images and, where it was timed, latency with its 95 % interval."""

    format: str
    top1: float
    latency: tuple[float, float, float] | None


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
        blocks: its parts, from input to output.
        files: exported.
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
    blocks: Sequence[BlockFacts] = ()
    files: Sequence[FileFacts] = ()


@dataclass(frozen=True)
class RivalFacts:
    """A network of a comparison: one of the run's (`ours`), or a fixed one that was fine-tuned alone.

    Args:
        name: different from the others'.
        ours: whose it is.
        resolution: in pixels.
        latency: in ms, with its 95 % interval, timed in turns with the others.
        macs: multiply-accumulates.
        params: parameters.
        top1: on `images` test images.
        images: how many.
        training: of a fixed one, in words.
    """

    name: str
    ours: bool
    resolution: int
    latency: tuple[float, float, float]
    macs: int
    params: int
    top1: float
    images: int
    training: str = ""


@dataclass(frozen=True)
class VerdictFacts:
    """One budget of a comparison, in words, with the fixed networks that it is the cost of, and who wins.

    Args:
        limits: the budget.
        of: names of fixed networks whose own cost it is.
        ours: name of ours, None without.
        fixed: name of the fixed network, None without.
        winner: in words.
        difference: top-1 of ours less that of the fixed one, with its 95 % interval; None without both.
    """

    limits: str
    of: Sequence[str]
    ours: str | None
    fixed: str | None
    winner: str
    difference: tuple[float, float, float] | None


@dataclass(frozen=True)
class ComparedFacts:
    """Networks of the run against fixed ones that were fine-tuned alone.

    Args:
        device: as `--device` takes it.
        hardware: processor and runtime.
        rivals: all networks.
        verdicts: one for each budget.
        summary: how often who wins.
        costs: for so many devices, seconds of ours and of fixed networks.
        break_even: devices from which on ours takes no longer; None if there are none.
        notes: sentences that a reader should know.
    """

    device: str
    hardware: str
    rivals: Sequence[RivalFacts]
    verdicts: Sequence[VerdictFacts]
    summary: str
    costs: Sequence[tuple[int, float, float]]
    break_even: int | None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class CostFacts:
    """What something took: wall time where it is known, and what was done, in words."""

    name: str
    seconds: float | None
    work: str


@dataclass(frozen=True)
class ReportFacts:
    """Everything about one run. `problems` are sentences about what went wrong or should make a reader doubt."""

    run: RunFacts
    phases: Sequence[PhaseFacts] = ()
    losses: Sequence[Curve] = ()
    rates: Sequence[Curve] = ()
    top1: Sequence[Curve] = ()
    subnets: Sequence[Subnet] = ()
    accuracy: AccuracyFacts | None = None
    latency: Sequence[LatencyFacts] = ()
    fronts: Sequence[FrontFacts] = ()
    chosen: Sequence[ChosenFacts] = ()
    compared: ComparedFacts | None = None
    costs: Sequence[CostFacts] = ()
    problems: Sequence[str] = ()
