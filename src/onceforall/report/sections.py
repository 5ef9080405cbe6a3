"""The sections of the page. Each takes the facts and gives HTML; without its data it names the command that finds it."""

from collections.abc import Callable, Sequence
from html import escape
from shlex import quote

from ..readable import amount, duration, memory, milliseconds, percent, wilson
from .charts import Axis, Mark, Point, Series, front_chart, line_chart, scatter_chart
from .facts import Check, ChosenFacts, FrontFacts, ReportFacts

__all__ = ["SECTIONS"]

TOP1 = Axis("top-1", "%")
STEP = Axis("training step")


def chosen(facts: ReportFacts) -> str:
    """Table and pictures of the networks that were written out."""
    if not facts.chosen:
        return _empty(facts, "No network was specialised yet.", "specialise {run} --latency 5ms --export onnx")
    header = ["network", "asked for", "latency", "test top-1", "MACs", "parameters", "activations"]
    rows = []
    for one in facts.chosen:
        low, high = wilson(one.top1, one.images)
        interval = f"{one.latency_low_ms:.3g}–{one.latency_high_ms:.3g}{_of_budget(one)}"
        rows.append(
            [
                f"{escape(one.name)}<small>{escape(one.device)}</small>",
                escape(one.limits),
                f"{milliseconds(one.latency_ms)}<small>{interval}</small>",
                f"{percent(one.top1)}<small>{100 * low:.1f} – {100 * high:.1f}, n = {one.images:,}</small>",
                amount(one.macs),
                amount(one.params),
                memory(one.peak_memory_bytes),
            ]
        )
    words = "Measured on the exported files: latency on the device, top-1 on test images that nothing was chosen with."
    return f'<p class="soft">{words}</p>' + _table(header, rows, left=2) + "".join(_drawn(one) for one in facts.chosen)


def fronts(facts: ReportFacts) -> str:
    """Per device: random networks, the front, and the chosen networks as measured."""
    if not facts.fronts:
        return _empty(facts, "Latency and accuracy cannot be predicted yet.", "predict {run}")
    words = "Grey: random networks of the space. The line: the best that the search found at each latency. Both predicted "
    other = facts.run.predictor
    words += "for held-out images." if other is None else f"by {escape(other)}, not for the images of this run."
    figures = [_figure(f"Latency and top-1 on {front.device}", _front(facts, front), wide=True) for front in facts.fronts]
    return f'<p class="soft">{words} Diamonds: the chosen networks as measured.</p>' + "".join(figures)


def training(facts: ReportFacts) -> str:
    """Curves over the whole schedule, and the schedule."""
    if not facts.phases and facts.run.weights is not None:
        return f'<p class="soft">Nothing was trained in this run. The weights were imported: {escape(facts.run.weights)}.</p>'
    if not facts.phases:
        return _empty(facts, "Nothing was trained yet.", "train DATA --out {run}")
    marks = [Mark(phase.name, phase.first_step) for phase in facts.phases]
    top1 = [Series(curve.name, curve.steps, [100 * v for v in curve.values]) for curve in facts.top1]
    losses = [Series(curve.name, curve.steps, curve.values) for curve in facts.losses]
    figures = _figure(
        "Held-out top-1 of each phase's largest, smallest, and one random sub-network",
        line_chart(top1, STEP, TOP1, name="top-1 curves", marks=marks),
    )
    loss = Axis("training loss", "nats")
    figures += _figure("Training loss by phase", line_chart(losses, STEP, loss, name="training loss", marks=marks))
    rows = [
        [
            escape(phase.name), escape(phase.choices), f"{phase.epochs:g}", f"{phase.steps:,}", f"{phase.learning_rate:.3g}",
            f"{phase.networks_per_step}", duration(phase.seconds),
        ]
        for phase in facts.phases
    ]  # fmt: skip
    header = ["phase", "choices", "epochs", "steps", "peak learning rate", "networks a step", "time"]
    return f'<div class="pair">{figures}</div>' + _table(header, rows, left=2)


def accuracy(facts: ReportFacts) -> str:
    """The accuracy predictor against measurements."""
    found = facts.accuracy
    if found is None and facts.run.predictor is not None:
        return _empty(facts, f"Accuracy is predicted by {facts.run.predictor}, not checked on these images.", "predict {run}")
    if found is None:
        return _empty(facts, "No accuracy predictor was fitted yet.", "predict {run}")
    numbers = _numbers(
        [
            ("RMSE", f"{100 * found.rmse:.2f} points"),
            ("Kendall τ", f"{found.kendall_tau:.3f}"),
            ("networks checked", f"{len(found.checks):,}"),
            ("networks fitted on", f"{found.fitted_on:,}"),
            ("held-out images each", f"{found.images:,}"),
        ]
    )
    axes = Axis("predicted top-1", "%"), Axis("measured top-1", "%")
    chart = scatter_chart([_point(check, 100) for check in found.checks], *axes, name="predicted and measured top-1")
    return numbers + _figure("Networks that were not used for fitting", chart, wide=True)


