"""The command `ofa profile`, which has three ways to get the times of a device."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..advice import ofa
from ..errors import ValueTextError
from ..readable import milliseconds, percent
from .options import DeviceText, ExportKit, Host, ImportResults, Json, RunOrSpace, Seed, on_host, run_or_space, stderr, tell
from .views import Counter

__all__ = ["profile"]

DOUBTFUL = 0.1  # mean error of a latency table


def profile(
    run: RunOrSpace,
    device: DeviceText = "cpu",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Instead of RUN/latency/DEVICE.")] = None,
    classes: Annotated[int | None, typer.Option(metavar="N", help="Of a space: outputs; 1000 if left out.", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure less, for a first impression.")] = False,
    target: Annotated[float, typer.Option(metavar="X", help="Stop at this error, such as 0.02; 0: measure all.")] = 0.0,
    again: Annotated[bool, typer.Option("--again", help="Measure everything anew.")] = False,
    host: Host = None,
    export_kit: ExportKit = None,
    import_results: ImportResults = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure a device, to predict latencies."""
    from ..pipeline.profile import imported, kit
    from ..pipeline.profile import profile as call

    if sum(given is not None for given in (export_kit, import_results, host)) > 1:
        raise ValueTextError("--export-kit, --import-results and --host exclude each other: give one of them")
    source = run_or_space(run)
    if export_kit is not None:
        with Counter(stderr(), "writing") as counter:
            count = kit(source, export_kit, classes=classes, quick=quick, seed=seed, on_progress=counter)
        if as_json:
            print(json.dumps({"models": count, "folder": str(export_kit)}))
            return
        print(f"{count} models to measure: {export_kit}/models; then fill in {export_kit}/results.csv and")
        print(ofa("profile", run, "--import-results", export_kit / "results.csv", "--device", "imported@NAME"))
        return
    if import_results is not None:
        table = imported(source, import_results, device, out=out, classes=classes)
    else:
        where = on_host(device, host)
        with Counter(stderr(), "measuring") as counter:
            table = call(
                source,
                device=where,
                out=out,
                classes=classes,
                quick=quick,
                target=target,
                again=again,
                seed=seed,
                on_progress=counter,
            )
    if (error := table.errors.mape) > DOUBTFUL:
        tell(f"these estimates are off by {percent(error)} on average: measure anew with --again while nothing else runs")
    if as_json:
        errors = {"mape": error, "kendall_tau": table.errors.kendall_tau, "error95": table.errors.bound(), "n": table.errors.n}
        print(json.dumps({"device": table.device.spec, "processor": table.processor, **errors}))
        return
    ends = table.estimate([table.costs.segments.space.smallest(), table.costs.segments.space.largest()])
    print(f"{table.device.spec} on {table.processor}: {milliseconds(ends[0])} (smallest) to {milliseconds(ends[1])} (largest)")
    print(f"estimates: {table.errors}")
    if table.measured is not None and table.measured.profiles > 1:
        tell(f"the level of these times is the mean of the last {table.measured.profiles} profiles of this device")
