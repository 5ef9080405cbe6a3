"""`LatencyTable`: the latency of every network of a space on one device, estimated by look-up, and how far off that is."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import Arch
from ..costs import CostTable, segment_table
from ..errors import DeviceError, FileError
from ..files import read_json, write_json
from ..genes import Genes
from ..space import Space
from ..statistics import kendall_tau
from .device import Device

__all__ = ["LatencyErrors", "LatencyTable", "space_hash"]

FORMAT = "onceforall.latency/1"
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class LatencyErrors:
    """Estimates against measurements of networks that were not used to make the table, in ms."""

    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.measured)

    @property
    def mape(self) -> float:
        """Mean of |predicted / measured - 1|, as a fraction."""
        return float(self._relative.mean())

    @property
    def kendall_tau(self) -> float:
        """Rank correlation of estimates and measurements (tau-b), 1 for the right order."""
        return kendall_tau(np.array(self.predicted), np.array(self.measured))

    def within(self, fraction: float) -> float:
        """Share of networks whose estimate is off by at most this fraction of the measured time."""
        return float((self._relative <= fraction).mean())

    def __str__(self) -> str:
        """For people: one line."""
        return (
            f"mean error {self.mape:.1%}, Kendall tau {self.kendall_tau:.3f}, within ±5 %: {self.within(0.05):.0%}, "
            f"within ±10 %: {self.within(0.1):.0%} (n = {self.n} networks not used to make the table)"
        )

    @property
    def _relative(self) -> Floats:
        return np.asarray(np.abs(np.array(self.predicted) / np.array(self.measured) - 1))


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds per call of each network, made by `profile_space`.

    Args:
        device: that was measured.
        costs: ms of each segment inside a network.
        errors: on networks not used to make the table.
        baseline_ms: what the reference kernel took; pass it to `measure_networks` for times that compare with estimates.
        processor: name of the machine's processor.
        version: of the runtime.
    """

    device: Device
    costs: CostTable
    errors: LatencyErrors
    baseline_ms: float
    processor: str
    version: str
    num_classes: int

    def estimate(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Latency in ms of architectures or rows of a gene matrix, float64 (n,)."""
        return self.costs.estimate(archs)

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        write_json(
            path,
            {
                "format": FORMAT,
                "space": json.loads(self.costs.segments.space.to_json()),
                "space_hash": space_hash(self.costs.segments.space, self.num_classes),
                "device": asdict(self.device),
                "processor": self.processor,
                "version": self.version,
                "baseline_ms": self.baseline_ms,
                "errors": asdict(self.errors),
                "slots": [
                    {"name": slot.name, "ms": values.tolist()}
                    for slot, values in zip(self.costs.segments.slots, self.costs.values, strict=True)
                ],
            },
        )

    @classmethod
    def load(cls, path: Path, space: Space, num_classes: int) -> "LatencyTable":
        """Read what `save` wrote.

        Raises:
            FileError: unreadable, another format, or incomplete.
            DeviceError: the table was made for another space or number of classes.
        """
        data: Any = read_json(path)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise FileError(f"{path}: not a latency table of format {FORMAT!r}: make one with ofa profile")
        if data.get("space_hash") != space_hash(space, num_classes):
            raise DeviceError(f"{path}: made for another search space or number of classes: profile this space and use that table")
        segments = segment_table(space, num_classes)
        try:
            values = tuple(np.array(slot["ms"], np.float64) for slot in data["slots"])
            errors = LatencyErrors(*(tuple(map(float, data["errors"][key])) for key in ("predicted", "measured")))
            table = cls(
                Device(**data["device"]), CostTable(segments, values), errors,
                float(data["baseline_ms"]), str(data["processor"]), str(data["version"]), num_classes,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: a damaged latency table ({error!r}): make it anew with ofa profile") from None
        if [len(v) for v in values] != [len(slot.segments) for slot in segments.slots]:
            raise FileError(f"{path}: a damaged latency table (slots of another size): make it anew with ofa profile")
        return table


def space_hash(space: Space, num_classes: int) -> str:
    """Equal for spaces with equal networks."""
    choices = [(column.kind, column.choices, column.stage, column.block) for column in space.columns]
    return sha256(f"{space.to_json()} {choices} {num_classes}".encode()).hexdigest()[:16]
