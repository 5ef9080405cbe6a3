"""`ofa report`: one self-contained HTML page about a run, or several side by side: no script, nothing loaded from elsewhere, for
print, dark mode and phones too. It reads what the commands of `onceforall.pipeline` left in the run directory."""

from collections import Counter
from pathlib import Path

from ..errors import FileError
from ..files import reading_or_writing, write_text

__all__ = ["report"]

MOST_RUNS = 6  # that colors and markers keep apart


def report(*folders: Path, out: Path | None = None, seed: int = 0) -> Path:
    """Write the page; sections whose command was not run yet say so.

    Args:
        folders: the run directories, up to six.
        out: the HTML file; None for report.html in the run directory, or comparison.html in the first of several.
        seed: of the random networks shown.

    Returns:
        The path of the page.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do. An older page is as it was.
    """
    from ..pipeline.run import Run  # here, since the pipeline hands this function out; and jinja2 loads with the page only
    from .page import render, shown_of

    places = [Path(folder) for folder in folders]
    if not 1 <= len(places) <= MOST_RUNS:
        raise FileError(f"{len(places)} run directories: give 1 to {MOST_RUNS}, so that they can be told apart on one page")
    runs = [Run.open(place) for place in places]
    with reading_or_writing(places[0]):
        real = [place.resolve() for place in places]
    for place, count in Counter(real).items():
        if count > 1:
            raise FileError(f"{place}: given {count} times: give each run directory once")
    short = Counter(place.name for place in real)
    names = [path.name if short[path.name] == 1 else str(place) for path, place in zip(real, places, strict=True)]
    path = out or runs[0].folder / ("report.html" if len(runs) == 1 else "comparison.html")
    write_text(path, render([shown_of(run, name, seed) for run, name in zip(runs, names, strict=True)]))
    return path
