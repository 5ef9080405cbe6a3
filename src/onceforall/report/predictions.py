"""Predicted against measured accuracy and latency, for networks that were not used for fitting."""

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from ..accuracy.choose import NORMAL_90
from ..common.readable import kendall_text, milliseconds, percent, wilson
from ..latency import LatencyTable, checked_networks
from ..pipeline.accuracies.predictor import checks, load_predictor
from ..pipeline.run_directory.run import Run
from ..resolutions import in_pixels
from .charts import scatter_chart
from .drawing import Axis, Point
from .html import html
from .shown import Cell, PredictorChecks, Shown, as_file_error, no_device, score_axis

NOT_FITTED = "network not used for fitting"
EQUAL = "predicted = measured"


def read_checks(run: Run) -> PredictorChecks | None:
    """Accuracy predictions for the networks to check it on, with 90 % error bars, and measurements with 95 % intervals."""
    with as_file_error(run.folder / "accuracy" / "errors.json"):
        errors, rows = checks(run)
        if not rows:
            return None
        predictor = load_predictor(run)
        means, stds = predictor.predict_with_error([row.arch for row in rows])
        points = [
            Point(
                f"network {i}, {in_pixels(row.arch.resolution)}",
                mean,
                row.value,
                (max(0.0, mean - NORMAL_90 * std), min(1.0, mean + NORMAL_90 * std)),
                None if run.metric == "map" else wilson(row.value, row.images),
            )
            for i, (row, mean, std) in enumerate(zip(rows, means.tolist(), stds.tolist(), strict=True), 1)
        ]
        numbers = {name: float(errors[name]) for name in ("rmse", "kendall_tau", "coverage90")}
        counts = {name: int(errors[name]) for name in ("fitted_on", "images")}
        return PredictorChecks(predictor.kind, {**numbers, **counts, "ceiling": errors.get("ceiling")}, points)


def latency_points(table: LatencyTable, folder: Path) -> list[Point]:
    """The networks that a latency table was tested on, with intervals from the measurements in `folder`."""
    errors, known = table.errors, checked_networks(table, folder)
    named: list[tuple[str, tuple[float, float] | None]] = [(f"network {i + 1}", None) for i in range(errors.n)]
    if known is not None:
        named = [(f"network {i}, {in_pixels(arch.resolution)}", interval) for i, (arch, interval) in enumerate(known, 1)]
    return [
        Point(name, predicted, measured, None, interval)
        for (name, interval), predicted, measured in zip(named, errors.predicted, errors.measured, strict=True)
    ]


def accuracy(runs: Sequence[Shown]) -> Markup:
    """The accuracy predictors against measurements."""
    known = [(run, run.checks, _numbers(run.checks)) for run in runs if run.checks is not None]
    missing = Markup().join(_no_predictor(run) for run in runs if run.checks is None)
    if not known:
        return missing
    words = (
        "Horizontal bars: the predictor's calibrated error bars, which should cover 90 % of the measurements. Vertical bars, for "
        "shares of images: 95 % intervals; too wide for comparing networks, which saw the same images."
    )
    if len(runs) == 1:
        head = html.numbers(known[0][2].items())
    else:
        rows = [[name, *(numbers[name] for _, _, numbers in known)] for name in known[0][2]]
        head = html.columns("Accuracy predictors", [run for run, _, _ in known], rows)
    figures = [run.named(_accuracy_chart(checked, score_axis([run]).label)) for run, checked, _ in known]
    return Markup(head + html.soft(words) + html.pair(figures) + missing)


def _no_predictor(run: Shown) -> Markup:
    if run.predictor is None:
        return run.empty("No accuracy predictor was fitted yet.", "predict {run}")
    return run.empty(f"Accuracy is predicted by {run.predictor}, not checked on these images.", "predict {run}")


def _numbers(checked: PredictorChecks) -> dict[str, str]:
    errors = checked.errors
    return {
        "RMSE": f"{100 * errors['rmse']:.2f} points",
        "Kendall τ": kendall_text(errors["kendall_tau"], errors["ceiling"]),
        "90 % error bars cover": percent(errors["coverage90"], 0),
        "networks checked": f"{len(checked.points):,}",
        "networks used for fitting": f"{errors['fitted_on']:,}",
        "held-out images per network": f"{errors['images']:,}",
        "kind": checked.kind,
    }


def _accuracy_chart(checked: PredictorChecks, score: str) -> Markup:
    axes = Axis(f"predicted {score}", "%", 100), Axis(f"measured {score}", "%", 100)
    n, rmse, name = len(checked.points), f"{100 * checked.errors['rmse']:.2f}", f"predicted and measured {score}"
    description = f"{n} networks, root mean square error {rmse} points; all are in the table below."
    chart = scatter_chart([(NOT_FITTED, checked.points)], *axes, name=name, equal=EQUAL, description=description)
    numbers = _table(f"Checked networks: {score}", checked.points, percent)
    return Markup(html.figure("Networks that were not used for fitting", chart, numbers))


def latency(runs: Sequence[Shown]) -> Markup:
    """The latency tables against end-to-end measurements."""
    missing = no_device(runs, lambda run: not run.tables)
    figures = [run.named(_device(table, points)) for run in runs for table, points in run.tables]
    if not figures:
        return missing
    words = "Whole networks that the latency table was not fitted to. Gray lines: 95 % of them are in between."
    if any(point.y_interval for run in runs for _, points in run.tables for point in points):
        words += " Bars: 95 % intervals of the measurements, the widest if a network was loaded and timed several times."
    return Markup(html.soft(words) + html.pair(figures) + missing)


def _device(table: LatencyTable, points: Sequence[Point]) -> Markup:
    errors, device, within = table.errors, table.device.spec, table.errors.bound()
    mape, tau = errors.interval(lambda errors: errors.mape), errors.interval(lambda errors: errors.kendall_tau)
    numbers = {
        "mean error": f"{percent(errors.mape)} ({100 * mape[0]:.1f} to {percent(mape[1])})",
        "Kendall τ": f"{errors.kendall_tau:.3f} ({tau[0]:.3f} to {tau[1]:.3f})",
        "95 % within": f"± {percent(within)}",
        "networks checked": f"{len(points):,}",
    }
    axes = Axis("predicted latency", "ms"), Axis("measured latency", "ms")
    description = f"{len(points)} networks, mean error {percent(errors.mape)}; all are in the table below."
    chart = scatter_chart(
        [(NOT_FITTED, points)], *axes, name=f"latency on {device}", equal=EQUAL, band=within, description=description
    )
    figure = html.figure("", chart, _table(f"Latency of checked networks on {device}", points, milliseconds))
    return Markup(html.device(device, table.hardware, numbers.items(), figure))


def _table(name: str, points: Sequence[Point], shown: Callable[[float], str]) -> Markup:
    def ranged(value: float, interval: tuple[float, float] | None) -> Cell:
        return shown(value) if interval is None else (shown(value), f"{shown(interval[0])} to {shown(interval[1])}")

    rows: list[list[Cell]] = [
        [
            point.name,
            ranged(point.x, point.x_interval),
            ranged(point.y, point.y_interval),
            f"{100 * (point.x / point.y - 1):+.2f} %" if point.y else "–",
        ]
        for point in points
    ]
    return Markup(html.table(name, ["network", "predicted", "measured", "relative error"], rows))
