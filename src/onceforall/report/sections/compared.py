"""Networks of the runs against fixed ones that were fine-tuned alone: who wins within each budget, and what both cost."""

from collections.abc import Sequence
from html import escape

from ...readable import amount, duration, milliseconds, percent, wilson
from ..charts import Axis, FrontSeries, Point, front_chart
from ..facts import ComparedFacts, ReportFacts, RivalFacts, VerdictFacts
from ..markup import empty, figure, label, named, table

__all__ = ["compared"]


def compared(runs: Sequence[ReportFacts]) -> str:
    """For each run a chart of accuracy against latency, the verdicts, and the costs; runs without a comparison name the command."""
    parts = []
    for index, facts in enumerate(runs):
        if facts.compared is not None:
            parts.append(named(runs, index, _one(facts, facts.compared)))
        elif facts.run.weights is None:
            words = label(runs, facts, "No fixed network was fine-tuned to compare with yet.")
            parts.append(empty(facts, words, "compare {run} --with torchvision:mobilenet_v3_small.DEFAULT"))
        else:
            words = label(runs, facts, "Imported weights have no recipe to fine-tune fixed networks by.")
            parts.append(f'<p class="empty">{escape(words)}</p>')
    return "".join(parts)


def _one(facts: ReportFacts, found: ComparedFacts) -> str:
    words = (
        "Fixed networks, each fine-tuned alone with the images, splits and recipe of this run, against the networks that a "
        "search in this run finds within the same budget. Both sides were chosen by held-out images; top-1 is of the same test "
        "images, and the interval of a difference (95 %) is of their pairs. Latencies were timed in turns."
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    return (
        f'<p class="soft">{words}</p><p><b>{escape(found.summary)}.</b></p>{_chart(facts, found)}{_verdicts(found)}{_costs(found)}'
        + (f"<ul>{notes}</ul>" if notes else "")
    )


def _chart(facts: ReportFacts, found: ComparedFacts) -> str:
    front = next((front.front for front in facts.fronts if front.device == found.device), ())
    line = [(cost, 100 * top1) for cost, top1 in front]
    points = {ours: [_point(one) for one in found.rivals if one.ours == ours] for ours in (True, False)}
    series = FrontSeries("", [], line, chosen=points[True], fixed=points[False])
    name = f"Ours and fixed networks: top-1 against latency on {found.device}"
    told = (
        "Test top-1 in per cent over latency in ms; the line is predicted for held-out images. The table below holds all numbers."
    )
    chart = front_chart([series], Axis("latency", "ms"), Axis("top-1", "%"), name=name, description=told)
    header = ["network", "what", "latency", "test top-1", "MACs", "parameters"]
    rows = [_row(one) for one in sorted(found.rivals, key=lambda one: one.latency[0])]
    return figure(f"{name} ({found.hardware})", chart, table(name, header, rows, left=2))


def _point(one: RivalFacts) -> Point:
    ms, ms_low, ms_high = one.latency
    low, high = wilson(one.top1, one.images)
    return Point(one.name, ms, 100 * one.top1, (ms_low, ms_high), (100 * low, 100 * high))


def _row(one: RivalFacts) -> list[str]:
    ms, ms_low, ms_high = one.latency
    low, high = wilson(one.top1, one.images)
    return [
        escape(one.name),
        f"ours, {one.resolution} px" if one.ours else f"fixed, {one.resolution} px<small>{escape(one.training)}</small>",
        f"{milliseconds(ms)}<small>{ms_low:.3g}–{ms_high:.3g}</small>",
        f"{percent(one.top1)}<small>{100 * low:.1f} – {100 * high:.1f}, n = {one.images:,}</small>",
        amount(one.macs),
        amount(one.params),
    ]


def _verdicts(found: ComparedFacts) -> str:
    test = {one.name: one.top1 for one in found.rivals}
    rows = [_verdict(verdict, test) for verdict in found.verdicts]
    header = ["budget", "winner", "ours", "best fixed", "difference in points"]
    return table("Who wins within each budget", header, rows, left=2)


def _verdict(one: VerdictFacts, test: dict[str, float]) -> list[str]:
    of = f"<small>of {escape(', '.join(one.of))}</small>" if one.of else ""
    sides = ["–" if name is None else f"{percent(test[name])}<small>{escape(name)}</small>" for name in (one.ours, one.fixed)]
    points = "–"
    if one.difference is not None:
        by, low, high = (100 * value for value in one.difference)
        points = f"{by:+.1f}<small>{low:+.1f} to {high:+.1f}</small>"
    return [f"{escape(one.limits)}{of}", escape(one.winner), *sides, points]


def _costs(found: ComparedFacts) -> str:
    rows = [[f"{k:,}", duration(ours), duration(fixed)] for k, ours, fixed in found.costs]
    least = found.break_even
    words = (
        "Ours: training and accuracy data once, a profile and a search for each device. Fixed: one network fine-tuned for each, in "
        "the mean time of those here. "
    )
    words += "Ours never takes less." if least is None else f"Ours takes no longer from {least:,} on."
    costs = table("Time for several devices", ["devices, each with a budget of its own", "ours", "fixed"], rows)
    return f'{costs}<p class="soft">{words}</p>'
