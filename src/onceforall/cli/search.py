"""`ofa search`."""

import json
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from ..options.choosing import SearchOptions
from ..options.limits import Budget
from ..readable import milliseconds, percent
from .options import tell

__all__ = ["search"]

Points = Annotated[int | None, typer.Option("--front", metavar="N", help="N networks along the whole trade-off instead.", min=2)]


def search(
    o: SearchOptions,
    as_json: bool,
    *,
    points: Points = None,
) -> None:
    """Find the most accurate sub-networks within limits."""
    from ..pipeline.front import front
    from ..pipeline.search import search as call

    for budget in [o.budget] if isinstance(o.budget, Budget) else o.budget:
        if points is None:
            found = call(replace(o, budget=budget), on_step=tell)
            marks = [""] * len(found)
        else:
            measured = front(
                o.folder, points=points, budget=budget, device=o.device, caution=o.caution, seed=o.seed, data=o.data, on_step=tell
            )
            found, marks = [p.candidate for p in measured], ["" if p.stands else " (a faster one is as accurate)" for p in measured]
        if as_json:
            print(json.dumps({"budget": asdict(budget), "finalists": [_record(c) for c in found]}))
            continue
        print(f"{budget}:")
        for c, mark in zip(found, marks, strict=True):
            accuracy = f"held-out top-1 {percent(c.accuracy.top1)} (predicted {percent(c.predicted_top1)})"
            speed = f"{milliseconds(c.timing.ms)} (predicted {milliseconds(c.predicted_ms)})"
            print(f"  {c.arch.resolution} px, depths {c.arch.depths}: {accuracy}, {speed}{mark}")


def _record(c: Any) -> dict[str, Any]:
    return {
        "top1": c.accuracy.top1,
        "predicted_top1": c.predicted_top1,
        "latency_ms": c.timing.ms,
        "predicted_ms": c.predicted_ms,
        "arch": json.loads(c.arch.to_json()),
    }
