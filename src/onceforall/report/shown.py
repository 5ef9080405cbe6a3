"""What the page shows of a run, read from its directory. Shares are fractions in [0, 1], latencies milliseconds.

What is None or empty is not known yet; the page names the command that measures it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..accuracy import AccuracyRow
from ..common.advice import ofa
from ..common.readable import milliseconds, percent, wilson
from ..errors import FileError, OnceForAllError
from ..latency import LatencyTable
from ..pipeline.comparison.versus import Comparison
from ..pipeline.run_directory.metrics import Metrics
from ..pipeline.run_directory.run import Run
from ..pipeline.specialising.record import Specialised
from ..plan import Plan
from ..scores import METRICS
from ..train import Schedule
from .charts import FrontSeries
from .drawing import Axis, Point, key_line
from .html import html

Cell = str | tuple[str, str]  # text, or text and a small line below it
Fronts = Mapping[tuple[str | None, str], FrontSeries]  # by device, as `--device` takes it, and hardware; (None, "") for MACs


@dataclass(frozen=True)
class PredictorChecks:
    """A predictor's kind, its errors.json, and points (predicted, measured) for the networks it was not fitted to."""

    kind: str
    errors: Mapping[str, Any]
    points: Sequence[Point]


@dataclass(frozen=True)
class Chosen:
    """A network in specialised/.

    Args:
        name: name of its file there.
        device: the device it was measured on.
        made: the content of the file.
        classes: names of the classes.
        metric: the metric that it was chosen by.
    """

    name: str
    device: str
    made: Specialised
    plan: Plan
    classes: Sequence[str] = ()
    metric: str = "top1"

    @property
    def reported(self) -> tuple[str, float]:
        """Name and value of the test score: the metric that the network was chosen by if the file has it, else top-1."""
        metric = "map" if self.made.labels is not None else "top1" if self.made.confusion is None else self.metric
        return METRICS[metric], self.score(metric)[0]

    def score(self, metric: str) -> tuple[float, tuple[float, float] | None]:
        """The test score by a metric (top-1 if that is not known) and its 95 % interval."""
        test, confusion = self.made.test, self.made.confusion
        if self.made.labels is not None:
            return self.made.labels.map, self.made.labels.interval
        if metric == "top1" or confusion is None:
            return test.top1, wilson(test.top1, test.images)
        return confusion.score(metric), confusion.interval(metric)


