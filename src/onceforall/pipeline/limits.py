"""Limits of what networks may cost, and which make sense on a run: what its smallest and its largest network cost."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import InfeasibleError, OnceForAllError
from ..latency import Device, LatencyTable
from ..readable import milliseconds, quantity
from .run import Run

__all__ = ["Budget", "latency_ends", "middle_ms", "suggested_limits"]


@dataclass(frozen=True)
class Budget:
    """Limits of one search; None is no limit. Latency is that of the device; memory is of activations, float32, one image.

    Flash and RAM are a microcontroller's: of weights and of activations in int8.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    memory_bytes: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise InfeasibleError(f"the limit {name} is {value}: it must be a number above 0")

    def __str__(self) -> str:
        """In words, such as "5.00 ms, 100.0 M MACs"."""
        return ", ".join(quantity(name, value) for name, value in asdict(self).items() if value is not None) or "no limit"


def suggested_limits(folder: Path, device: str = "cpu") -> str:
    """For people who gave no limit: some that can be kept, as options, and what networks of the run cost.

    Args:
        folder: the run directory.
        device: whose latencies are told, if the run has a profile of it.

    Raises:
        FileError: no run directory.
        DataError: it has no images, so that nothing can be chosen.
    """
    run = Run.open(folder)
    run.require_images()
    try:
        low, high = latency_ends(run, device)
        middle = f"--latency {middle_ms(run, device):.2g}ms"
        return f"{middle} (networks here take {milliseconds(low)} to {milliseconds(high)} on {device})"
    except (OnceForAllError, OSError):  # not profiled, or damaged, which the command itself tells
        small, large = (run.space.lower(arch, run.num_classes).macs for arch in (run.space.smallest(), run.space.largest()))
        middle = f"--macs {float(f'{np.sqrt(small * large) / 1e6:.2g}'):g}M"
        return f"{middle} (networks here have {quantity('macs', small)} to {quantity('macs', large)})"


def middle_ms(run: Run, device: str) -> float:
    """A latency from the middle of what the device can do."""
    return float(np.sqrt(np.prod(latency_ends(run, device))))


def latency_ends(run: Run, device: str) -> tuple[float, float]:
    """Milliseconds of the smallest and the largest network on a profiled device.

    Raises:
        FileError: it was not profiled, or the table is damaged.
    """
    path = run.folder / "latency" / str(Device.parse(device)) / "table.json"
    low, high = LatencyTable.load(path, run.space, run.num_classes).estimate([run.space.smallest(), run.space.largest()]).tolist()
    return low, high
