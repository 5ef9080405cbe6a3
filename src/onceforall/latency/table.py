"""`LatencyTable`: the latency of every network of a space on one device, estimated by lookup, with its errors."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import Arch, Stage
from ..common.files import read_json, write_json
from ..common.records import as_record
from ..common.statistics import kendall_tau
from ..costs import CostTable, segment_table
from ..errors import DeviceError, FileError
from ..genes import Genes
from ..plan import Plan
from ..space import Space
from ..structure import Terms
from .device import Device
from .lookup_file import read_lookup_files
from .published import Place, missing_entry, published_costs

FORMAT = "onceforall.latency/2"
DRAWS = 1000  # bootstrap samples
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class LatencyErrors:
    """Estimated and measured latency of held-out networks, in ms."""

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
        """Rank correlation of estimates and measurements (tau-b); 1 for the same order."""
        return kendall_tau(np.array(self.predicted), np.array(self.measured))

    def within(self, fraction: float) -> float:
        """Share of networks whose estimate is within this fraction of the measured time."""
        return float((self._relative <= fraction).mean())

    def bound(self, share: float = 0.95) -> float:
        """The quantile of the errors: this share of the networks does not exceed it, as a fraction of the measured time."""
        return float(np.quantile(self._relative, share))

    def interval(self, statistic: Callable[["LatencyErrors"], float]) -> tuple[float, float]:
        """95 % bootstrap interval of a statistic over other samples of networks.

        Args:
            statistic: such as `lambda errors: errors.mape`.
        """
        predicted, measured = np.array(self.predicted), np.array(self.measured)
        draws = np.random.default_rng(0).integers(self.n, size=(DRAWS, self.n))
        values = [statistic(LatencyErrors(tuple(predicted[draw]), tuple(measured[draw]))) for draw in draws]
        return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))

    def __str__(self) -> str:
        """Readable one-line summary."""
        mape, tau = self.interval(lambda errors: errors.mape), self.interval(lambda errors: errors.kendall_tau)
        return (
            f"mean error {self.mape:.1%} ({mape[0]:.1%} to {mape[1]:.1%}), Kendall tau {self.kendall_tau:.3f} ({tau[0]:.3f} to "
            f"{tau[1]:.3f}), 95 % of them within ±{self.bound():.1%} (n = {self.n} networks not used to make the table)"
        )

    @property
    def _relative(self) -> Floats:
        return np.asarray(np.abs(np.array(self.predicted) / np.array(self.measured) - 1))


@dataclass(frozen=True)
class Measured:
    """How `profile_space` made a table on this machine.

    Args:
        device: the measured device.
        version: version of the runtime.
        baseline_ms: time of the reference kernel.
        anchor_ms: time of the anchor, the network in every group of measurements.
        errors: errors on held-out networks.
        profiles: number of profiles of this device whose mean is the table's level; see `profile.settled_level`.
    """

    device: Device
    version: str
    baseline_ms: float
    anchor_ms: float
    errors: LatencyErrors
    profiles: int = 1


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds per call for each network of a space, measured by `profile_space` or published.

    Args:
        costs: ms of each segment inside a network; NaN where a published table has no entry.
        processor: name of the machine's processor, or of the published table.
        measured: None for a published table.
        missing: for a published table, the missing key of each NaN segment.
    """

    costs: CostTable
    num_classes: int
    processor: str
    measured: Measured | None
    missing: Mapping[Place, str] = field(default_factory=dict)

    @classmethod
    def from_published(cls, folder: Path | str, space: Space, num_classes: int = 1000) -> "LatencyTable":
        """Read the original project's YAML tables of one device, such as Samsung Note10 (see docs/published.md).

        Args:
            folder: a folder with one file per measured resolution, or a single file.
            space: the space whose networks to estimate; it may contain networks that were not measured.
            num_classes: outputs of the measured classifier.

        Raises:
            FileError: nothing there, or a file that is not such a table.
            DeviceError: no network of the space can be estimated.
        """
        path = Path(folder)
        costs, missing = published_costs(read_lookup_files(path), segment_table(space, num_classes))
        name = path.absolute()
        return cls(costs, num_classes, name.name if path.is_dir() else name.stem, None, missing)

    def estimate(self, archs: Sequence[Arch] | Genes) -> Floats:
        """Latency in ms of architectures or rows of a gene matrix, float64 (n,).

        Raises:
            DeviceError: a published table lacks an entry that one of the networks needs.
            ArchError: an architecture outside the space, or a matrix that does not fit this space.
        """
        segments = self.costs.segments
        total = self.costs.estimate(archs)
        if (unknown := np.isnan(total)).any():
            row = segments.space.rows(archs)[unknown][:1]
            raise DeviceError(f"{self.processor}: {missing_entry(segments, self.missing, row)}")
        return total

    def structure(self) -> Terms:
        """One term per slot of the network, NaN where a published table has no entry."""
        return self.costs.structure()

    @property
    def device(self) -> Device:
        """The measured device. For a published table, this and the next five properties raise `DeviceError`."""
        return self._measured.device

    @property
    def version(self) -> str:
        return self._measured.version

    @property
    def hardware(self) -> str:
        """The processor and the runtime, as text."""
        return f"{self.processor}, {self.device.runtime} {self.version}".rstrip()

    @property
    def anchor(self) -> tuple[Plan, float]:
        """A network and its ms; pass it to `measure_networks` to get times that are comparable with the estimates."""
        return self.costs.segments.space.lower(middle(self.costs.segments.space), self.num_classes), self._measured.anchor_ms

    @property
    def baseline_ms(self) -> float:
        return self._measured.baseline_ms

    @property
    def errors(self) -> LatencyErrors:
        return self._measured.errors

    @property
    def _measured(self) -> Measured:
        if self.measured is None:
            raise DeviceError(f"{self.processor} is a published table, not a device measured here: measure one with ofa profile")
        return self.measured

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        segments, made = self.costs.segments, self.measured
        slots: list[dict[str, Any]] = [
            {"name": slot.name, "ms": [None if np.isnan(v) else v for v in values.tolist()]}
            for slot, values in zip(segments.slots, self.costs.values, strict=True)
        ]
        for (s, code), key in self.missing.items():
            slots[s].setdefault("missing", {})[str(code)] = key
        write_json(
            path,
            {
                "format": FORMAT,
                "space": json.loads(segments.space.to_json()),
                "space_hash": space_hash(segments.space, self.num_classes),
                "processor": self.processor,
                **(dict.fromkeys(f.name for f in fields(Measured)) if made is None else asdict(made)),
                "slots": slots,
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
        segments, again = segment_table(space, num_classes), "make it again with ofa profile"
        try:
            values = tuple(np.array(slot["ms"], np.float64) for slot in data["slots"])
            missing = {(s, int(c)): str(key) for s, slot in enumerate(data["slots"]) for c, key in slot.get("missing", {}).items()}
            measured = None if data["device"] is None else as_record(data, Measured, path, otherwise=again)
            table = cls(CostTable(segments, values), num_classes, str(data["processor"]), measured, missing)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: a damaged latency table ({error!r}): {again}") from None
        if [v.shape for v in values] != [(len(slot.segments),) for slot in segments.slots]:
            raise FileError(f"{path}: a damaged latency table (slots of another size): {again}")
        known = [v[~np.isnan(v)] for v in values]
        if measured is not None:
            known += [np.array([measured.baseline_ms, measured.anchor_ms, *measured.errors.predicted, *measured.errors.measured])]
        if not all((np.isfinite(v) & (v >= 0)).all() for v in known):
            raise FileError(f"{path}: a damaged latency table (a time is below 0 or not finite): {again}")
        unknown = {(s, int(code)) for s, v in enumerate(values) for code in np.flatnonzero(np.isnan(v))}
        if unknown != set(missing):
            raise FileError(f"{path}: a damaged latency table (times are missing): make it again")
        return table


def middle(space: Space) -> Arch:
    """The network with the middle choice everywhere, the larger one of two."""
    stages = []
    for c in space.stages:
        block = c.block([len(values) // 2 for _, values in c.of_block])
        stages.append(Stage(c.widths[len(c.widths) // 2], (block,) * c.depths[len(c.depths) // 2]))
    return Arch(space.resolutions[len(space.resolutions) // 2], tuple(stages))


def space_hash(space: Space, num_classes: int) -> str:
    """A hash that is equal for spaces with equal networks."""
    choices = [(column.kind, column.choices, column.stage, column.block) for column in space.columns]
    return sha256(f"{space.to_json()} {choices} {num_classes}".encode()).hexdigest()[:16]
