"""Pieces of HTML that the sections are made of: figures with their numbers in a table, rows of numbers, what is missing."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from ..advice import ofa
from .drawing import key_line
from .facts import ReportFacts

__all__ = ["columns", "empty", "figure", "label", "lacking", "named", "no_device", "numbers", "sign", "table"]


def empty(facts: ReportFacts, words: str, command: str, *, images: bool = True) -> str:
    """What is missing, and the command that finds it; `images` tells whether it needs some."""
    if images and facts.run.data is None:
        return f'<p class="empty">{escape(words)} It takes images, and this run was imported without.</p>'
    text = ofa(*(Path(facts.run.folder) if word == "{run}" else word for word in command.split()))
    return f'<p class="empty">{escape(words)} Do it with <code>{escape(text)}</code></p>'


def lacking(
    runs: Sequence[ReportFacts], lacks: Callable[[ReportFacts], bool], words: str, command: str, *, images: bool = True
) -> str:
    """`empty` for each of the runs that lacks something."""
    return "".join(empty(facts, label(runs, facts, words), command, images=images) for facts in runs if lacks(facts))


def no_device(runs: Sequence[ReportFacts], lacks: Callable[[ReportFacts], bool]) -> str:
    """The same for latency."""
    return lacking(runs, lacks, "No device was measured yet.", "profile {run}", images=False)


def figure(caption: str, chart: str, numbers: str = "") -> str:
    """A chart with its caption, and a table of its numbers to unfold."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    below = f"<details><summary>Numbers of this chart</summary>{numbers}</details>" if numbers else ""
    return f"<figure>{words}{chart}{below}</figure>"


def numbers(pairs: Sequence[tuple[str, str]]) -> str:
    """Names with values, in a row."""
    return '<p class="numbers">' + "".join(f"<span>{escape(n)} <b>{escape(v)}</b></span>" for n, v in pairs) + "</p>"


def table(name: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Cells are HTML, the header is text; the first `left` columns hold words. The name is for screen readers."""
    head = "".join(f'<th scope="col"{_aligned(i, left)}>{escape(text)}</th>' for i, text in enumerate(header))
    body = "".join("<tr>" + "".join(_cell(cell, i, left) for i, cell in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def columns(name: str, runs: Sequence[ReportFacts], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table with a column for each run; cells are HTML."""
    return table(name, ["", *(facts.run.name for facts in runs)], [[escape(title), *cells] for title, cells in rows])


def named(runs: Sequence[ReportFacts], index: int, body: str) -> str:
    """The body under the run's name, if there are several."""
    return body if len(runs) == 1 else f"<div><h3>{sign(index)} {escape(runs[index].run.name)}</h3>{body}</div>"


def label(runs: Sequence[ReportFacts], facts: ReportFacts, text: str) -> str:
    """The text, after the run's name if there are several."""
    return text if len(runs) == 1 else f"{facts.run.name}: {text}" if text else facts.run.name


def sign(index: int) -> str:
    """Line and marker of a run in the charts."""
    return f'<svg class="chart sign" viewBox="0 -11 24 14" width="24" height="14" aria-hidden="true">{key_line(index)}</svg>'


def _cell(cell: str, index: int, left: int) -> str:
    return f'<th scope="row">{cell}</th>' if index == 0 else f"<td{_aligned(index, left)}>{cell}</td>"


def _aligned(index: int, left: int) -> str:
    return ' class="left words"' if 0 < index < left else ""
