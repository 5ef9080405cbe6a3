"""JSON values for the page about networks, the run and its training."""

import hashlib
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..arch import Arch
from ..common.advice import ofa
from ..common.files import busy, read_lines
from ..common.readable import amount
from ..errors import OnceForAllError
from ..export import FORMATS
from ..picture import STYLE, draw
from ..pipeline import Run, status
from ..pipeline.accuracies.predictor import checks
from ..pipeline.specialising.export_inputs import latency_shares
from ..report.charts import Mark, line_chart
from ..report.drawing import Axis, Series
from ..scores import METRICS
from ..train import Remaining, Schedule, work_per_step
from .engine import LATENCY, Engine, Models
from .pool import NetworkPool
from .quick import Standing

LABELS = {"macs": "MACs", "params": "Parameters", "memory_bytes": "Activation memory"}
MOST_POINTS = 160  # most points of a drawn front
COLORS = 4  # colors of the page, --c0 to --c3
RECENT = 400  # training records from which speed is estimated


def network(models: Models, arch: Arch, device: str) -> dict[str, Any]:
    """One network with all its numbers and its picture; shares of latency are for the device."""
    space = models.run.space
    pool = models.pool(space.genes([arch]))
    plan, table = space.lower(arch, models.run.num_classes), models.tables.get(device)
    text, top1, std = arch.to_json(), float(pool.top1[0]), float(pool.std[0])
    picture = draw(plan, arch, shares=None if table is None else latency_shares(table, arch))
    return {
        "id": hashlib.sha256(text.encode()).hexdigest()[:8],
        "generation": models.generation,
        "arch": text,
        "resolution": arch.resolution,
        "depths": list(arch.depths),
        "blocks": sum(arch.depths),
        "top1": top1,
        "std": std,
        "low": max(0.0, top1 - std),
        "high": min(1.0, top1 + std),
        "costs": {name: float(values[0]) for name, values in pool.costs.items()},
        "svg": picture.replace(f"<style>{STYLE}</style>", ""),
    }


def front_json(pool: NetworkPool, cloud: NetworkPool, name: str) -> dict[str, Any]:
    """Front and random networks for the chart of accuracy against one cost."""
    rows = pool.front(name)
    if len(rows) > MOST_POINTS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_POINTS).round().astype(int)]
    return {
        "front": np.stack([pool.costs[name][rows], pool.top1[rows]], 1).tolist(),
        "cloud": np.stack([cloud.costs[name], cloud.top1], 1).tolist(),
    }


def facts(engine: Engine) -> dict[str, Any]:
    """The run: its data and space, the possible limits, what is missing, and the commands that make it."""
    run, now = engine.run, engine.now()
    found = status(run.folder)
    result: dict[str, Any] = {
        "name": run.folder.absolute().name,
        "data": None if run.info.data is None else run.info.data.source,
        "space": f"{run.family}, {amount(run.space.count())} networks",
        "score": METRICS[run.metric],
        "parts": [{"name": p.name, "state": p.state, "text": p.text, "command": p.command} for p in found.parts],
        "next": list(found.next),
        "problem": engine.problem,
        "at": "",
        "standing": "",
        "finished": run.finished,
        "formats": [
            {
                "name": name,
                "int8": format.int8,
                "missing": [need for need in format.runtime.needs if find_spec(need) is None],
                "extra": format.runtime.extra,
            }
            for name, format in FORMATS.items()
        ],
        "ready": False,
        **progress(engine),
    }
    if now is None:
        return result
    models, pool, _ = now
    result["generation"] = models.generation  # newer models may exist by now
    errors, rows = checks(run) if models.standing is None else ({}, [])
    result["predictor"] = {"kind": models.predictor.kind, "rmse": errors["rmse"] if rows else None, "n": len(rows)}
    if models.standing is not None:
        result |= {"at": models.standing.where, "standing": _standing(run, models.standing)}
    result["axes"] = [
        {
            "name": name,
            "label": LABELS.get(name, "Latency"),
            "device": name.removeprefix(LATENCY) if name.startswith(LATENCY) else None,
            "low": float(values.min()),
            "high": float(values.max()),
        }
        for name, values in pool.costs.items()
    ]
    result["devices"] = [
        {"spec": spec, "processor": table.processor, "off90": table.errors.bound(0.9), "n": table.errors.n}
        for spec, table in models.tables.items()
    ]
    result["ready"] = True
    return result


