"""Measured accuracy of sub-networks across the space: by MACs, resolution and depth."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from markupsafe import Markup

from ..accuracy import AccuracyRow
from ..common.readable import amount, percent
from ..costs import macs_table, segment_table
from ..pipeline.accuracies.predictor import measured_rows
from ..pipeline.run_directory.run import Run
from ..resolutions import Resolution, ascending, in_pixels, side_of
from .charts import scatter_chart
from .drawing import MACS, Axis, Point
from .html import html
from .shown import Shown, lacking, score_axis
from .spread import quartiles, spread_chart

BANDS = 5  # ranges of MACs in the table
HEADER = ("networks", "lowest", "lower quartile", "median", "upper quartile", "highest")


def read_subnets(run: Run) -> list[tuple[AccuracyRow, int]]:
    """The accuracy data, with MACs."""
    rows = measured_rows(run)
    if not rows:
        return []
    macs = macs_table(segment_table(run.space, run.num_classes)).estimate([row.arch for row in rows])
    return list(zip(rows, map(int, macs.tolist()), strict=True))


def subnets(runs: Sequence[Shown]) -> Markup:
    """Charts of the accuracy data."""
    missing = lacking(runs, lambda run: not run.subnets, "No sub-networks were measured yet.", "predict {run}")
    measured = [(run, [row.value for row, _ in run.subnets]) for run in runs if run.subnets]
    if not measured:
        return missing
    label = score_axis(runs).label
    counts = (f"{len(top1):,} sub-networks, {label} {percent(min(top1))} to {percent(max(top1))}." for _, top1 in measured)
    words = " ".join(run.label(text) for (run, _), text in zip(measured, counts, strict=True))
    figures = [
        _by_macs(runs),
        _by(runs, f"Measured {label} by resolution", Axis("resolution", "pixels"), _side, _pixels),
        _by(runs, f"Measured {label} by depth", Axis("depth", "blocks"), _depth),
    ]
    soft = html.soft(f"Measured on held-out images, each with recalibrated BatchNorm. {words}")
    return Markup(soft + html.pair(figures) + missing)


def _depth(row: AccuracyRow) -> int:
    return sum(row.arch.depths)


def _side(row: AccuracyRow) -> float:
    return side_of(row.arch.resolution)


def _pixels(row: AccuracyRow) -> str:
    return in_pixels(row.arch.resolution, "")


def _by_macs(runs: Sequence[Shown]) -> Markup:
    """Accuracy against MACs, with a marker for each resolution of a single run, or for each of several runs."""

    def points(run: Shown, among: Sequence[Resolution] | None = None) -> list[Point]:
        return [
            Point(f"{in_pixels(row.arch.resolution)}, {_depth(row)} blocks", macs, row.value)
            for row, macs in run.subnets
            if among is None or row.arch.resolution in among
        ]

    groups = [(run.name, points(run)) for run in runs]
    if len(runs) == 1:
        some = _thinned(ascending({row.arch.resolution for row, _ in runs[0].subnets}))
        ends = ["–".join(in_pixels(one, "") for one in dict.fromkeys((group[0], group[-1]))) for group in some]
        groups = [(f"{text} px", points(runs[0], group)) for text, group in zip(ends, some, strict=True)]
    score = score_axis(runs)
    name = f"Measured {score.label} by MACs"
    description = "Each point is a measured sub-network; the table below summarizes them by fifths of MACs."
    chart = scatter_chart(groups, MACS, score, name=name, description=description)
    rows = []
    for run in runs:
        ordered = sorted(run.subnets, key=lambda pair: pair[1])
        for i in range(BANDS):
            if part := ordered[i * len(ordered) // BANDS : (i + 1) * len(ordered) // BANDS]:
                between = f"{amount(part[0][1])} to {amount(part[-1][1])}"
                rows.append([run.label(between), *_summary([row.value for row, _ in part])])
    return Markup(html.figure(name, chart, html.table(name, ["MACs", *HEADER], rows)))


def _by(
    runs: Sequence[Shown],
    name: str,
    axis: Axis,
    key: Callable[[AccuracyRow], float],
    text: Callable[[AccuracyRow], str] = lambda row: str(_depth(row)),
) -> Markup:
    """Accuracy by `key`, the position on the axis, which is shown as `text`."""
    series, rows, texts = [], [], defaultdict[float, set[str]](set)

    def shown(value: float) -> str:
        return ", ".join(sorted(texts[value]))

    for run in runs:
        classes = defaultdict[float, list[float]](list)
        for row, _ in run.subnets:
            classes[key(row)].append(row.value)
            texts[key(row)].add(text(row))
        series.append(("" if run.alone else run.name, classes))
        rows += [[run.label(shown(value)), *_summary(top1)] for value, top1 in sorted(classes.items())]
    score = score_axis(runs)
    description = f"Measured {score.label} by {axis.title}; the table below has the quartiles."
    chart = spread_chart(series, axis, score, name=name, description=description, text=shown)
    return Markup(html.figure(name, chart, html.table(name, [axis.title, *HEADER], rows)))


def _summary(top1: Sequence[float]) -> list[str]:
    return [f"{len(top1):,}", *map(percent, quartiles(top1))]


def _thinned(resolutions: Sequence[Resolution]) -> list[Sequence[Resolution]]:
    """At most five groups of neighboring resolutions."""
    n = min(5, len(resolutions))
    return [resolutions[i * len(resolutions) // n : (i + 1) * len(resolutions) // n] for i in range(n)]
