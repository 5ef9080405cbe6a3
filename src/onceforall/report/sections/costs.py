"""What the runs took, and what is needed to repeat them."""

from collections.abc import Sequence
from html import escape

from ...readable import duration
from ..facts import ReportFacts
from ..markup import columns

__all__ = ["about", "costs"]

SHOWN_CLASSES = 12


def costs(runs: Sequence[ReportFacts]) -> str:
    """Time and work of every stage, in columns."""
    names = list(dict.fromkeys(cost.name for facts in runs for cost in facts.costs))
    rows = []
    for name in names:
        found = [next((cost for cost in facts.costs if cost.name == name), None) for facts in runs]
        cells = ["–" if c is None else f"{duration(c.seconds)}<small>{escape(c.work)}</small>" for c in found]
        rows.append((name, cells))
    if not rows:
        return '<p class="empty">Nothing was trained or measured yet.</p>'
    rows.append(("energy of the training", [_energy(facts.run.joules) for facts in runs]))
    words = (
        "Training and accuracy data are paid once; another device takes a profile and searches only, another budget a search. "
        "Energy of one call of an exported file: <code>ofa measure</code>, where the processor counts it."
    )
    return columns("What it took", runs, rows) + f'<p class="soft">{words}</p>'


def _energy(joules: float | None) -> str:
    if joules is None:
        return "–<small>not counted: the processor has no counters, or not for this user</small>"
    return f"{joules / 3600:,.3g} Wh<small>of the processor, with whatever else ran on it</small>"


def about(runs: Sequence[ReportFacts]) -> str:
    """What is needed to repeat the runs."""
    described = [_described(facts) for facts in runs]
    if len(runs) == 1:
        return "<dl>" + "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in described[0].items()) + "</dl>"
    names = list(dict.fromkeys(name for own in described for name in own))
    rows = [(name, [f'<div class="words">{own.get(name, "–")}</div>' for own in described]) for name in names]
    return columns("The runs", runs, rows)


def _described(facts: ReportFacts) -> dict[str, str]:
    own = facts.run
    names = list(own.classes[:SHOWN_CLASSES])
    images = ", ".join(f"{n:,} {escape(split)} images" for split, n in own.images.items())
    more = f" and {len(own.classes) - SHOWN_CLASSES:,} more" if len(own.classes) > SHOWN_CLASSES else ""
    rows = {
        "folder": f"<code>{escape(own.folder)}</code>",
        "command": f"<code>{escape(own.command)}</code>",
        "data": "no images" if own.data is None else f"{escape(own.data)}: {images}",
        "classes": escape(", ".join(names)) + more,
        "space": f"{escape(own.space)}, {own.networks:,} networks",
        "seed": f"{own.seed}",
        "hardware": escape(own.hardware),
        "versions": escape(", ".join(f"{name} {version}" for name, version in own.versions.items())),
    }
    if own.weights is not None:
        return {**rows, "weights": escape(own.weights)}
    if own.origin is not None:
        rows["started from"] = escape(own.origin)
    seen = f"{own.images_seen:,}" if own.images_seen is not None else "–"
    return {**rows, "training": duration(own.seconds), "images seen": seen}
