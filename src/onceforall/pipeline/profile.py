"""`ofa profile`: measure a device, to know the latency of every network of a run's space on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import DeviceError, FileError
from ..files import locked, make_folder
from ..latency import QUICK, Device, Effort, LatencyTable, export_kit, import_results, list_devices, profile_space
from ..latency.device import IMPORTED
from .run import Run

__all__ = ["imported", "kit", "latency_table", "profile", "profiled"]


def profile(
    folder: Path,
    *,
    device: str = "cpu",
    quick: bool = False,
    target: float = 0.0,
    again: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> LatencyTable:
    """Measure a device and leave its latency table in the run directory. Needs no trained weights.

    Args:
        folder: the run directory; latency/DEVICE/ gets the measurements and table.json. An interrupted profile goes on there.
        device: such as "cpu" (ONNX Runtime, one thread), "pytorch:threads=2", or "onnxruntime@ssh://pi@board" for another machine.
        quick: measure less, for a first impression.
        target: mean relative error, such as 0.02, at which half of the networks is enough; see `onceforall.latency.Effort`.
        again: measure everything anew instead of using what was measured before.
        seed: of the networks that the table is fitted to and checked on.
        on_progress: called with measurements done, measurements needed and what is measured.

    Returns:
        The table; `table.errors` compares it with networks that were not used to make it.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    if not 0 <= target < 1:
        raise DeviceError(f"--target {target:g}: give a share from 0 to 1, such as 0.02 for 2 %")
    chosen = Device.parse(device)
    if chosen.imported:
        raise DeviceError(f"{device}: nothing can be measured on it from here: give its times with --import-results")
    place = run.folder / "latency" / str(chosen)
    with locked(make_folder(place)):
        if again:
            for name in ("profile.json", "measurements.jsonl"):
                (place / name).unlink(missing_ok=True)
        effort = replace(QUICK if quick else Effort(), target=target)
        table = profile_space(run.space, run.num_classes, chosen, folder=place, seed=seed, effort=effort, on_progress=on_progress)
        table.save(place / "table.json")
    return table


def kit(
    folder: Path,
    target: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> int:
    """Write the models that have to be timed on a device that this program cannot reach; `imported` reads the times.

    Args:
        folder: the run directory.
        target: folder to make: ONNX files with made-up weights, manifest.json, and results.csv to fill in.
        quick: fewer models.
        seed: of the networks drawn.
        on_progress: called with files written, files in all and what is written.

    Returns:
        The number of models.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    effort = QUICK if quick else Effort()
    return len(export_kit(run.space, run.num_classes, target, effort, seed=seed, on_progress=on_progress))


def imported(folder: Path, results: Path, device: str) -> LatencyTable:
    """Leave the latency table of a device in the run directory, from the times of a kit's models.

    Args:
        folder: the run directory.
        results: the kit's results.csv, filled in.
        device: "imported@NAME", as for the other commands.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    kind, _, name = device.partition("@")
    if kind != IMPORTED:
        raise DeviceError(f"{device}: imported times need a name of their own: give --device imported@NAME")
    table = import_results(run.space, run.num_classes, results, name)
    place = make_folder(run.folder / "latency" / str(table.device))
    with locked(place):
        table.save(place / "table.json")
    return table


def profiled(run: Run, device: str) -> bool:
    """Whether there is a latency table of the device."""
    return (run.folder / "latency" / str(Device.parse(device)) / "table.json").exists()


def latency_table(run: Run, device: str) -> LatencyTable:
    """The table that `profile` made.

    Raises:
        FileError: the device was not profiled yet.
        DeviceError: it was profiled on another processor or with another version of the runtime.
    """
    chosen = Device.parse(device)
    path = run.folder / "latency" / str(chosen) / "table.json"
    if not path.exists():
        how = f"--import-results FILE --device {device}" if chosen.imported else f"--device {device}"
        raise FileError(f"{run.folder}: {device} was not measured yet: ofa profile {run.folder} {how}")
    table = LatencyTable.load(path, run.space, run.num_classes)
    if chosen.host is not None:
        return table
    (here,) = (found for found in list_devices() if found.runtime == chosen.runtime)
    if (table.processor, table.version) != (here.processor, here.version or ""):
        raise DeviceError(
            f"{path}: measured on {table.processor} with {chosen.runtime} {table.version}, this machine has {here.processor} and "
            f"{here.version}: ofa profile {run.folder} --device {device} --again"
        )
    return table
