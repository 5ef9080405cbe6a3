"""The commands about devices that need no run."""

import json
from dataclasses import asdict

from ..options.measuring import MeasureOptions
from ..readable import memory, milliseconds, percent

__all__ = ["devices", "measure"]


def measure(o: MeasureOptions, as_json: bool) -> None:
    """Time a model file, and see what memory it takes."""
    from ..pipeline.measure import measure as call

    found = call(o)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    timing = found.latency
    between = f"95 % interval {milliseconds(timing.low)} to {milliseconds(timing.high)}"
    print(f"{milliseconds(timing.ms)} per call ({between}, ±{percent(timing.spread)}, {timing.repeats} calls)")
    peak = "" if found.peak_memory_bytes is None else f", {memory(found.peak_memory_bytes)} of memory at the peak"
    energy = "" if found.energy_mj is None else f", {found.energy_mj:.3g} mJ per call"
    print(f"{memory(found.file_bytes)} on the disk{peak}{energy}")


def devices(as_json: bool) -> None:
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
