"""`ofa search`."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..readable import milliseconds, percent
from .options import (
    Data,
    DeviceText,
    Finalists,
    Flash,
    Json,
    Latency,
    Macs,
    Memory,
    Params,
    Ram,
    RunFolder,
    Seed,
    budgets_of,
    tell,
)

__all__ = ["search"]

Caution = Annotated[float, typer.Option(metavar="X", help="Standard errors taken off a prediction; 0: none, with proof.", min=0)]
Points = Annotated[int | None, typer.Option("--front", metavar="N", help="N networks along the whole trade-off instead.", min=2)]


def search(
    run: RunFolder,
    latency: Latency = None,
    macs: Macs = None,
    params: Params = None,
    memory: Memory = None,
    flash: Flash = None,
    ram: Ram = None,
    device: DeviceText = "cpu",
    finalists: Finalists = 5,
    caution: Caution = 1.0,
    points: Points = None,
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the most accurate sub-networks within limits."""
    from ..pipeline.front import front
    from ..pipeline.search import search as call

    for budget in budgets_of(latency, macs, params, memory, flash, ram):
        if points is None:
            found = call(run, budget, device=device, finalists=finalists, caution=caution, seed=seed, data=data, on_step=tell)
            marks = [""] * len(found)
        else:
            measured = front(run, points=points, budget=budget, device=device, caution=caution, seed=seed, data=data, on_step=tell)
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
