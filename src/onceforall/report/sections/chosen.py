"""The networks that were written out: a table, and each drawn block by block."""

from collections.abc import Sequence
from html import escape

from ...readable import amount, memory, milliseconds, percent, wilson
from ..facts import BlockFacts, ChosenFacts, ReportFacts
from ..markup import empty, label, numbers, table

__all__ = ["chosen"]


def chosen(runs: Sequence[ReportFacts]) -> str:
    """Table and pictures of the networks that were written out."""
    lacking = "".join(
        empty(facts, label(runs, facts, "No network was specialised yet."), f"specialise {{run}} --latency {_middle(facts)}")
        for facts in runs
        if not facts.chosen
    )
    rows = [_row(runs, facts, one) for facts in runs for one in facts.chosen]
    if not rows:
        return lacking
    header = ["network", "asked for", "latency", "test top-1", "MACs", "parameters", "activations"]
    words = "Measured on the exported files: latency on the device, top-1 on test images that nothing was chosen with."
    drawn = "".join(_drawn(label(runs, facts, one.name), one) for facts in runs for one in facts.chosen)
    return f'<p class="soft">{words}</p>' + table("Chosen networks", header, rows, left=2) + drawn + lacking


def _middle(facts: ReportFacts) -> str:
    """A latency that is worth asking for: the middle of the first device's front."""
    costs = sorted(cost for front in facts.fronts[:1] if front.device is not None for cost, _ in front.front)
    return f"{costs[len(costs) // 2]:.2g}ms" if costs else "5ms"


def _row(runs: Sequence[ReportFacts], facts: ReportFacts, one: ChosenFacts) -> list[str]:
    low, high = wilson(one.top1, one.images)
    interval = f"{one.latency_low_ms:.3g}–{one.latency_high_ms:.3g}{_of_budget(one)}"
    return [
        f"{escape(label(runs, facts, one.name))}<small>{escape(one.device)}</small>",
        escape(one.limits),
        f"{milliseconds(one.latency_ms)}<small>{interval}</small>",
        f"{percent(one.top1)}<small>{100 * low:.1f} – {100 * high:.1f}, n = {one.images:,}</small>",
        amount(one.macs),
        amount(one.params),
        memory(one.peak_memory_bytes),
    ]


def _of_budget(one: ChosenFacts) -> str:
    return f", {100 * one.latency_ms / one.budget_ms:.0f} % of budget" if one.budget_ms else ""


def _drawn(name: str, one: ChosenFacts) -> str:
    pairs = [("latency", milliseconds(one.latency_ms)), ("test top-1", percent(one.top1))]
    if one.predicted_latency_ms is not None:
        pairs.append(("predicted latency", milliseconds(one.predicted_latency_ms)))
    if one.predicted_top1 is not None:
        pairs.append(("predicted held-out top-1", percent(one.predicted_top1)))
    return (
        f"<article><h3>{escape(name)}</h3>{numbers(pairs)}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Picture of {escape(name)}">{one.picture}</div>'
        f"{_blocks(name, one.blocks)}{_files(name, one)}"
        f'<p class="soft">in <code>{escape(one.folder)}</code></p></article>'
    )


def _blocks(name: str, blocks: Sequence[BlockFacts]) -> str:
    if not blocks:
        return ""
    rows = [
        [
            escape(block.name),
            "–" if block.kernel is None else f"{block.kernel}×{block.kernel}",
            "–" if block.ratio is None else f"{block.ratio:g}",
            f"{block.width:,}",
            "–" if block.resolution is None else f"{block.resolution}×{block.resolution}",
            amount(block.macs),
            percent(block.share),
        ]
        for block in blocks
    ]
    header = ["part", "kernel", "expand ratio", "channels out", "size out", "MACs", "share of latency"]
    return f"<details><summary>Block by block, in words</summary>{table(f'Blocks of {name}', header, rows)}</details>"


def _files(name: str, one: ChosenFacts) -> str:
    if not one.files:
        return ""
    rows = [[escape(file.format), percent(file.top1), "–" if file.latency is None else _timed(*file.latency)] for file in one.files]
    return table(f"Files of {name}", ["file", "test top-1 through it", "latency through it"], rows)


def _timed(ms: float, low: float, high: float) -> str:
    return f"{milliseconds(ms)}<small>{low:.3g}–{high:.3g}</small>"
