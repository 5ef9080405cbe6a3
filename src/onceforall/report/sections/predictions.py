"""Predicted against measured, of networks that nothing was fitted to: accuracy, and latency of each device."""

from collections.abc import Callable, Sequence
from html import escape

from ...readable import milliseconds, percent
from ..charts import Axis, Group, Point, scatter_chart
from ..facts import AccuracyFacts, Check, LatencyFacts, ReportFacts
from ..markup import columns, empty, figure, label, named, no_device, numbers, table

__all__ = ["accuracy", "latency"]

FITTED = "network not used for fitting"
EQUAL = "predicted = measured"


def accuracy(runs: Sequence[ReportFacts]) -> str:
    """The accuracy predictors against measurements."""
    known = [(index, facts, facts.accuracy) for index, facts in enumerate(runs) if facts.accuracy is not None]
    lacking = "".join(_no_predictor(runs, facts) for facts in runs if facts.accuracy is None)
    if not known:
        return lacking
    words = (
        "Horizontal bars: the predictor's calibrated error bars, which should hold 90 % of the measurements. Vertical bars: 95 % "
        "intervals of shares counted on so many images; they overstate differences between networks, which saw the same images."
    )
    rows = [_accuracy_numbers(found) for _, _, found in known]
    figures = [named(runs, index, _accuracy_chart(found)) for index, _, found in known]
    head = numbers(rows[0]) if len(runs) == 1 else _side_by_side("Accuracy predictors", [facts for _, facts, _ in known], rows)
    return head + f'<p class="soft">{words}</p><div class="pair">{"".join(figures)}</div>' + lacking


def _no_predictor(runs: Sequence[ReportFacts], facts: ReportFacts) -> str:
    if facts.run.predictor is not None:
        words = f"Accuracy is predicted by {facts.run.predictor}, not checked on these images."
    else:
        words = "No accuracy predictor was fitted yet."
    return empty(facts, label(runs, facts, words), "predict {run}")


def _accuracy_numbers(found: AccuracyFacts) -> list[tuple[str, str]]:
    ceiling = "" if found.ceiling is None else f" (a perfect one would reach about {found.ceiling:.2f}: measurements are noisy)"
    return [
        ("RMSE", f"{100 * found.rmse:.2f} points"),
        ("Kendall τ", f"{found.kendall_tau:.3f}{ceiling}"),
        ("90 % error bars hold", percent(found.coverage90, 0)),
        ("networks checked", f"{len(found.checks):,}"),
        ("networks fitted on", f"{found.fitted_on:,}"),
        ("held-out images each", f"{found.images:,}"),
        ("kind", found.kind),
    ]


def _accuracy_chart(found: AccuracyFacts) -> str:
    points = [_point(check, 100) for check in found.checks]
    axes = Axis("predicted top-1", "%"), Axis("measured top-1", "%")
    told = f"{len(points)} networks, root mean square error {100 * found.rmse:.2f} points; all are in the table below."
    chart = scatter_chart([Group(FITTED, points)], *axes, name="predicted and measured top-1", equal=EQUAL, description=told)
    return figure("Networks that were not used for fitting", chart, _checks("Top-1 of checked networks", found.checks, percent))


def latency(runs: Sequence[ReportFacts]) -> str:
    """The latency tables against end-to-end measurements."""
    missing = no_device(runs, lambda facts: not facts.latency)
    figures = [named(runs, index, _device(device)) for index, facts in enumerate(runs) for device in facts.latency]
    if not figures:
        return missing
    words = "Whole networks that the latency table was not made from. Grey lines: what the error of 95 % of them keeps."
    if any(check.interval for facts in runs for device in facts.latency for check in device.checks):
        words += " Bars: 95 % intervals of the measurements, the widest of the times that each network was loaded and timed."
    return f'<p class="soft">{words}</p><div class="pair">{"".join(figures)}</div>' + missing


def _device(device: LatencyFacts) -> str:
    found = numbers(
        [
            ("mean error", _interval(device.mape, percent)),
            ("Kendall τ", _interval(device.kendall_tau, "{:.3f}".format)),
            ("95 % within", f"± {percent(device.within95)}"),
            ("networks checked", f"{len(device.checks):,}"),
        ]
    )
    axes = Axis("predicted latency", "ms"), Axis("measured latency", "ms")
    points = [_point(check, 1) for check in device.checks]
    told = f"{len(points)} networks, mean error {percent(device.mape[0])}; all are in the table below."
    chart = scatter_chart(
        [Group(FITTED, points)], *axes, name=f"latency on {device.device}", equal=EQUAL, band=device.within95, description=told
    )
    body = figure("", chart, _checks(f"Latency of checked networks on {device.device}", device.checks, milliseconds))
    return f'<div><h3>{escape(device.device)}</h3><p class="soft">{escape(device.method)}</p>{found}{body}</div>'


def _interval(values: tuple[float, float, float], shown: Callable[[float], str]) -> str:
    value, low, high = map(shown, values)
    return f"{value} ({low.removesuffix(' %')} to {high})"


def _side_by_side(name: str, runs: Sequence[ReportFacts], found: Sequence[Sequence[tuple[str, str]]]) -> str:
    names = [pair[0] for pair in found[0]]
    return columns(name, runs, [(title, [escape(own[i][1]) for own in found]) for i, title in enumerate(names)])


def _point(check: Check, scale: float) -> Point:
    across, up = (
        None if pair is None else (scale * pair[0], scale * pair[1]) for pair in (check.predicted_interval, check.interval)
    )
    return Point(check.name, scale * check.predicted, scale * check.measured, across, up)


def _checks(name: str, checks: Sequence[Check], shown: Callable[[float], str]) -> str:
    def ranged(value: float, interval: tuple[float, float] | None) -> str:
        return shown(value) + ("" if interval is None else f"<small>{shown(interval[0])} to {shown(interval[1])}</small>")

    rows = [
        [
            escape(check.name),
            ranged(check.predicted, check.predicted_interval),
            ranged(check.measured, check.interval),
            f"{100 * (check.predicted / check.measured - 1):+.2f} %" if check.measured else "–",
        ]
        for check in checks
    ]
    return table(name, ["network", "predicted", "measured", "off by, of the measured"], rows)
