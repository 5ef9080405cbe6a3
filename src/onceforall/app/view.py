"""What the page is told about networks and the run, as JSON values."""

import hashlib
from importlib.util import find_spec
from typing import Any

from ..arch import Arch
from ..export import FORMATS
from ..picture import STYLE, draw
from ..pipeline import status
from ..pipeline.export_inputs import latency_shares
from ..pipeline.predictor import checks
from ..readable import amount
from .engine import LATENCY, Engine, Models
from .pool import Pool

__all__ = ["facts", "front", "network", "progress"]

LABELS = {"macs": "MACs", "params": "Parameters", "memory_bytes": "Activation memory"}
MOST_POINTS = 160  # of a front that is drawn


def network(models: Models, arch: Arch, device: str) -> dict[str, Any]:
    """One network with all its numbers and its picture; the shares of latency are those of the device."""
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


def front(pool: Pool, cloud: Pool, name: str) -> dict[str, Any]:
    """What stands behind the chosen network in the chart of accuracy over one cost."""
    rows = pool.front(name)
    if len(rows) > MOST_POINTS:
        rows = rows[[round(i * (len(rows) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]]
    return {
        "front": [[float(pool.costs[name][r]), float(pool.top1[r])] for r in rows],
        "cloud": [[float(x), float(y)] for x, y in zip(cloud.costs[name], cloud.top1, strict=True)],
    }


def facts(engine: Engine) -> dict[str, Any]:
    """The run: what it is of, what can be limited, what is missing and the command that makes it."""
    run, now = engine.run, engine.now()
    found = status(run.folder)
    result: dict[str, Any] = {
        "name": run.folder.absolute().name,
        "data": None if run.info.data is None else run.info.data.source,
        "space": f"{run.family}, {amount(run.space.count())} networks",
        "parts": [{"name": p.name, "state": p.state, "text": p.text, "command": p.command} for p in found.parts],
        "next": list(found.next),
        "problem": engine.problem,
        "formats": [
            {
                "name": name,
                "int8": one.int8,
                "missing": [package for package in one.runtime.needs if not _there(package)],
                "extra": one.runtime.extra,
            }
            for name, one in FORMATS.items()
        ],
        "ready": False,
        **progress(engine),
    }
    if now is None:
        return result
    models, pool, _ = now
    errors, rows = checks(run)
    result["predictor"] = {"kind": models.predictor.kind, "rmse": errors["rmse"] if rows else None, "n": len(rows)}
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


def progress(engine: Engine) -> dict[str, Any]:
    """How many networks were looked at, and two numbers that grow: with each change, and when all numbers are others."""
    return {
        "considered": engine.considered,
        "filling": engine.filling,
        "version": engine.version,
        "generation": engine.generation,
    }


def _there(package: str) -> bool:
    return find_spec(package) is not None
