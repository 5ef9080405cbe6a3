"""The page as a whole: head, headline numbers, and the sections in the order of a reader's questions."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..files import write_text
from ..readable import amount, duration, percent
from .facts import ReportFacts, RunFacts
from .markup import columns, label, sign
from .sections import SECTIONS
from .style import STYLE

__all__ = ["render", "write_report"]

# Nothing is loaded and no script runs, even if a text got through unescaped.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

FOOTER = (
    "<footer>Hover or tap a mark for its numbers; the same numbers are in the tables below the charts. Intervals are 95 % where "
    "nothing else is said. The page is one file and works offline.</footer>"
)


def write_report(path: Path, runs: Sequence[ReportFacts]) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        runs: one, or several with different names, to be shown side by side.

    Raises:
        FileError: the file cannot be written; an older report is as it was.
    """
    write_text(path, render(runs))


def render(runs: Sequence[ReportFacts]) -> str:
    """The page as HTML text."""
    sections = [(key, title, body(runs)) for key, (title, body) in SECTIONS.items()]
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections)
    names = ", ".join(facts.run.name for facts in runs) if len(runs) > 1 else runs[0].run.folder
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(names)} – once for all</title>",
        f"<style>{STYLE}</style></head><body><main>",
        _head(runs, names),
        _tiles(runs[0]) if len(runs) == 1 else _side_by_side(runs),
        _problems(runs),
        f'<nav aria-label="Sections">{links}</nav>',
        *(
            f'<section id="{key}" aria-label="{escape(title)}"><h2>{escape(title)}</h2>{body}</section>'
            for key, title, body in sections
        ),
        FOOTER,
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _head(runs: Sequence[ReportFacts], names: str) -> str:
    if len(runs) == 1:
        run = runs[0].run
        return f'<header><h1>{escape(names)}</h1><p class="soft">{escape(run.space)}{_on(run)}</p></header>'
    signs = "".join(
        f"<li>{sign(index)} <b>{escape(facts.run.name)}</b> {escape(facts.run.space)}{_on(facts.run)}</li>"
        for index, facts in enumerate(runs)
    )
    different = len({(facts.run.data, tuple(facts.run.classes), facts.run.images.get("held-out")) for facts in runs}) > 1
    note = "<p><b>The runs have different images: their accuracies do not compare.</b></p>" if different else ""
    return f'<header><h1>{escape(names)}</h1><ul class="runs">{signs}</ul>{note}</header>'


def _on(run: RunFacts) -> str:
    return "" if run.data is None else f" on {escape(run.data)}"


def _headline(facts: ReportFacts) -> dict[str, str]:
    """Names and values of what most readers want first."""
    run = facts.run
    found = {"networks in the space": amount(run.networks), "classes": f"{len(run.classes):,}"}
    if run.seconds is not None:
        found["training time"] = duration(run.seconds)
    if run.images_seen is not None:
        found["images seen"] = amount(run.images_seen)
    last = [curve.values[-1] for curve in facts.top1 if curve.values]
    if last:
        span = percent(last[0]) if len(last) == 1 else f"{100 * min(last):.1f} – {percent(max(last))}"
        found["top-1 on held-out images, sub-networks of the last phase"] = span
    return found


def _tiles(facts: ReportFacts) -> str:
    tiles = _headline(facts)
    if facts.chosen:
        best = max(facts.chosen, key=lambda one: one.top1)
        whole = f"test top-1 of the best network, {best.name}" if len(facts.chosen) > 1 else f"test top-1 of {best.name}"
        tiles[whole] = percent(best.top1)
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles.items())
    return f'<div class="tiles">{cells}</div>'


def _side_by_side(runs: Sequence[ReportFacts]) -> str:
    found = [_headline(facts) for facts in runs]
    names = list(dict.fromkeys(name for own in found for name in own))
    rows = [(name, [escape(own.get(name, "–")) for own in found]) for name in names]
    return f'<section aria-label="At a glance"><h2>At a glance</h2>{columns("At a glance", runs, rows)}</section>'


def _problems(runs: Sequence[ReportFacts]) -> str:
    items = "".join(f"<li>{escape(label(runs, facts, problem))}</li>" for facts in runs for problem in facts.problems)
    if not items:
        return ""
    return f'<section class="problems" id="problems" aria-label="Problems"><h2>Problems</h2><ul>{items}</ul></section>'
