"""`ofa profile`: measure a device, to know the latency of every network of a run's space on it."""

from collections.abc import Callable
from pathlib import Path

from ..errors import DeviceError, FileError
from ..files import locked, make_folder
from ..latency import Device, LatencyTable, list_devices, profile_space
from .run import Run

__all__ = ["latency_table", "profile"]


def profile(
    folder: Path,
    *,
    device: str = "cpu",
    quick: bool = False,
    again: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> LatencyTable:
    """Measure a device of this machine and leave its latency table in the run directory. Needs no trained weights.

    Args:
        folder: the run directory; latency/DEVICE/ gets the measurements and table.json. An interrupted profile goes on there.
        device: such as "cpu" (ONNX Runtime, one thread) or "pytorch:threads=2".
        quick: measure less, for a first impression.
        again: measure everything anew instead of using what was measured before.
        seed: of the networks that the table is fitted to and checked on.
        on_progress: called with measurements done, measurements needed and what is measured.

    Returns:
        The table; `table.errors` compares it with networks that were not used to make it.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    run = Run.open(folder)
    chosen = Device.parse(device)
    place = run.folder / "latency" / str(chosen)
    with locked(make_folder(place)):
        if again:
            for name in ("profile.json", "measurements.jsonl"):
                (place / name).unlink(missing_ok=True)
        table = profile_space(run.space, run.num_classes, chosen, folder=place, seed=seed, quick=quick, on_progress=on_progress)
        table.save(place / "table.json")
    return table


def latency_table(run: Run, device: str) -> LatencyTable:
    """The table that `profile` made.

    Raises:
        FileError: the device was not profiled yet.
        DeviceError: it was profiled on another processor or with another version of the runtime.
    """
    chosen = Device.parse(device)
    path = run.folder / "latency" / str(chosen) / "table.json"
    if not path.exists():
        raise FileError(f"{run.folder}: {device} was not measured yet: ofa profile {run.folder} --device {device}")
    table = LatencyTable.load(path, run.space, run.num_classes)
    (here,) = (found for found in list_devices() if found.runtime == chosen.runtime)
    if (table.processor, table.version) != (here.processor, here.version or ""):
        raise DeviceError(
            f"{path}: measured on {table.processor} with {chosen.runtime} {table.version}, this machine has {here.processor} and "
            f"{here.version}: ofa profile {run.folder} --device {device} --again"
        )
    return table
