"""`ofa profile`: measure a device, to know the latency of every network of a run's space on it."""

from collections.abc import Callable
from pathlib import Path

from ..errors import FileError
from ..latency import Device, LatencyTable, profile_space
from .run import Run

__all__ = ["latency_table", "profile"]


def profile(
    folder: Path,
    *,
    device: str = "cpu",
    quick: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> LatencyTable:
    """Measure a device of this machine and leave its latency table in the run directory. Needs no trained weights.

    Args:
        folder: the run directory; latency/DEVICE/ gets the measurements and table.json. An interrupted profile goes on there.
        device: such as "cpu" (ONNX Runtime, one thread) or "pytorch:threads=2".
        quick: measure less, for a first impression.
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
    table = profile_space(run.space, run.num_classes, chosen, folder=place, seed=seed, quick=quick, on_progress=on_progress)
    table.save(place / "table.json")
    return table


def latency_table(run: Run, device: str) -> LatencyTable:
    """The table that `profile` made.

    Raises:
        FileError: the device was not profiled yet.
    """
    chosen = Device.parse(device)
    path = run.folder / "latency" / str(chosen) / "table.json"
    if not path.exists():
        raise FileError(f"{run.folder}: {device} was not measured yet: ofa profile {run.folder} --device {device}")
    return LatencyTable.load(path, run.space, run.num_classes)
