"""Sensible limits for a run, from the costs of its smallest and its largest network."""

from pathlib import Path

import numpy as np

from ...common.readable import milliseconds, quantity
from ...errors import OnceForAllError
from ...latency import Device, LatencyTable
from .run import Run


def suggested_limits(folder: Path, device: str = "cpu") -> str:
    """Suggested limits as options, with the range of the networks' costs, for users who gave none.

    Args:
        device: the latencies are for this device if the run has a profile of it.

    Raises:
        FileError: this is not a run directory.
        DataError: it has no images, so nothing can be chosen.
    """
    run = Run.open(folder)
    run.require_images()
    try:
        low, high = latency_ends(run, device)
        middle = f"--latency {middle_ms(run, device):.2g}ms"
        return f"{middle} (networks here take {milliseconds(low)} to {milliseconds(high)} on {device})"
    except (OnceForAllError, OSError):  # not profiled, or damaged, which the command itself reports
        small, large = (run.space.lower(arch, run.num_classes).macs for arch in (run.space.smallest(), run.space.largest()))
        middle = f"--macs {float(f'{np.sqrt(small * large) / 1e6:.2g}'):g}M"
        return f"{middle} (networks here have {quantity('macs', small)} to {quantity('macs', large)})"


def middle_ms(run: Run, device: str) -> float:
    """Geometric mean of the smallest and the largest network's latency."""
    return float(np.sqrt(np.prod(latency_ends(run, device))))


def latency_ends(run: Run, device: str) -> tuple[float, float]:
    """Milliseconds of the smallest and the largest network on a profiled device.

    Raises:
        FileError: it was not profiled, or the table is damaged.
    """
    path = run.folder / "latency" / str(Device.parse(device)) / "table.json"
    low, high = LatencyTable.load(path, run.space, run.num_classes).estimate([run.space.smallest(), run.space.largest()]).tolist()
    return low, high
