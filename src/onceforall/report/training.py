"""The schedule and its curves."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from markupsafe import Markup

from ..advice import ofa
from ..errors import FileError, TrainingError
from ..files import read_lines, read_text
from ..pipeline.run import Run
from ..readable import duration, percent
from ..train import Schedule
from .charts import Mark, line_chart
from .drawing import TOP1, Axis, Series, key_line
from .html import html
from .shown import Shown, Training, as_file_error, short

__all__ = ["read_schedule", "read_training", "training"]

STEP = Axis("training step")
MOST_ROWS = 40
GREY = 6  # number of a color
SMALL = 0.05  # learning rates below are shown in thousandths, so that the axis has room

Curves = Callable[[Shown], Sequence[Series]]


def read_schedule(run: Run) -> Schedule | None:
    """The schedule of the run's training, if it has one."""
    path = run.folder / "schedule.json"
    try:
        return Schedule.from_json(read_text(path)) if path.exists() else None
    except TrainingError as error:
        raise FileError(f"{path}: {error}: see {ofa('status', run.folder)}") from None


def read_training(run: Run) -> Training:
    """What was done of the training so far."""
    path = run.folder / "metrics.jsonl"
    with as_file_error(path):
        records = read_lines(path)
        steps, validations = ([r for r in records if r["event"] == kind] for kind in ("train", "validation"))
        times: dict[str, list[float]] = {}
        for r in records:
            times.setdefault(r["phase"], []).append(float(r["seconds"]))
        subnets = dict.fromkeys(r["subnet"] for r in validations)
        return Training(
            steps=max((int(r["step"]) for r in records), default=0),
            seconds=max((float(r["seconds"]) for r in records), default=None),
            joules=max((float(r["joules"]) for r in records if "joules" in r), default=None),
            phases={phase: own[-1] - own[0] for phase, own in times.items() if len(own) > 1},
            losses=[_series("training", steps, "loss")],
            rates=[_series("training", steps, "rate")],
            top1=[_series(f"{name} of the phase", [r for r in validations if r["subnet"] == name], "top1") for name in subnets],
        )


def _series(name: str, records: Sequence[dict[str, Any]], key: str) -> Series:
    return Series(name, [float(r["step"]) for r in records], [float(r[key]) for r in records])


def training(runs: Sequence[Shown]) -> Markup:
    """Curves over the whole schedule, and the schedule."""
    notes = Markup().join(map(_note, runs))
    scheduled = [(run, run.schedule) for run in runs if run.schedule is not None]
    if not scheduled:
        return notes
    marks, rows = list[Mark](), list[list[str]]()
    for run, schedule in scheduled:
        first, per_epoch = 0, max(1, run.run.info.images["train"] // schedule.recipe.batch_size)
        for phase in schedule.phases:
            marks.append(Mark(run.label(phase.name), first, None if run.alone else run.place))
            first += phase.steps
            stage = run.run.space.keep_largest(**phase.keep).stages[-1]
            kept = (("depth", stage.depths), ("kernel", stage.kernels), ("expand ratio", stage.expand_ratios))
            rows.append(
                [
                    run.label(phase.name), ", ".join(f"{name} {short(values)}" for name, values in kept),
                    f"{phase.steps / per_epoch:.4g}", f"{phase.steps:,}", f"{phase.rate:.3g}", f"{phase.subnets}",
                    duration(run.training.phases.get(phase.name)),
                ]
            )  # fmt: skip
    header = ["phase", "choices", "epochs", "steps", "peak learning rate", "networks a step", "time"]
    words = "Held-out top-1 of each phase's largest, smallest, and one random sub-network"
    peak = max((v for run in runs for one in run.training.rates for v in one.ys if isfinite(v)), default=1.0)
    rate = Axis("learning rate", "× 10⁻³", 1e3) if peak < SMALL else Axis("learning rate")
    figures = [
        _curves(runs, words, lambda run: run.training.top1, TOP1, percent, marks),
        _curves(runs, "Training loss", lambda run: run.training.losses, Axis("training loss", "nats"), "{:.3f}".format, marks),
        _curves(runs, "Learning rate", lambda run: run.training.rates, rate, "{:.3g}".format, marks),
    ]
    return Markup(notes + html.pair(figures) + html.table("Schedule", header, rows, 2))


def _note(run: Shown) -> Markup:
    """What to know before the curves: where weights come from, or that training has not ended."""
    if run.schedule is not None:
        if run.resume is None:
            return Markup()
        words = f"The training has not finished: step {run.training.steps:,} of {run.schedule.steps:,}."
        return Markup(html.empty(f"{run.label(words)} Go on with", run.resume))
    if run.run.info.source is not None:
        words = f"Nothing was trained in this run. The weights were imported: {run.run.info.source}."
        return Markup(html.soft(run.label(words)))
    return run.empty("Nothing was trained yet.", "train DATA --out {run}")


def _curves(
    runs: Sequence[Shown], caption: str, curves: Curves, axis: Axis, shown: Callable[[float], str], marks: Sequence[Mark]
) -> Markup:
    """One chart: with several runs, colors are runs and dashes are curves of one run."""
    series = []
    for run in runs:
        own = curves(run)
        for place, one in enumerate(own):
            if run.alone:
                series.append(one)
            else:
                several = len(own) > 1
                name = run.label(one.name if several else "")
                series.append(Series(name, one.xs, one.ys, run.place, place if several else run.place))
    told = f"{axis.title} over training steps, for {', '.join(one.name for one in series)}."
    chart = line_chart(series, STEP, axis, name=caption, marks=marks, legend=_legend(runs, curves), description=told)
    steps = sorted({step for one in series for step in one.xs})
    if len(steps) > MOST_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    values = [dict(zip(one.xs, one.ys, strict=True)) for one in series]
    rows = [[f"{step:,.0f}", *(_value(own.get(step), shown) for own in values)] for step in steps]
    return Markup(html.figure(caption, chart, html.table(caption, ["step", *(one.name for one in series)], rows)))


def _legend(runs: Sequence[Shown], curves: Curves) -> list[tuple[str, str]] | None:
    """Of several runs: a sign for each run and, if they have several curves, one for each of those."""
    if len(runs) == 1:
        return None
    kinds = list(dict.fromkeys(one.name for run in runs for one in curves(run)))
    shown = [run for run in runs if curves(run)]
    if len(kinds) == 1:
        return [(run.name, key_line(run.place)) for run in shown]
    colors = [(run.name, key_line(0, color=run.place, marked=False)) for run in shown]
    return colors + [(kind, key_line(dash, color=GREY)) for dash, kind in enumerate(kinds)]


def _value(value: float | None, shown: Callable[[float], str]) -> str:
    return "–" if value is None or not isfinite(value) else shown(value)
