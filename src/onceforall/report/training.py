"""The training schedule and its curves."""

from collections.abc import Callable, Sequence
from math import isfinite

from markupsafe import Markup

from ..common.readable import duration, percent
from ..pipeline.run_directory.metrics import Metrics
from .charts import Mark, line_chart
from .drawing import GRAY, Axis, Series, key_line
from .html import html
from .shown import Shown, score_axis, short

STEP = Axis("training step")
MOST_ROWS = 40
SMALL = 0.05  # peak learning rate below which the axis is in thousandths, so that tick labels fit


def last_top1(training: Metrics) -> list[float]:
    """Held-out score of each sub-network in its last validation."""
    return list({record.subnet: record.value for record in training.records if record.value is not None}.values())


def _curves(training: Metrics) -> dict[str, list[Series]]:
    """Loss and learning rate, and top-1 of each validated sub-network, over the steps of the whole run."""
    steps = [record for record in training.records if record.event == "train"]
    scores: dict[str, list[tuple[int, float | None]]] = {}
    for record in training.records:
        if record.event == "validation":
            scores.setdefault(f"{record.subnet} of the phase", []).append((record.step, record.value))
    return {
        "top1": [_series(name, pairs) for name, pairs in scores.items()],
        "loss": [_series("training", [(record.step, record.loss) for record in steps])],
        "rate": [_series("training", [(record.step, record.rate) for record in steps])],
    }


def _series(name: str, pairs: Sequence[tuple[int, float | None]]) -> Series:
    known = [(float(step), value) for step, value in pairs if value is not None]
    return Series(name, [step for step, _ in known], [value for _, value in known])


def training_section(runs: Sequence[Shown]) -> Markup:
    """The curves over the whole schedule, and the schedule as a table."""
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
            times = [record.seconds for record in run.training.records if record.phase == phase.name]
            stage = run.run.space.keep_largest(**phase.keep).stages[-1]
            choices = (("depth", stage.depths), ("kernel", stage.kernels), ("expand ratio", stage.expand_ratios))
            rows.append(
                [
                    run.label(phase.name), ", ".join(f"{name} {short(values)}" for name, values in choices),
                    f"{phase.steps / per_epoch:.4g}", f"{phase.steps:,}", f"{phase.rate:.3g}", f"{phase.subnets}",
                    duration(times[-1] - times[0] if len(times) > 1 else None),
                ]
            )  # fmt: skip
    header = ["phase", "choices", "epochs", "steps", "peak learning rate", "networks per step", "time"]
    score = score_axis(runs)
    words = f"Held-out {score.label} of each phase's largest, smallest, and one random sub-network"
    curves = [_curves(run.training) for run in runs]
    peak = max((v for of_run in curves for one in of_run["rate"] for v in one.ys if isfinite(v)), default=1.0)
    rate = Axis("learning rate", "× 10⁻³", 1e3) if peak < SMALL else Axis("learning rate")
    figures = [
        _chart(runs, words, [c["top1"] for c in curves], score, percent, marks),
        _chart(runs, "Training loss", [c["loss"] for c in curves], Axis("training loss", "nats"), "{:.3f}".format, marks),
        _chart(runs, "Learning rate", [c["rate"] for c in curves], rate, "{:.3g}".format, marks),
    ]
    return Markup(notes + html.pair(figures) + html.table("Schedule", header, rows, 2))


def _note(run: Shown) -> Markup:
    """A note above the curves: where the weights come from, or that training has not finished."""
    if run.schedule is not None:
        if run.resume is None:
            return Markup()
        words = f"The training has not finished: step {run.training.step:,} of {run.schedule.steps:,}."
        return Markup(html.empty(f"{run.label(words)} Resume it with", run.resume))
    if run.run.info.source is not None:
        words = f"Nothing was trained in this run. The weights were imported: {run.run.info.source}."
        return Markup(html.soft(run.label(words)))
    return run.empty("Nothing was trained yet.", "train DATA --out {run}")


def _chart(
    runs: Sequence[Shown],
    caption: str,
    curves: Sequence[Sequence[Series]],
    axis: Axis,
    shown: Callable[[float], str],
    marks: Sequence[Mark],
) -> Markup:
    """One chart of all runs' curves. With several runs, colors distinguish runs and dashes the curves of a run."""
    series = []
    for run, of_run in zip(runs, curves, strict=True):
        several = len(of_run) > 1
        for place, one in enumerate(of_run):
            color, dash = (None, None) if run.alone else (run.place, place if several else run.place)
            series.append(Series(run.label(one.name if run.alone or several else ""), one.xs, one.ys, color, dash))
    description = f"{axis.title} over training steps, for {', '.join(one.name for one in series)}."
    chart = line_chart(series, STEP, axis, name=caption, marks=marks, legend=_legend(runs, curves), description=description)
    steps = sorted({step for one in series for step in one.xs})
    if len(steps) > MOST_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    values = [dict(zip(one.xs, one.ys, strict=True)) for one in series]
    rows = [[f"{step:,.0f}", *(_value(column.get(step), shown) for column in values)] for step in steps]
    return Markup(html.figure(caption, chart, html.table(caption, ["step", *(one.name for one in series)], rows)))


def _legend(runs: Sequence[Shown], curves: Sequence[Sequence[Series]]) -> list[tuple[str, str]] | None:
    """A legend entry for each of several runs and, if they have several curves, for each curve."""
    if len(runs) == 1:
        return None
    kinds = list(dict.fromkeys(one.name for of_run in curves for one in of_run))
    shown = [run for run, of_run in zip(runs, curves, strict=True) if of_run]
    if len(kinds) == 1:
        return [(run.name, key_line(run.place)) for run in shown]
    colors = [(run.name, key_line(0, color=run.place, marked=False)) for run in shown]
    return colors + [(kind, key_line(dash, color=GRAY)) for dash, kind in enumerate(kinds)]


def _value(value: float | None, shown: Callable[[float], str]) -> str:
    return "–" if value is None or not isfinite(value) else shown(value)
