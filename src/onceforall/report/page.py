"""The whole page: what it shows of each run, the headline numbers, and the sections in the order of a reader's questions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from ..common.files import reading_or_writing, writable, write_text
from ..common.readable import amount, duration, percent
from ..data import Problem
from ..errors import FileError
from ..pipeline.accuracies.predictor import load_predictor
from ..pipeline.comparison.versus import stored_comparison
from ..pipeline.fleet import fleet_misses
from ..pipeline.profile import latency_tables
from ..pipeline.run_directory.metrics import Metrics
from ..pipeline.run_directory.run import Run
from ..scores import METRICS
from .chosen import chosen, read_chosen
from .compared import compared
from .costs import about, costs, read_costs
from .fronts import fronts, predictor_doubts, read_fronts
from .html import PAGES
from .predictions import accuracy, latency, latency_points, read_checks
from .shown import Shown
from .subnets import read_subnets, subnets
from .training import last_top1, training_section

MOST_EXAMPLES = 3  # for each kind of problem
MOST_LISTED = 200  # problems of a run
SAME = "kept, but nearly the same as a training image"
DOUBTFUL = "of one class, with the pixels of an image of another"
MOST_RUNS = 6  # as many as colors and markers can distinguish
SECTIONS: dict[str, tuple[str, Callable[[Sequence[Shown]], Markup]]] = {
    "chosen": ("Chosen networks", chosen),
    "front": ("Accuracy against cost", fronts),
    "compared": ("Against fixed networks", compared),
    "subnets": ("Sub-networks across the space", subnets),
    "training": ("Training", training_section),
    "accuracy": ("Predicted and measured accuracy", accuracy),
    "latency": ("Predicted and measured latency", latency),
    "costs": ("What it took", costs),
    "run": ("The run", about),
}


def report(*folders: Path, out: Path | None = None, seed: int = 0) -> Path:
    """Write the report; sections without data name the command to run.

    Args:
        folders: the run directories, at most six.
        out: the HTML file; None for report.html in the run directory, or comparison.html in the first of several.

    Returns:
        The path of the page.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do. An older page is left unchanged.
    """
    places = [Path(folder) for folder in folders]
    if not 1 <= len(places) <= MOST_RUNS:
        raise FileError(f"{len(places)} run directories: give 1 to {MOST_RUNS}, so that one page can distinguish them")
    runs = [Run.open(place) for place in places]
    with reading_or_writing(places[0]):
        real = [place.resolve() for place in places]
    for place, count in Counter(real).items():
        if count > 1:
            raise FileError(f"{place}: given {count} times: give each run directory once")
    counts = Counter(place.name for place in real)
    names = [path.name if counts[path.name] == 1 else str(place) for path, place in zip(real, places, strict=True)]
    path = Path(out or runs[0].folder / ("report.html" if len(runs) == 1 else "comparison.html"))
    with reading_or_writing(path.parent):
        path.parent.stat()  # before the minutes that a page may take
    writable(path.parent)
    write_text(path, render([shown_of(run, name, seed) for run, name in zip(runs, names, strict=True)]))
    return path


def shown_of(run: Run, name: str, seed: int) -> Shown:
    """Read what the page shows of a run.

    Raises:
        OnceForAllError: a file is damaged.
    """
    schedule, tables = run.schedule, latency_tables(run)
    shown = Shown(run, name, schedule, Metrics.of(run.folder))
    if schedule is not None and run.info.data is not None and not (run.folder / "supernet.safetensors").exists():
        shown = replace(shown, resume=run.resume_command())
    listed = run.problems()
    kinds = _by_kind(listed)
    problems = [*kinds, *(f"{name}: {why}" for name, why in fleet_misses(run).items())]
    if (run.folder / "accuracy" / "predictor.safetensors").exists():
        predictor = load_predictor(run)
        imported = run.info.imported is not None and predictor.kind == "published"
        problems += predictor_doubts(run, predictor, seed)
        shown = replace(
            shown,
            predictor="the Once-for-All authors' predictor" if imported else None,
            fronts=read_fronts(run, predictor, list(tables.values()), seed),
        )
    return replace(
        shown,
        subnets=read_subnets(run),
        checks=read_checks(run),
        tables=[(table, latency_points(table, place)) for place, table in tables.items()],
        chosen=read_chosen(run, {str(table.device): table for table in tables.values()}),
        compared=stored_comparison(run),
        costs=read_costs(run, shown.training, shown.images_seen, tables),
        problems=problems,
        listed=[f"{problem.name}: {problem.reason}" for problem in listed] if len(kinds) < len(listed) else [],
    )


def _by_kind(problems: Sequence[Problem]) -> list[str]:
    """A line for each kind of problem: how many, and some examples."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(SAME if problem.alike else DOUBTFUL if problem.doubtful else problem.reason, []).append(problem)
    lines = []
    for kind, group in kinds.items():
        names = ", ".join(problem.name for problem in group[:MOST_EXAMPLES]) + (", …" if len(group) > MOST_EXAMPLES else "")
        several = f"{sum(problem.count for problem in group):,} × {kind}: {names}"
        lines.append(several if len(group) > 1 else f"{group[0].name}: {group[0].reason}")
    return lines


def render(runs: Sequence[Shown]) -> str:
    """The page as HTML text, for one run or for several with different names side by side."""
    alone = len(runs) == 1
    runs = [replace(run, place=place, alone=alone) for place, run in enumerate(runs)]
    numbers = [_headline(run) for run in runs]
    best = max(runs[0].chosen, key=lambda one: one.reported[1], default=None)
    if alone and best is not None:
        metric, value = best.reported
        numbers[0][f"test {metric} of {'the best network, ' if len(runs[0].chosen) > 1 else ''}{best.name}"] = percent(value)
    names = list(dict.fromkeys(name for of_run in numbers for name in of_run))
    data = {(run.data, run.run.info.classes, run.run.info.images.get("held-out")) for run in runs}
    return PAGES.get_template("page.html").render(
        runs=runs,
        title=str(runs[0].run.folder) if alone else ", ".join(run.name for run in runs),
        tiles=numbers[0],
        glance=[[name, *(of_run.get(name, "–") for of_run in numbers)] for name in names],
        different=len(data) > 1,
        problems=[run.label(problem) for run in runs for problem in run.problems],
        listed=[run.label(line) for run in runs for line in run.listed[:MOST_LISTED]],
        unlisted=sum(max(0, len(run.listed) - MOST_LISTED) for run in runs),
        sections=[(key, heading, section(runs)) for key, (heading, section) in SECTIONS.items()],
    )


def _headline(run: Shown) -> dict[str, str]:
    """Names and values of the headline numbers."""
    numbers = {"networks in the space": amount(run.run.space.count()), "classes": f"{run.run.num_classes:,}"}
    if run.training.seconds is not None:
        numbers["training time"] = duration(run.training.seconds)
    if run.images_seen is not None:
        numbers["images seen"] = amount(run.images_seen)
    if last := last_top1(run.training):
        span = percent(last[0]) if len(last) == 1 else f"{100 * min(last):.1f} – {percent(max(last))}"
        numbers[f"{METRICS[run.run.metric]} on held-out images, sub-networks of the last phase"] = span
    return numbers
