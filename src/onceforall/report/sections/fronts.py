"""What accuracy costs: one chart for each device, and one for MACs, which are the same everywhere."""

from collections.abc import Sequence
from html import escape

from ...readable import amount, milliseconds, percent, wilson
from ..charts import Axis, FrontSeries, Mark, Point, front_chart
from ..facts import ChosenFacts, FrontFacts, ReportFacts, Spot
from ..markup import figure, label, lacking, no_device, table

__all__ = ["fronts"]

TOP1 = Axis("top-1", "%")
MEGA = 1e6
KINDS = {
    "measured": "found and measured on held-out images",
    "elsewhere": "published for another device, here predicted",
    "published": "as published",
}

Key = tuple[str | None, str]  # device and hardware


def fronts(runs: Sequence[ReportFacts]) -> str:
    """Per device: random networks, the front, the chosen networks as measured, and what others published."""
    missing = lacking(runs, lambda facts: not facts.fronts, "Latency and accuracy cannot be predicted yet.", "predict {run}")
    keys: list[Key] = list(dict.fromkeys((front.device, front.hardware) for facts in runs for front in facts.fronts))
    if not keys:
        return missing
    missing += no_device(runs, lambda facts: bool(facts.fronts) and not facts.latency)
    keys.sort(key=lambda key: key[0] is None)
    return _words(runs) + f'<div class="pair">{"".join(_chart(runs, key) for key in keys)}</div>' + missing


def _words(runs: Sequence[ReportFacts]) -> str:
    words = "Dots: random networks of the space. The line: the best that the search found at each cost. Both predicted "
    others = list(dict.fromkeys(facts.run.predictor for facts in runs if facts.run.predictor is not None))
    words += "for held-out images." if not others else f"by {escape(', '.join(others))}, not for the images of this run."
    words += " Diamonds: the chosen networks as measured on test images."
    if any(front.elsewhere for facts in runs for front in facts.fronts):
        words += (
            " Triangles: kernels, ratios and depths that the Once-for-All authors published for other devices, with widths and a "
            "resolution of this space and the weights of this run, predicted like the rest."
        )
    if any(front.published for facts in runs for front in facts.fronts):
        words += " Squares: top-1 on ImageNet as published, from other trainings."
        if others:
            words += (
                " The authors' predictor was fitted to images held out of ImageNet's training images, on which accuracies are "
                "higher, so what it predicts does not compare with the squares."
            )
    else:
        words += " Published accuracies are not shown: they are of ImageNet, and no run here is."
    return f'<p class="soft">{words}</p>'


def _chart(runs: Sequence[ReportFacts], key: Key) -> str:
    device, hardware = key
    scale, axis = (1 / MEGA, Axis("MACs", "M")) if device is None else (1.0, Axis("latency", "ms"))
    series, rows, budgets = list[FrontSeries](), list[list[str]](), set[float]()
    for facts in runs:
        own = next((front for front in facts.fronts if (front.device, front.hardware) == key), None)
        if own is None:  # holds its colour
            series.append(FrontSeries(facts.run.name))
            continue
        here = [one for one in facts.chosen if device is None or one.device == device]
        budgets |= {one.budget_ms for one in here if one.budget_ms is not None and device is not None}
        series.append(_series("" if len(runs) == 1 else facts.run.name, own, here, scale))
        rows += _rows(runs, facts, own, here)
    name = "Top-1 against MACs" if device is None else f"Top-1 against latency on {device}"
    marks = [Mark(f"{budget:g} ms", budget) for budget in sorted(budgets)]
    told = f"Predicted top-1 in per cent over {axis.title}; the table below holds every named network and the fronts."
    chart = front_chart(series, axis, TOP1, name=name, marks=marks, description=told)
    header = ["network", "what", "MACs" if device is None else "latency", "top-1"]
    return figure(name + (f" ({hardware})" if hardware else ""), chart, table(name, header, rows, left=2))


def _series(name: str, front: FrontFacts, here: Sequence[ChosenFacts], scale: float) -> FrontSeries:
    random, best = ([(scale * cost, 100 * top1) for cost, top1 in pairs] for pairs in (front.random, front.front))
    measured, elsewhere, published = (
        [Point(_told(spot), scale * spot.cost, 100 * spot.top1) for spot in spots]
        for spots in (front.measured, front.elsewhere, front.published)
    )
    chosen = [_chosen(one, front.device is None) for one in here]
    return FrontSeries(name, random, best, measured, elsewhere, published, chosen)


def _told(spot: Spot) -> str:
    return f"{spot.name} ({spot.note})" if spot.note else spot.name


def _chosen(one: ChosenFacts, by_macs: bool) -> Point:
    low, high = wilson(one.top1, one.images)
    if by_macs:
        return Point(one.name, one.macs / MEGA, 100 * one.top1, None, (100 * low, 100 * high))
    interval = (one.latency_low_ms, one.latency_high_ms)
    return Point(one.name, one.latency_ms, 100 * one.top1, interval, (100 * low, 100 * high))


def _rows(runs: Sequence[ReportFacts], facts: ReportFacts, front: FrontFacts, here: Sequence[ChosenFacts]) -> list[list[str]]:
    by_macs = front.device is None
    unit = amount if by_macs else milliseconds
    rows = [
        [escape(label(runs, facts, one.name)), "chosen", unit(one.macs if by_macs else one.latency_ms), percent(one.top1)]
        for one in here
    ]
    for kind, spots in (("measured", front.measured), ("elsewhere", front.elsewhere), ("published", front.published)):
        rows += [
            [escape(label(runs, facts, _told(spot))), KINDS[kind], unit(spot.cost), percent(spot.top1)]
            for spot in sorted(spots, key=lambda spot: spot.cost)
        ]
    rows += [[escape(label(runs, facts, "front")), "predicted", unit(c), percent(t)] for c, t in sorted(front.front)]
    return rows
