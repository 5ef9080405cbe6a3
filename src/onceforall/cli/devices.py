"""The commands about devices: profile one, list them, time a model file."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from ..common.advice import ofa
from ..common.readable import memory, milliseconds, percent
from ..errors import ValueTextError
from ..options.declare import Flag
from ..options.measuring import HOST, MeasureOptions, ProfileOptions
from ..options.shared import on_host
from .views import counting, tell

DOUBTFUL = 0.1  # mean error of a latency table


def profile_command(
    o: ProfileOptions,
    as_json: bool,
    *,
    host: Annotated[str | None, HOST] = None,
    export_kit: Annotated[Path | None, Flag("Instead write models to time elsewhere, e.g. kit/.", "FOLDER")] = None,
    import_results: Annotated[Path | None, Flag("Read times, e.g. kit.csv; for --device imported@NAME.", "CSV")] = None,
) -> None:
    """Measure a device, to predict latencies."""
    if sum(given is not None for given in (export_kit, import_results, host)) > 1:
        raise ValueTextError("--export-kit, --import-results and --host exclude each other: give one of them")
    from ..pipeline import Run

    if isinstance(o.networks, Path):
        Run.open(o.networks)  # before torch is loaded
    from ..pipeline.profile import imported, kit, profile

    if export_kit is not None:
        with counting("writing") as progress:
            count = kit(o.networks, export_kit, classes=o.classes, quick=o.quick, seed=o.seed, progress=progress)
        if as_json:
            print(json.dumps({"models": count, "folder": str(export_kit)}))
            return
        print(f"{count} models to measure: {export_kit}/models; then fill in {export_kit}/results.csv and")
        print(ofa("profile", str(o.source), "--import-results", export_kit / "results.csv", "--device", "imported@NAME"))
        return
    if import_results is not None:
        table = imported(o.networks, import_results, o.device, out=o.out, classes=o.classes)
    else:
        with counting("measuring") as progress:
            table = profile(replace(o, device=on_host(o.device, host)), progress=progress)
    if (error := table.errors.mape) > DOUBTFUL:
        tell(f"these estimates are off by {percent(error)} on average: measure again with --again while nothing else runs")
    if as_json:
        errors = {"mape": error, "kendall_tau": table.errors.kendall_tau, "error95": table.errors.bound(), "n": table.errors.n}
        print(json.dumps({"device": table.device.spec, "processor": table.processor, **errors}))
        return
    ends = table.estimate([table.costs.segments.space.smallest(), table.costs.segments.space.largest()])
    print(f"{table.device.spec} on {table.processor}: {milliseconds(ends[0])} (smallest) to {milliseconds(ends[1])} (largest)")
    print(f"estimates: {table.errors}")
    if table.measured is not None and table.measured.profiles > 1:
        tell(f"the level of these times is the mean of the last {table.measured.profiles} profiles of this device")


def measure_command(o: MeasureOptions, as_json: bool) -> None:
    """Time a model file, and measure its memory."""
    from ..pipeline.measure import measure

    found = measure(o)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    timing = found.latency
    between = f"95 % interval {milliseconds(timing.low)} to {milliseconds(timing.high)}"
    print(f"{milliseconds(timing.ms)} per call ({between}, ±{percent(timing.spread)}, {timing.repeats} calls)")
    peak = "" if found.peak_memory_bytes is None else f", {memory(found.peak_memory_bytes)} of memory at the peak"
    energy = "" if found.energy_mj is None else f", {found.energy_mj:.3g} mJ per call"
    print(f"{memory(found.file_bytes)} on disk{peak}{energy}")


def devices_command(as_json: bool) -> None:
    """List the runtimes that this machine can measure."""
    from ..pipeline import devices

    found = devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found]))
        return
    for device in found:
        if device.lacks is None:
            threads = "1 thread" if device.threads == 1 else f"up to {device.threads} threads"
            print(f"{device.runtime}: {device.version} on {device.processor}, {threads}")
        else:
            print(f"{device.runtime}: not available: {device.lacks}")
