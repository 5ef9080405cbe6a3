"""The runs' networks against fixed ones that were fine-tuned alone: which wins within each budget, and the cost of both."""

from collections.abc import Sequence

from markupsafe import Markup

from ..common.readable import amount, duration, percent
from ..pipeline.comparison.versus import Comparison, Rival, Verdict, summary
from ..resolutions import in_pixels
from ..scores import METRICS
from .charts import FrontSeries, front_chart
from .drawing import MS, Axis, Point
from .html import html
from .shown import Cell, Shown, counted, timed


def compared(runs: Sequence[Shown]) -> Markup:
    """For each run a chart of accuracy against latency, the verdicts, and the costs; runs without a comparison name the command."""
    parts = []
    for run in runs:
        if run.compared is not None:
            parts.append(run.named(_one(run, run.compared)))
        elif run.run.task.several:
            parts.append(html.empty(run.label("Fixed networks of several labels per image cannot be compared with yet.")))
        elif run.run.info.source is None:
            words = "No fixed network was fine-tuned to compare with yet."
            parts.append(run.empty(words, "compare {run} --with torchvision:mobilenet_v3_small.DEFAULT"))
        else:
            parts.append(html.empty(run.label("Imported weights have no recipe to fine-tune fixed networks by.")))
    return Markup().join(parts)


def _one(run: Shown, found: Comparison) -> Markup:
    words = (
        "Fixed networks, each fine-tuned alone with the images, splits and recipe of this run, against the networks that a "
        "search in this run finds within the same budget. Both sides were chosen on held-out images; the winner has the higher "
        f"{METRICS[found.metric]} on the same test images. Intervals (95 %) of differences are paired, latencies timed in turns."
    )
    test = {one.name: one.score(found.metric) for one in (*found.fixed, *found.ours)}
    verdicts = [_verdict(verdict, test) for verdict in found.verdicts]
    least, total = found.costs.break_even, summary(found)
    about_costs = (
        "Ours: training and accuracy data once, then a profile and a search per device. Fixed: one network fine-tuned per device, "
        "in the mean time of those here. "
    )
    about_costs += "Ours always takes longer." if least is None else f"From {least:,} devices on, ours takes no longer."
    costs = [[f"{devices:,}", duration(ours), duration(fixed)] for devices, ours, fixed in found.costs.rows()]
    return Markup().join(
        [
            html.soft(words),
            html.strong(f"{total[0].upper()}{total[1:]}."),
            _chart(run, found),
            html.table(
                "Who wins within each budget",
                ["budget", "winner", "ours", "best fixed, held-out", "difference in points"],
                verdicts,
                2,
            ),
            html.table("Time for several devices", ["devices, each with its own budget", "ours", "fixed"], costs),
            html.soft(about_costs),
            html.bullets(found.notes) if found.notes else "",
        ]
    )


def _chart(run: Shown, found: Comparison) -> Markup:
    line = next((series.front for (device, _), series in run.fronts.items() if device == found.device), ())
    if found.metric != run.run.metric:
        line = ()  # predicted by another metric
    metric = METRICS[found.metric]
    starts = {one.name.rpartition(":")[0] for one in found.fixed}  # such as "timm" or "nets.py"
    start = f"{starts.pop()}:" if len(starts) == 1 and "" not in starts else ""
    ours, fixed = ([_point(one, found.metric, start) for one in side] for side in (found.ours, found.fixed))
    name = f"Ours and fixed networks: {metric} against latency on {found.device}"
    told = f"Test {metric} in percent against latency in ms; the line is predicted for held-out images. The table has all numbers."
    series = FrontSeries("", [], line, chosen=ours, fixed=fixed)
    chart = front_chart([series], MS, Axis(metric, "%", 100), name=name, description=told)
    header = ["network", "what", "latency", *(f"test {METRICS[name]}" for name in _metrics(found)), "MACs", "parameters"]
    rows = [_row(one, _metrics(found)) for one in sorted((*found.fixed, *found.ours), key=lambda one: one.ms)]
    return Markup(html.figure(f"{name} ({found.hardware})", chart, html.table(name, header, rows, 2)))


def _metrics(found: Comparison) -> list[str]:
    """The metrics to show: the one that decides, and top-1."""
    return list(dict.fromkeys((found.metric, "top1")))


def _point(one: Rival, metric: str, start: str) -> Point:
    """The network's place; its name without what those of all fixed networks start with."""
    return Point(one.name.removeprefix(start), one.ms, one.score(metric), (one.ms_low, one.ms_high), one.between)


def _row(one: Rival, metrics: Sequence[str]) -> list[Cell]:
    what: Cell = f"ours, {in_pixels(one.resolution)}"
    if not one.ours:
        trained = "" if one.seconds is None else f"{one.epochs:.3g} epochs in {duration(one.seconds)}, from {one.weights}"
        what = f"fixed, {in_pixels(one.resolution)}", trained
    latency = timed(one.ms, one.ms_low, one.ms_high)
    return [
        one.name,
        what,
        latency,
        counted(one.score(metrics[0]), one.between, one.images),
        *(percent(one.score(metric)) for metric in metrics[1:]),
        amount(one.macs),
        amount(one.params),
    ]


def _verdict(one: Verdict, test: dict[str, float]) -> list[Cell]:
    sides: list[Cell] = ["–" if name is None else (percent(test[name]), name) for name in (one.ours, one.fixed)]
    words = one.winner
    points: Cell = "–"
    if one.difference is not None and one.low is not None and one.high is not None:
        words += "" if one.certain or one.over else ", within chance"
        difference, low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in (one.difference, one.low, one.high))
        points = difference, f"{low} to {high}"
    words += ": ours took longer than the budget when timed again" if one.over else ""
    return [(str(one.budget), f"of {', '.join(one.of)}") if one.of else str(one.budget), words, *sides, points]
