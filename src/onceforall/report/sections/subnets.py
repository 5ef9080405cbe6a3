"""How accurate sub-networks are across the space, as measured: by MACs, resolution and depth."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from html import escape

from ...readable import amount, percent
from ..charts import Axis, Group, Point, scatter_chart
from ..facts import ReportFacts, Subnet
from ..markup import figure, label, lacking, table
from ..spread import quartiles, spread_chart

__all__ = ["subnets"]

TOP1 = Axis("top-1", "%")
BANDS = 5  # of MACs, in the table


def subnets(runs: Sequence[ReportFacts]) -> str:
    """Charts of the accuracy data."""
    missing = lacking(runs, lambda facts: not facts.subnets, "No sub-networks were measured yet.", "predict {run}")
    if not any(facts.subnets for facts in runs):
        return missing
    counts = " ".join(
        escape(label(runs, facts, f"{len(facts.subnets):,} sub-networks, top-1 {percent(low)} to {percent(high)}."))
        for facts in runs
        if facts.subnets
        for low, high in [_ends(facts.subnets)]
    )
    words = f'<p class="soft">Measured on held-out images after BatchNorm was recalibrated for each. {counts}</p>'
    figures = [
        _by_macs(runs),
        _by(runs, "Measured top-1 by resolution", Axis("resolution", "pixels"), lambda one: one.resolution),
        _by(runs, "Measured top-1 by depth", Axis("depth", "blocks"), lambda one: one.depth),
    ]
    return words + f'<div class="pair">{"".join(figures)}</div>' + missing


def _ends(measured: Sequence[Subnet]) -> tuple[float, float]:
    top1 = [one.top1 for one in measured]
    return min(top1), max(top1)


def _by_macs(runs: Sequence[ReportFacts]) -> str:
    """Of one run with a marker for each resolution, of several with one for each run."""
    groups = []
    if len(runs) == 1:
        for resolution in _thinned(sorted({one.resolution for one in runs[0].subnets})):
            members = [one for one in runs[0].subnets if one.resolution in resolution]
            ends = f"{resolution[0]} px" if len(resolution) == 1 else f"{resolution[0]}–{resolution[-1]} px"
            groups.append(Group(ends, [_point(one) for one in members]))
    else:
        groups = [Group(facts.run.name, [_point(one) for one in facts.subnets]) for facts in runs]
    name = "Measured top-1 by MACs"
    told = "Each point is a measured sub-network; the table below sums them up by fifths of MACs."
    chart = scatter_chart(groups, Axis("MACs", "M"), TOP1, name=name, description=told)
    rows = []
    for facts in runs:
        ordered = sorted(facts.subnets, key=lambda one: one.macs)
        for i in range(BANDS):
            part = ordered[i * len(ordered) // BANDS : (i + 1) * len(ordered) // BANDS]
            if part:
                between = f"{amount(part[0].macs)} to {amount(part[-1].macs)}"
                rows.append([escape(label(runs, facts, between)), *_summary(part)])
    return figure(name, chart, table(name, ["MACs", *HEADER], rows))


HEADER = ("networks", "lowest", "lower quartile", "median", "upper quartile", "highest")


def _by(runs: Sequence[ReportFacts], name: str, axis: Axis, key: Callable[[Subnet], int]) -> str:
    series, rows = [], []
    for facts in runs:
        classes = defaultdict[float, list[Subnet]](list)
        for one in facts.subnets:
            classes[key(one)].append(one)
        top1 = {value: [100 * one.top1 for one in members] for value, members in classes.items()}
        series.append(("" if len(runs) == 1 else facts.run.name, top1))
        rows += [[escape(label(runs, facts, f"{value:g}")), *_summary(members)] for value, members in sorted(classes.items())]
    chart = spread_chart(
        series, axis, TOP1, name=name, description=f"Measured top-1 by {axis.title}; the table below has the quartiles."
    )
    return figure(name, chart, table(name, [axis.title, *HEADER], rows))


def _summary(members: Sequence[Subnet]) -> list[str]:
    return [f"{len(members):,}", *(percent(value) for value in quartiles([one.top1 for one in members]))]


def _point(one: Subnet) -> Point:
    return Point(f"{one.resolution} px, {one.depth} blocks", one.macs / 1e6, 100 * one.top1)


def _thinned(resolutions: Sequence[int]) -> list[Sequence[int]]:
    """Up to five groups of neighbours."""
    n = min(5, len(resolutions))
    return [resolutions[i * len(resolutions) // n : (i + 1) * len(resolutions) // n] for i in range(n)]
