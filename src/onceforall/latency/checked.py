"""The networks that a latency table was tested on, with the uncertainty of their measured times."""

from pathlib import Path

import numpy as np

from ..arch import Arch
from ..common.files import read_lines
from .design import QUICK, Design, Effort, key_of
from .table import LatencyTable


def checked_networks(table: LatencyTable, folder: Path) -> list[tuple[Arch, tuple[float, float]]] | None:
    """The networks of `table.errors`, in the same order, each with the 95 % interval of its measurement in ms.

    A network is loaded and timed several times; the interval is the widest of these, relative to its time.

    Args:
        table: made by `profile_space`.
        folder: folder of its measurements.

    Returns:
        None if unknown: the profile was made with another effort or seed, or its measurements are missing.
    """
    errors, space = table.errors, table.costs.segments.space
    bounds: dict[str, tuple[float, float]] = {}
    for record in read_lines(folder / "measurements.jsonl"):
        key, numbers = record.get("key"), [record.get(name) for name in ("ms", "low", "high")]
        known = [n for n in numbers if isinstance(n, float) and 0 < n < np.inf]
        if isinstance(key, str) and len(known) == len(numbers):
            ms, low, high = known
            lowest, highest = bounds.get(key, (1.0, 1.0))
            bounds[key] = min(lowest, low / ms), max(highest, high / ms)
    for effort in (Effort(), QUICK) if bounds else ():
        genes = Design(space, table.num_classes, effort, 0).genes[1]
        if len(genes) != errors.n or not np.allclose(table.estimate(genes), errors.predicted, rtol=1e-9):
            continue
        archs = space.archs(genes)
        keys = [key_of(space.lower(arch, table.num_classes)) for arch in archs]
        if all(key in bounds for key in keys):
            return [
                (arch, (bounds[key][0] * ms, bounds[key][1] * ms))
                for arch, key, ms in zip(archs, keys, errors.measured, strict=True)
            ]
    return None
