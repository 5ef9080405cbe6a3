"""`ofa bundle`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .. import readable
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

__all__ = ["bundle"]


def bundle(
    run: RunFolder,
    latency: Latency = None,
    macs: Macs = None,
    params: Params = None,
    memory: Memory = None,
    flash: Flash = None,
    ram: Ram = None,
    arch: Annotated[
        list[str] | None, typer.Option(metavar="NETS", help="Also or instead: names in RUN/specialised, files.")
    ] = None,
    device: DeviceText = "pytorch",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Instead of RUN/bundle.")] = None,
    finalists: Finalists = 5,
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Put several networks into one folder, to switch at run time."""
    from ..pipeline.bundle import bundle as call

    limits = (latency, macs, params, memory, flash, ram)
    budgets = budgets_of(*limits) if any(limit is not None for limit in limits) else []
    archs = [name for names in arch or [] for name in names.split(",") if name]
    done = call(run, budgets, archs=archs, device=device, out=out, finalists=finalists, seed=seed, data=data, on_step=tell)
    members, sizes = done.bundle.members, done.facts.sizes
    if as_json:
        entries = [member.to_json(done.bundle.plans[name]) for name, member in members.items()]
        print(json.dumps({"folder": str(done.folder), "members": entries, "facts": asdict(done.facts)}))
        return
    print(f"{done.folder}: {len(members)} networks, {_share(sizes.disk, sizes.disk_separate)}")
    print(f"  weights in memory: {_share(sizes.memory, sizes.memory_separate)}")
    for name, member in members.items():
        switch = done.facts.switches[name]
        accuracy = f"test top-1 {readable.percent(member.test_top1)} ({member.test_images} images)"
        first, again, anew = map(readable.milliseconds, (switch.first, switch.again, switch.anew))
        latency = f"{readable.milliseconds(member.known_ms)} {'in PyTorch' if member.latency_ms else f'on {device}'}"
        print(f"  {name}: {member.arch.resolution} px, {accuracy}, {latency}")
        print(f"    after another one: first time {first}, later {again}; an export of its own, loaded anew: {anew}")


def _share(own: int, separate: int) -> str:
    return f"{readable.memory(own)}, {readable.percent(own / separate, 0)} of {readable.memory(separate)} one by one"
