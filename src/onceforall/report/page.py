"""The page as a whole: head, headline numbers, and the sections in the order of a reader's questions."""

from html import escape
from pathlib import Path

from ..files import write_text
from ..readable import amount, duration, percent
from .facts import ReportFacts, RunFacts
from .sections import SECTIONS
from .style import STYLE

__all__ = ["render", "write_report"]

# Nothing is loaded and no script runs, even if a text got through unescaped.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the page.

    Raises:
        FileError: the file cannot be written; an older report is as it was.
    """
    write_text(path, render(facts))


def render(facts: ReportFacts) -> str:
    """The page as HTML text."""
    run = facts.run
    sections = [(key, title, body(facts)) for key, (title, body) in SECTIONS.items()]
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(run.folder)} – once for all</title>",
        f"<style>{STYLE}</style></head><body><main>",
        f'<header><h1>{escape(run.folder)}</h1><p class="soft">{escape(run.space)}{_on(run)}</p></header>',
        _tiles(facts),
        _problems(facts),
        f"<nav>{links}</nav>",
        *(f'<section id="{key}"><h2>{escape(title)}</h2>{body}</section>' for key, title, body in sections),
        "<footer>Hover or tap a mark for its numbers. Intervals are 95 %. The page is one file and works offline.</footer>",
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _on(run: RunFacts) -> str:
    return "" if run.data is None else f" on {escape(run.data)}"


def _tiles(facts: ReportFacts) -> str:
    run = facts.run
    tiles = [(amount(run.networks), "networks in the space"), (f"{len(run.classes):,}", "classes")]
    if run.seconds is not None:
        tiles.append((duration(run.seconds), "of training"))
    if run.images_seen is not None:
        tiles.append((amount(run.images_seen), "images seen"))
    last = [curve.values[-1] for curve in facts.top1 if curve.values]
    if last:
        span = percent(last[0]) if len(last) == 1 else f"{100 * min(last):.1f} – {percent(max(last))}"
        tiles.append((span, "top-1 on held-out images, sub-networks of the last phase"))
    if facts.chosen:
        slowest = max(facts.chosen, key=lambda one: one.latency_ms)  # not the best on test images, which choose nothing
        tiles.append((percent(slowest.top1), f"test top-1 of {slowest.name}"))
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>' for value, label in tiles)
    return f'<div class="tiles">{cells}</div>'


def _problems(facts: ReportFacts) -> str:
    if not facts.problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in facts.problems)
    return f'<section class="problems" id="problems"><h2>Problems</h2><ul>{items}</ul></section>'