@dataclass(frozen=True)
class Shown:
    """One run.

    Args:
        run: its directory and run.json.
        name: a short name, unique on the page.
        schedule: the training schedule, if there is one.
        training: metrics of the training; joules are the processor's, including other programs.
        resume: the command that resumes an unfinished training.
        predictor: what predicts accuracy, if it was not fitted in this run.
        subnets: the accuracy data, with MACs.
        checks: checks of the accuracy predictor.
        tables: latency tables, each with points (predicted, measured) for the networks it was checked on.
        fronts: top-1 against latency on each device, and against MACs.
        chosen: the networks in specialised/, fastest first.
        compared: the result of `ofa compare`.
        costs: for each stage, the wall time, if known, and the work done.
        problems: sentences about errors and reasons for doubt.
        listed: each problem of the data, if `problems` only counts them.
        place: index among the runs on the page.
        alone: whether it is the only run.
    """

    run: Run
    name: str
    schedule: Schedule | None = None
    training: Metrics = field(default_factory=lambda: Metrics(()))
    resume: str | None = None
    predictor: str | None = None
    subnets: Sequence[tuple[AccuracyRow, int]] = ()
    checks: PredictorChecks | None = None
    tables: Sequence[tuple[LatencyTable, Sequence[Point]]] = ()
    fronts: Fronts = field(default_factory=dict)
    chosen: Sequence[Chosen] = ()
    compared: Comparison | None = None
    costs: Mapping[str, tuple[float | None, str]] = field(default_factory=dict)
    problems: Sequence[str] = ()
    listed: Sequence[str] = ()
    place: int = 0
    alone: bool = True

    @property
    def space(self) -> str:
        """The space as text, such as "mobilenet_v3(width=0.5)", with the choices that its networks have."""
        arguments, hidden = self.run.info.space["arguments"], {"graph"}
        if "graph" in arguments:
            hidden |= {key for key, value in arguments.items() if value is None}
            hidden |= {key for key in ("heads", "kernels") if all(len(getattr(s, key)) == 1 for s in self.run.space.stages)}
        return f"{self.run.family}({', '.join(f'{key}={short(v)}' for key, v in arguments.items() if key not in hidden)})"

    @property
    def data(self) -> str | None:
        """The images; None if there are none."""
        return None if self.run.info.data is None else self.run.info.data.source

    @property
    def about(self) -> str:
        """The space and the images."""
        return self.space if self.data is None else f"{self.space} on {self.data}"

    @property
    def images_seen(self) -> int | None:
        """Images that passed through a network during training, counted for each sub-network."""
        if self.schedule is None:
            return None
        phases = zip(self.schedule.steps_done(self.training.step), self.schedule.phases, strict=True)
        return self.schedule.recipe.batch_size * sum(steps * phase.subnets for steps, phase in phases) or None

    @property
    def sign(self) -> Markup:
        """Line and marker of the run in the charts."""
        look = 'class="chart sign" viewBox="0 -11 24 14" width="24" height="14" aria-hidden="true"'
        return Markup(f"<svg {look}>{key_line(self.place)}</svg>")

    def label(self, text: str) -> str:
        """The text, prefixed with the run's name if there are several runs."""
        return text if self.alone else f"{self.name}: {text}" if text else self.name

    def named(self, body: Markup) -> Markup:
        """The body, under the run's name if there are several runs."""
        return body if self.alone else Markup(html.named(self.sign, self.name, body))

    def empty(self, words: str, command: str, *, images: bool = True) -> Markup:
        """What is missing, and the command to run; `images`: whether the command needs images."""
        if images and self.data is None:
            return Markup(html.empty(f"{self.label(words)} This needs images, and the run was imported without any."))
        line = ofa(*(self.run.folder if word == "{run}" else word for word in command.split()))
        return Markup(html.empty(f"{self.label(words)} Run", line))


def score_axis(runs: Sequence[Shown]) -> Axis:
    """The axis of the runs' metric, named "score" if they differ."""
    names = list(dict.fromkeys(METRICS[run.run.metric] for run in runs))
    return Axis(names[0] if len(names) == 1 else "score", "%", 100)


def lacking(runs: Sequence[Shown], lacks: Callable[[Shown], bool], words: str, command: str, *, images: bool = True) -> Markup:
    """`Shown.empty` of each run that lacks something."""
    return Markup().join(run.empty(words, command, images=images) for run in runs if lacks(run))


def no_device(runs: Sequence[Shown], lacks: Callable[[Shown], bool]) -> Markup:
    """`lacking` for runs without a measured device."""
    return lacking(runs, lacks, "No device was measured yet.", "profile {run}", images=False)


def counted(value: float, interval: tuple[float, float] | None, images: int) -> tuple[str, str]:
    """A cell with a score on images, its interval, and their number."""
    ends = "" if interval is None else "{:.1f} – {:.1f}, ".format(*(100 * end for end in interval))
    return percent(value), f"{ends}n = {images:,}"


def timed(ms: float, low: float, high: float, more: str = "") -> tuple[str, str]:
    """A cell with latency and its interval."""
    return milliseconds(ms), f"{low:.3g}–{high:.3g}{more}"


def short(value: Any) -> str:
    """A value as text; a long sequence as first…last."""
    if not isinstance(value, list | tuple):
        return json.dumps(value)
    items = [v.replace("x", "×") if isinstance(v, str) else f"{v:g}" for v in value]
    return "/".join(items) if len(items) <= 8 else f"{items[0]}…{items[-1]}"


@contextmanager
def as_file_error(path: Path) -> Iterator[None]:
    """Turn errors in the content of a file into a `FileError` that names it."""
    try:
        yield
    except OnceForAllError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileError(f"{path}: damaged, edited or of another version of onceforall ({error!r}): see ofa status") from None
