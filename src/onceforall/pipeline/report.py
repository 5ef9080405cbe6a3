"""`ofa report`: one self-contained page about a run, or several side by side, from what their directories hold."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..advice import ofa
from ..errors import FileError, TrainingError
from ..files import read_lines, read_text, reading_or_writing
from ..report import Curve, PhaseFacts, ReportFacts, RunFacts, write_report
from ..train import Schedule
from .predictor import load_predictor
from .profile import latency_tables
from .report_compared import compared_facts
from .report_parts import accuracy_facts, chosen_facts, cost_facts, front_facts, latency_facts, predictor_doubts, subnets, whole
from .run import Run

__all__ = ["report"]

MOST_RUNS = 6  # that colours and markers keep apart


def report(*folders: Path, out: Path | None = None, seed: int = 0) -> Path:
    """Write the page; sections whose command was not run yet say so.

    Args:
        folders: the run directories, up to six.
        out: the HTML file; None for report.html in the run directory, or comparison.html in the first of several.
        seed: of the random networks shown.

    Returns:
        The path of the page.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
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
    write_report(path, [_facts(run, name, seed) for run, name in zip(runs, names, strict=True)])
    return path


def _facts(run: Run, name: str, seed: int) -> ReportFacts:
    folder = run.folder
    schedule = _schedule(folder / "schedule.json")
    with whole(folder / "metrics.jsonl"):
        records = read_lines(folder / "metrics.jsonl")
        training = [r for r in records if r["event"] == "train"]
        about, phases, top1 = _run_facts(run, name, records, schedule), _phases(run, records, schedule), _top1_curves(records)
        losses, rates = (Curve("training", *_points(training, key)) for key in ("loss", "rate"))
    tables = latency_tables(run)
    measured, chosen = subnets(run), chosen_facts(run, list(tables.values()))
    with whole(folder / "problems.jsonl"):
        problems = [f"{p['name']}: {p['reason']}" for p in read_lines(folder / "problems.jsonl")]
    return ReportFacts(
        run=about,
        phases=phases,
        losses=[losses],
        rates=[rates],
        top1=top1,
        subnets=measured,
        accuracy=accuracy_facts(run),
        latency=[latency_facts(table, place) for place, table in tables.items()],
        fronts=front_facts(run, list(tables.values()), seed),
        chosen=chosen,
        compared=compared_facts(run),
        costs=cost_facts(run, about, tables),
        problems=problems + predictor_doubts(run, seed),
    )


def _schedule(path: Path) -> Schedule | None:
    if not path.exists():
        return None
    try:
        return Schedule.from_json(read_text(path))
    except TrainingError as error:
        raise FileError(f"{path}: {error}: see {ofa('status', path.parent)}") from None


def _run_facts(run: Run, name: str, records: list[dict[str, Any]], schedule: Schedule | None) -> RunFacts:
    environment, data = run.info.environment, run.info.data
    arguments = ", ".join(f"{key}={_short(value)}" for key, value in run.info.space["arguments"].items() if key != "graph")
    steps = max((int(r["step"]) for r in records), default=0)
    seen, resume = 0, None
    if schedule is not None:
        for step_count, phase in zip(schedule.steps_done(steps), schedule.phases, strict=True):
            seen += step_count * phase.subnets * schedule.recipe.batch_size
        if data is not None and not (run.folder / "supernet.safetensors").exists():
            resume = run.resume_command()
    return RunFacts(
        folder=str(run.folder),
        name=name,
        command=str(environment["command"]),
        data=None if data is None else data.source,
        classes=run.info.classes,
        images=run.info.images,
        space=f"{run.family}({arguments})",
        networks=run.space.count(),
        seed=run.info.seed,
        hardware=f"{environment['processor']}, {environment['cores']} cores, {environment['threads']} threads",
        versions={"python": environment["python"], **environment["packages"]},
        steps=steps,
        seconds=max((float(r["seconds"]) for r in records), default=None),
        images_seen=seen or None,
        joules=max((float(r["joules"]) for r in records if "joules" in r), default=None),
        resume=resume,
        weights=run.info.source,
        predictor=_unchecked(run),
        origin=run.info.start,
    )


def _unchecked(run: Run) -> str | None:
    """What predicts accuracy, if it was imported."""
    if run.info.imported is None or not (run.folder / "accuracy" / "predictor.safetensors").exists():
        return None
    return "the Once-for-All authors' predictor" if load_predictor(run).kind == "published" else None


def _phases(run: Run, records: list[dict[str, Any]], schedule: Schedule | None) -> list[PhaseFacts]:
    if schedule is None:
        return []
    per_epoch = max(1, run.info.images["train"] // schedule.recipe.batch_size)
    first, phases = 0, []
    for phase in schedule.phases:
        times = [r["seconds"] for r in records if r["phase"] == phase.name]
        kept = run.space.keep_largest(**phase.keep)
        stage = kept.stages[-1]
        choices = f"depth {_short(stage.depths)}, kernel {_short(stage.kernels)}, expand ratio {_short(stage.expand_ratios)}"
        phases.append(
            PhaseFacts(
                name=phase.name,
                choices=choices,
                first_step=first,
                steps=phase.steps,
                epochs=phase.steps / per_epoch,
                learning_rate=phase.rate,
                networks_per_step=phase.subnets,
                seconds=times[-1] - times[0] if len(times) > 1 else None,
            )
        )
        first += phase.steps
    return phases


def _top1_curves(records: list[dict[str, Any]]) -> list[Curve]:
    validations = [r for r in records if r["event"] == "validation"]
    names = dict.fromkeys(r["subnet"] for r in validations)
    return [Curve(f"{name} of the phase", *_points([r for r in validations if r["subnet"] == name], "top1")) for name in names]


def _points(records: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    return [float(r["step"]) for r in records], [float(r[key]) for r in records]


def _short(value: Any) -> str:
    """A value as text; long sequences by their ends."""
    if not isinstance(value, list | tuple):
        return json.dumps(value)
    items = [f"{v:g}" for v in value]
    return "/".join(items) if len(items) <= 8 else f"{items[0]}…{items[-1]}"