def latency(facts: ReportFacts) -> str:
    """The latency tables against end-to-end measurements."""
    if not facts.latency:
        return _empty(facts, "No device was measured yet.", "profile {run}", images=False)
    parts = []
    for device in facts.latency:
        numbers = _numbers(
            [
                ("mean error", percent(device.mape)),
                ("Kendall τ", f"{device.kendall_tau:.3f}"),
                ("networks checked", f"{len(device.checks):,}"),
            ]
        )
        axes = Axis("predicted latency", "ms"), Axis("measured latency", "ms")
        chart = scatter_chart([_point(check, 1) for check in device.checks], *axes, name=f"latency on {device.device}")
        parts.append(
            f'<div><h3>{escape(device.device)}</h3><p class="soft">{escape(device.method)}</p>{numbers}{_figure("", chart)}</div>'
        )
    return f'<div class="pair">{"".join(parts)}</div>'


def run(facts: ReportFacts) -> str:
    """What is needed to repeat the run."""
    own = facts.run
    names = list(own.classes[:12])
    images = ", ".join(f"{n:,} {escape(split)} images" for split, n in own.images.items())
    more = f" and {len(own.classes) - 12:,} more" if len(own.classes) > 12 else ""
    rows = [
        ("command", f"<code>{escape(own.command)}</code>"),
        ("data", "no images" if own.data is None else f"{escape(own.data)}: {images}"),
        ("classes", escape(", ".join(names)) + more),
        ("space", f"{escape(own.space)}, {own.networks:,} networks"),
        ("seed", f"{own.seed}"),
        ("hardware", escape(own.hardware)),
        ("versions", escape(", ".join(f"{name} {version}" for name, version in own.versions.items()))),
    ]
    if own.weights is not None:
        rows.append(("weights", escape(own.weights)))
    else:
        if own.origin is not None:
            rows.append(("started from", escape(own.origin)))
        rows.append(("training", duration(own.seconds)))
        rows.append(("images seen", f"{own.images_seen:,}" if own.images_seen is not None else "–"))
    return "<dl>" + "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in rows) + "</dl>"


SECTIONS: dict[str, tuple[str, Callable[[ReportFacts], str]]] = {
    "chosen": ("Chosen networks", chosen),
    "front": ("Accuracy against latency", fronts),
    "training": ("Training", training),
    "accuracy": ("Predicted and measured accuracy", accuracy),
    "latency": ("Predicted and measured latency", latency),
    "run": ("The run", run),
}


def _drawn(one: ChosenFacts) -> str:
    numbers = [("latency", milliseconds(one.latency_ms)), ("test top-1", percent(one.top1))]
    if one.predicted_latency_ms is not None:
        numbers.append(("predicted latency", milliseconds(one.predicted_latency_ms)))
    if one.predicted_top1 is not None:
        numbers.append(("predicted held-out top-1", percent(one.predicted_top1)))
    return (
        f"<article><h3>{escape(one.name)}</h3>{_numbers(numbers)}"
        f'<div class="scroll">{one.picture}</div><p class="soft">in <code>{escape(one.folder)}</code></p></article>'
    )


def _front(facts: ReportFacts, front: FrontFacts) -> str:
    here = [one for one in facts.chosen if one.device == front.device]
    points = []
    for one in here:
        low, high = wilson(one.top1, one.images)
        interval = (one.latency_low_ms, one.latency_high_ms)
        points.append(Point(one.name, one.latency_ms, 100 * one.top1, interval, (100 * low, 100 * high)))
    marks = [Mark(f"{budget:g} ms", budget) for budget in sorted({one.budget_ms for one in here if one.budget_ms is not None})]
    random, best = ([(ms, 100 * top1) for ms, top1 in pairs] for pairs in (front.random, front.front))
    return front_chart(random, best, points, Axis("latency", "ms"), TOP1, name=f"Pareto front on {front.device}", marks=marks)


def _point(check: Check, scale: float) -> Point:
    interval = None if check.low is None or check.high is None else (scale * check.low, scale * check.high)
    return Point(check.name, scale * check.predicted, scale * check.measured, None, interval)


def _of_budget(one: ChosenFacts) -> str:
    return f", {100 * one.latency_ms / one.budget_ms:.0f} % of budget" if one.budget_ms else ""


def _empty(facts: ReportFacts, words: str, command: str, *, images: bool = True) -> str:
    """What is missing, and the command that finds it; `images` tells whether it needs some."""
    if images and facts.run.data is None:
        return f'<p class="empty">{escape(words)} It takes images, and this run was imported without.</p>'
    text = "ofa " + command.format(run=quote(facts.run.folder))
    return f'<p class="empty">{escape(words)} Do it with <code>{escape(text)}</code></p>'


def _figure(caption: str, chart: str, *, wide: bool = False) -> str:
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure{" class=wide" if wide else ""}>{words}<div class="scroll">{chart}</div></figure>'


def _numbers(pairs: Sequence[tuple[str, str]]) -> str:
    return '<p class="numbers">' + "".join(f"<span>{escape(n)} <b>{escape(v)}</b></span>" for n, v in pairs) + "</p>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Cells are HTML; the first `left` columns hold words."""
    head = "".join(f"<th{_aligned(i, left)}>{escape(name)}</th>" for i, name in enumerate(header))
    body = "".join("<tr>" + "".join(f"<td{_aligned(i, left)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _aligned(index: int, left: int) -> str:
    return ' class="left words"' if 0 < index < left else ""
