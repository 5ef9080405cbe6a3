"""The schedule and its curves."""

from collections.abc import Callable, Sequence
from html import escape
from math import isfinite

from ...readable import duration, percent
from ..charts import Axis, Mark, Series, line_chart
from ..drawing import key_line
from ..facts import Curve, ReportFacts
from ..markup import empty, figure, label, table

__all__ = ["training"]

TOP1 = Axis("top-1", "%")
STEP = Axis("training step")
MOST_ROWS = 40
GREY = 6  # number of a colour
SMALL = 0.05  # learning rates below are shown in thousandths, so that the axis has room


def training(runs: Sequence[ReportFacts]) -> str:
    """Curves over the whole schedule, and the schedule."""
    notes = "".join(_note(runs, facts) for facts in runs)
    if not any(facts.phases for facts in runs):
        return notes
    marks = [
        Mark(label(runs, facts, phase.name), phase.first_step, None if len(runs) == 1 else index)
        for index, facts in enumerate(runs)
        for phase in facts.phases
    ]
    words = "Held-out top-1 of each phase's largest, smallest, and one random sub-network"
    peak = max((v for facts in runs for curve in facts.rates for v in curve.values if isfinite(v)), default=1.0)
    rate, scale = (Axis("learning rate", "× 10⁻³"), 1e3) if peak < SMALL else (Axis("learning rate"), 1.0)
    figures = [
        _curves(runs, words, lambda facts: facts.top1, TOP1, 100.0, percent, marks),
        _curves(runs, "Training loss", lambda facts: facts.losses, Axis("training loss", "nats"), 1.0, "{:.3f}".format, marks),
        _curves(runs, "Learning rate", lambda facts: facts.rates, rate, scale, "{:.3g}".format, marks),
    ]
    return notes + f'<div class="pair">{"".join(figures)}</div>' + _schedule(runs)


def _note(runs: Sequence[ReportFacts], facts: ReportFacts) -> str:
    """What to know before the curves: where weights come from, or that training has not ended."""
    if facts.phases:
        if facts.run.resume is None:
            return ""
        done = sum(phase.steps for phase in facts.phases)
        words = label(runs, facts, f"The training has not finished: step {facts.run.steps:,} of {done:,}.")
        return f'<p class="empty">{escape(words)} Go on with <code>{escape(facts.run.resume)}</code></p>'
    if facts.run.weights is not None:
        words = label(runs, facts, f"Nothing was trained in this run. The weights were imported: {facts.run.weights}.")
        return f'<p class="soft">{escape(words)}</p>'
    return empty(facts, label(runs, facts, "Nothing was trained yet."), "train DATA --out {run}")


def _curves(
    runs: Sequence[ReportFacts],
    caption: str,
    curves: Callable[[ReportFacts], Sequence[Curve]],
    axis: Axis,
    scale: float,
    shown: Callable[[float], str],
    marks: Sequence[Mark],
) -> str:
    """One chart: with several runs, colours are runs and dashes are curves of one run."""
    series = []
    for index, facts in enumerate(runs):
        for place, curve in enumerate(curves(facts)):
            colour, dash = (None, None) if len(runs) == 1 else (index, place if len(curves(facts)) > 1 else index)
            name = label(runs, facts, curve.name if len(runs) == 1 or len(curves(facts)) > 1 else "")
            series.append(Series(name, curve.steps, [scale * v for v in curve.values], colour, dash))
    told = f"{axis.title} over training steps, for {', '.join(one.name for one in series)}."
    chart = line_chart(series, STEP, axis, name=caption, marks=marks, legend=_legend(runs, curves), description=told)
    steps = sorted({step for one in series for step in one.xs})
    if len(steps) > MOST_ROWS:
        steps = [steps[round(i * (len(steps) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    values = [dict(zip(one.xs, one.ys, strict=True)) for one in series]
    rows = [[f"{step:,.0f}", *(_value(own.get(step), scale, shown) for own in values)] for step in steps]
    return figure(caption, chart, table(caption, ["step", *(one.name for one in series)], rows))


def _legend(runs: Sequence[ReportFacts], curves: Callable[[ReportFacts], Sequence[Curve]]) -> list[tuple[str, str]] | None:
    """Of several runs: a sign for each run and, if they have several curves, one for each of those."""
    if len(runs) == 1:
        return None
    kinds = list(dict.fromkeys(curve.name for facts in runs for curve in curves(facts)))
    shown = [(index, facts.run.name) for index, facts in enumerate(runs) if curves(facts)]
    if len(kinds) == 1:
        return [(name, key_line(index)) for index, name in shown]
    colours = [(name, key_line(0, colour=index, marked=False)) for index, name in shown]
    return colours + [(kind, key_line(dash, colour=GREY)) for dash, kind in enumerate(kinds)]


def _value(value: float | None, scale: float, shown: Callable[[float], str]) -> str:
    return "–" if value is None or not isfinite(value) else shown(value / scale)


def _schedule(runs: Sequence[ReportFacts]) -> str:
    rows = [
        [
            escape(label(runs, facts, phase.name)), escape(phase.choices), f"{phase.epochs:.4g}", f"{phase.steps:,}",
            f"{phase.learning_rate:.3g}", f"{phase.networks_per_step}", duration(phase.seconds),
        ]
        for facts in runs
        for phase in facts.phases
    ]  # fmt: skip
    header = ["phase", "choices", "epochs", "steps", "peak learning rate", "networks a step", "time"]
    return table("Schedule", header, rows, left=2)
