"""The commands about devices that need no run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ValueTextError
from ..readable import memory, milliseconds, percent
from .options import DeviceText, Host, Json, on_host

__all__ = ["devices", "measure"]


def measure(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Any ONNX file with one float32 input.")],
    device: DeviceText = "cpu",
    host: Host = None,
    shape: Annotated[str | None, typer.Option(metavar="CxHxW", help="Of one input, where the file leaves it open.")] = None,
    as_json: Json = False,
) -> None:
    """Time a model file, and see what memory it takes."""
    from ..pipeline.measure import measure as call

    found = call(model, device=on_host(device, host), shape=None if shape is None else _shape(shape))
    if as_json:
        print(json.dumps(asdict(found)))
        return
    timing = found.latency
    between = f"95 % interval {milliseconds(timing.low)} to {milliseconds(timing.high)}"
    print(f"{milliseconds(timing.ms)} per call ({between}, ±{percent(timing.spread)}, {timing.repeats} calls)")
    peak = "" if found.peak_memory_bytes is None else f", {memory(found.peak_memory_bytes)} of memory at the peak"
    energy = "" if found.energy_mj is None else f", {found.energy_mj:.3g} mJ per call"
    print(f"{memory(found.file_bytes)} on the disk{peak}{energy}")


def devices(as_json: Json = False) -> None:
    """List what this machine can measure."""
    from ..pipeline import devices as call

    found = call()
    if as_json:
        print(json.dumps([asdict(device) for device in found]))
        return
    for device in found:
        if device.lacks is None:
            threads = "1 thread" if device.threads == 1 else f"up to {device.threads} threads"
            print(f"{device.runtime}: {device.version} on {device.processor}, {threads}")
        else:
            print(f"{device.runtime}: not here: {device.lacks}")


def _shape(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueTextError(f"--shape {text}: give whole numbers with x between them, such as 3x224x224")
    return tuple(map(int, parts))
