"""Time and work of the runs, and how to repeat them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..common.files import read_lines
from ..common.readable import duration, plural
from ..latency import LatencyTable
from ..pipeline.accuracies.predictor import measured_rows
from ..pipeline.run_directory.metrics import Metrics
from ..pipeline.run_directory.run import Run
from .html import html
from .shown import Cell, Shown, as_file_error, short

SHOWN_CLASSES = 12
Cost = tuple[float | None, str]  # wall time, if known, and the work done


def read_costs(run: Run, training: Metrics, seen: int | None, tables: Mapping[Path, LatencyTable]) -> dict[str, Cost]:
    """Time and work of each stage. `seen`: images that passed through a network during training."""
    stages: dict[str, Cost] = {}
    if training.seconds is not None:
        images = "" if seen is None else f", {seen:,} images through a sub-network"
        stages["training"] = training.seconds, f"{training.step:,} steps{images}"
    if rows := measured_rows(run):
        work = f"{len(rows):,} sub-networks, {sum(row.images for row in rows):,} images in all, shared prefixes computed once"
        stages["accuracy data"] = sum(row.seconds for row in rows), work
    for place, table in tables.items():
        with as_file_error(place / "measurements.jsonl"):
            timings = [r for r in read_lines(place / "measurements.jsonl") if "repeats" in r]
            seconds = sum(float(r["ms"]) * int(r["repeats"]) for r in timings) / 1000
        if timings:
            stages[f"profile of {table.device.spec}"] = seconds, f"{len(timings):,} timings, only the timed calls counted"
    if finalists := read_lines(run.folder / "searches.jsonl"):
        stages["searches"] = None, f"{len(finalists):,} finalists measured; times are not recorded"
    if opened := read_lines(run.folder / "test_openings.jsonl"):
        stages["test images"] = None, f"opened {len(opened):,} times, for final numbers"
    return stages


def costs(runs: Sequence[Shown]) -> Markup:
    """Time and work of every stage, in columns."""
    names = list(dict.fromkeys(name for run in runs for name in run.costs))
    if not names:
        return Markup(html.empty("Nothing was trained or measured yet."))
    rows: list[list[Cell]] = []
    for name in names:
        cells = [run.costs.get(name) for run in runs]
        rows.append([name, *("–" if cell is None else (duration(cell[0]), cell[1]) for cell in cells)])
    rows.append(["energy of the training", *(_energy(run.training.joules) for run in runs)])
    words = (
        "Training and accuracy data are paid for once; another device needs only a profile and searches, another budget only a "
        "search. For the energy of one call of an exported file: {}, where the processor counts it."
    )
    return Markup(html.columns("What it took", runs, rows) + html.soft(Markup(words).format(html.code("ofa measure"))))


def _energy(joules: float | None) -> Cell:
    if joules is None:
        return "–", "not counted: the processor has no counters, or this user may not read them"
    return f"{joules / 3600:,.3g} Wh", "of the processor, including other programs"


def about(runs: Sequence[Shown]) -> Markup:
    """What is needed to repeat the runs."""
    described = [_described(run) for run in runs]
    if len(runs) == 1:
        return Markup(html.definitions(described[0]))
    names = list(dict.fromkeys(name for texts in described for name in texts))
    rows = [[name, *(html.words(texts.get(name, "–")) for texts in described)] for name in names]
    return Markup(html.columns("The runs", runs, rows))


def _described(shown: Shown) -> dict[str, str]:
    run, info = shown.run, shown.run.info
    more = f" and {run.num_classes - SHOWN_CLASSES:,} more" if run.num_classes > SHOWN_CLASSES else ""
    versions = {"python": info.environment["python"], **info.environment["packages"]}
    images = ", ".join(f"{n:,} {split} images" for split, n in info.images.items())
    machine = info.environment
    rows = {
        "folder": html.code(run.folder),
        "command": html.code(info.environment["command"]),
        "data": "no images" if info.data is None else f"{info.data.source}: {images}",
        **({"images": info.data.how.words} if info.data is not None and info.data.how.words else {}),
        "classes": ", ".join(info.classes[:SHOWN_CLASSES]) + more,
        "space": f"{shown.space}, {run.space.count():,} networks",
        "seed": f"{info.seed}",
        "hardware": ", ".join((machine["processor"], plural(machine["cores"], "core"), plural(machine["threads"], "thread"))),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    if info.source is not None:
        return {**rows, "weights": info.source}
    if recipe := info.arguments.get("recipe"):
        rows["recipe"] = ", ".join(f"{name}={_value(value)}" for name, value in recipe.items())
    if info.start is not None:
        rows["started from"] = info.start
    seen = "–" if shown.images_seen is None else f"{shown.images_seen:,}"
    return {**rows, "training": duration(shown.training.seconds), "images seen": seen}


def _value(value: Any) -> str:
    """The value in the form that `--recipe` takes."""
    return ("no", "yes")[value] if isinstance(value, bool) else value if isinstance(value, str) else short(value)
