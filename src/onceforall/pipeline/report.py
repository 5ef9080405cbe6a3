"""`ofa report`: one self-contained page about a run, from what its directory holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import Arch
from ..files import read_json, read_lines, read_text
from ..latency import LatencyTable
from ..picture import draw
from ..readable import wilson
from ..report import (
    AccuracyFacts,
    Check,
    ChosenFacts,
    Curve,
    FrontFacts,
    LatencyFacts,
    PhaseFacts,
    ReportFacts,
    RunFacts,
    write_report,
)
from ..search import Objectives, pareto
from ..train import Schedule
from .predictor import checks, load_predictor
from .run import Run
from .search import Budget

__all__ = ["report"]

FRONT_EVALUATIONS = 150_000
CLOUD = 400  # random networks behind the front


def report(folder: Path, *, out: Path | None = None, seed: int = 0) -> Path:
    """Write the page; sections whose command was not run yet say so.

    Args:
        folder: the run directory.
        out: the HTML file, None for report.html in the run directory.
        seed: of the random networks shown.

    Returns:
        The path of the page.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    folder = run.folder
    records = read_lines(folder / "metrics.jsonl")
    path = out or folder / "report.html"
    planned = folder / "schedule.json"
    schedule = Schedule.from_json(read_text(planned)) if planned.exists() else None
    tables = [LatencyTable.load(file, run.space, run.num_classes) for file in sorted((folder / "latency").glob("*/table.json"))]
    facts = ReportFacts(
        run=_run_facts(run, records, schedule),
        phases=_phases(run, records, schedule),
        losses=[Curve("training", *_points([r for r in records if r["event"] == "train"], "loss"))],
        top1=_top1_curves(records),
        accuracy=_accuracy(run),
        latency=[_latency(table) for table in tables],
        fronts=_fronts(run, tables, seed),
        chosen=_chosen(run, tables),
        problems=[f"{p['name']} was left out: {p['reason']}" for p in read_lines(folder / "problems.jsonl")],
    )
    write_report(path, facts)
    return path


def _run_facts(run: Run, records: list[dict[str, Any]], schedule: Schedule | None) -> RunFacts:
    environment, data = run.info.environment, run.info.data
    arguments = ", ".join(f"{name}={_short(value)}" for name, value in run.info.space["arguments"].items())
    steps = max((r["step"] for r in records), default=0)
    seen = 0
    if schedule is not None:
        for step_count, phase in zip(_steps_done(schedule, steps), schedule.phases, strict=True):
            seen += step_count * phase.subnets * schedule.recipe.batch_size
    return RunFacts(
        folder=str(run.folder),
        command=str(environment["command"]),
        data=None if data is None else data.source,
        classes=run.info.classes,
        images=run.info.images,
        space=f"{run.space.family}({arguments})",
        networks=run.space.count(),
        seed=run.info.seed,
        hardware=f"{environment['processor']}, {environment['cores']} cores, {environment['threads']} threads",
        versions={"python": environment["python"], **environment["packages"]},
        seconds=max((r["seconds"] for r in records), default=None),
        images_seen=seen or None,
        weights=None if run.info.imported is None else str(run.info.imported),
        predictor=_unchecked(run),
        origin=None if run.info.origin is None else str(run.info.origin),
    )


def _unchecked(run: Run) -> str | None:
    """What predicts accuracy, if it was imported."""
    if run.info.imported is None or not (run.folder / "accuracy" / "predictor.safetensors").exists():
        return None
    return "the Once-for-All authors' predictor" if load_predictor(run).kind == "published" else None


def _steps_done(schedule: Schedule, steps: int) -> list[int]:
    """Steps done of each phase after so many steps in all."""
    done = []
    for phase in schedule.phases:
        done.append(min(steps, phase.steps))
        steps -= done[-1]
    return done


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
    return [r["step"] for r in records], [r[key] for r in records]


def _accuracy(run: Run) -> AccuracyFacts | None:
    errors, rows = checks(run)
    if not rows:
        return None
    predicted = load_predictor(run).predict([row.arch for row in rows])
    points = [
        Check(f"network {i + 1}", float(p), row.top1, *wilson(row.top1, row.images))
        for i, (row, p) in enumerate(zip(rows, predicted, strict=True))
    ]
    return AccuracyFacts(int(errors["fitted_on"]), int(errors["images"]), points, errors["rmse"], errors["kendall_tau"])


def _latency(table: LatencyTable) -> LatencyFacts:
    errors = table.errors
    points = [Check(f"network {i + 1}", p, m) for i, (p, m) in enumerate(zip(errors.predicted, errors.measured, strict=True))]
    method = f"{table.processor}, {table.device.runtime} {table.version}"
    return LatencyFacts(table.device.spec, method, points, errors.mape, errors.kendall_tau)


def _fronts(run: Run, tables: list[LatencyTable], seed: int) -> list[FrontFacts]:
    if not (run.folder / "accuracy" / "predictor.safetensors").exists():
        return []
    predictor = load_predictor(run)
    cloud = run.space.sample_genes(np.random.default_rng([seed, 8]), CLOUD)
    fronts = []
    for table in tables:
        objectives: Objectives = {"top1": (predictor.score, "max"), "latency_ms": (table.estimate, "min")}
        found = pareto(run.space, objectives, seed=seed, size=100, evaluations=FRONT_EVALUATIONS)
        random = zip(table.estimate(cloud).tolist(), predictor.predict(cloud).tolist(), strict=True)
        fronts.append(
            FrontFacts(table.device.spec, list(random), [(p.values["latency_ms"], p.values["top1"]) for p in found.points])
        )
    return fronts


def _chosen(run: Run, tables: list[LatencyTable]) -> list[ChosenFacts]:
    by_name = {str(table.device): table for table in tables}
    chosen = []
    for path in sorted((run.folder / "specialised").glob("*.json")):
        data = read_json(path)
        arch = Arch.from_json(data["arch"])
        plan = run.space.lower(arch, run.num_classes)
        table = by_name.get(data["device"])
        test, latency, budget = data["test"], data["latency"], data["budget"]
        chosen.append(
            ChosenFacts(
                name=path.stem,
                device=table.device.spec if table else data["device"],
                limits=str(Budget(**budget)),
                budget_ms=budget["latency_ms"],
                latency_ms=latency["ms"],
                latency_low_ms=latency["low"],
                latency_high_ms=latency["high"],
                predicted_latency_ms=data["predicted_ms"],
                top1=test["top1"],
                images=test["images"],
                predicted_top1=data["predicted_top1"],
                macs=plan.macs,
                params=plan.params,
                peak_memory_bytes=plan.peak_memory_bytes,
                picture=draw(plan, arch, shares=data["shares"], title=path.stem),
                folder=data["folder"],
            )
        )
    return sorted(chosen, key=lambda c: c.latency_ms)


def _short(value: Any) -> str:
    """A value as text; long sequences by their ends."""
    if not isinstance(value, list | tuple):
        return json.dumps(value)
    items = [f"{v:g}" for v in value]
    return "/".join(items) if len(items) <= 8 else f"{items[0]}…{items[-1]}"