def _standing(run: Run, standing: Standing) -> str:
    """What the numbers of a quick look are based on, and how to improve them."""
    basis = f"{standing.subnets} sub-networks, measured on {standing.images:,} held-out images"
    if standing.final:
        return f"A quick look: accuracies are predicted from {basis}. To measure more: {ofa('predict', run.folder)}"
    steps = ""
    with suppress(OnceForAllError):
        steps = "" if (schedule := run.schedule) is None else f" of {schedule.steps:,}"
    now = "Training has finished since" if run.finished else "Training is running" if busy(run.folder) else "Training has stopped"
    return f"{now}: all accuracies here are for the weights at step {standing.step:,}{steps}, predicted from {basis}"


def progress(engine: Engine) -> dict[str, Any]:
    """Number of networks considered, and two counters: of changes, and of reloaded models."""
    return {name: getattr(engine, name) for name in ("considered", "filling", "version", "generation")}


def training(run: Run) -> dict[str, Any]:
    """Training progress as JSON values: curves, phases, time left."""
    records = read_lines(run.folder / "metrics.jsonl")
    curves = {"loss": _curves(records, "train", "loss"), "top1": _curves(records, "validation", "score", "top1")}
    phases = [{"name": r["phase"], "step": r["step"]} for r in records if r["event"] == "phase"]
    step, seconds = (max((r[key] for r in records), default=0) for key in ("step", "seconds"))
    finished, schedule = run.finished, None
    with suppress(OnceForAllError):  # none yet, or damaged
        schedule = run.schedule
    return {
        "state": "imported" if run.info.imported else "done" if finished else "going on" if busy(run.folder) else "stopped",
        "step": step,
        "steps": schedule.steps if schedule else None,
        "seconds": seconds,
        "remaining_s": None if finished or schedule is None else _remaining(run, schedule, records),
        "phases": phases,
        "last": {name: [[series.name, series.ys[-1]] for series in found] for name, found in curves.items()},
        "charts": {name: _chart(name, found, phases, METRICS[run.metric]) for name, found in curves.items()},
    }


def _curves(records: list[dict[str, Any]], event: str, key: str, otherwise: str = "") -> list[Series]:
    """A line for each validated sub-network, or one line for training. `otherwise`: the key to use if a record lacks `key`."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record["event"] == event:
            lines.setdefault(record.get("subnet", "training"), []).append(record)
    return [
        Series(name, [r["step"] for r in line], [r[key if key in r else otherwise] for r in line], i % COLORS, i % COLORS)
        for i, (name, line) in enumerate(lines.items())
    ]


def _chart(name: str, curves: list[Series], phases: list[dict[str, Any]], score: str) -> str:
    axis = Axis(score, "%", 100) if name == "top1" else Axis(name)
    marks = [Mark(phase["name"], phase["step"]) for phase in phases[1:]]
    text = str(line_chart(curves, Axis("step"), axis, name=f"{axis.label} over steps", marks=marks))
    return text.replace(' style="stroke-width:1.3"', "")  # the page's policy forbids style attributes


def _remaining(run: Run, schedule: Schedule, records: list[dict[str, Any]]) -> float | None:
    """Seconds left, estimated from the speed of the last records."""
    work = work_per_step(schedule, run.space, run.num_classes)

    def done(step: int) -> float:
        return sum(w * steps for w, steps in zip(work, schedule.steps_done(step), strict=True))

    left = Remaining(done(schedule.steps))
    times = [left(done(record["step"]), record["seconds"]) for record in records[-RECENT:]]
    return times[-1] if times else None
