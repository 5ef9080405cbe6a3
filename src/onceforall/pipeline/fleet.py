"""`ofa specialise --fleet FILE`: one network for each device in a list, with a table of results and of changes since last time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..common.files import read_text, sha256, text_sha256
from ..common.progress import QUIET, Progress
from ..common.readable import wilson
from ..common.records import read_record, write_record
from ..errors import DataError, FileError, OnceForAllError, StoppedError, ValueTextError
from ..export import FORMATS
from ..latency import Device
from ..options.choosing import SpecialiseOptions
from ..options.shared import LIMITS, Budget, budgets_of
from ..scores import METRICS
from .run_directory.run import Run
from .specialise import specialise
from .specialising.record import Specialised

RESULT = "fleet.json"
FORMAT = "onceforall.fleet/1"
MOST_BYTES = 1 << 20
KEYS = ("name", "device", *LIMITS, "precision", "export", "metric", "accuracy")
PRECISIONS = ("float32", "int8")
LIKE = ("metric", "precision", "device")  # equal in rows that are compared
OWN = "pytorch"  # the network itself, to which the card's results refer


@dataclass(frozen=True)
class FleetDevice:
    """A device of a fleet.

    Args:
        name: name of the device, and of its network's folder.
        device: a profiled device.
        budget: limits for the network.
        export: formats.
        accuracy: minimum test accuracy, a fraction; None for any.
        metric: metric of `accuracy` and for choosing networks; None for the run's metric.
        tested: the format whose test accuracy counts: an int8 file if the device runs int8.
    """

    name: str
    device: str
    budget: Budget
    export: tuple[str, ...] = ("onnx",)
    accuracy: float | None = None
    metric: str | None = field(default=None, repr=False)  # not in repr: `_key` adds both if given
    tested: str = field(default=OWN, repr=False)

    def test(self, found: Specialised) -> tuple[str, float]:
        """Name and value of the test accuracy that counts."""
        tested = found.tests.get(self.tested, found.test)  # formats left out have none
        metric = found.metric or "top1"
        return METRICS[metric], tested.score(metric)

    def interval(self, found: Specialised) -> tuple[float, float] | None:
        """95 % interval of the test accuracy. Except for top-1, an int8 file gets the interval of the others, shifted."""
        metric, (_, value) = found.metric or "top1", self.test(found)
        if metric == "top1":
            return wilson(value, found.test.images)
        own, by = found.interval(metric), value - found.test.score(metric)
        return None if own is None else (max(0.0, own[0] + by), min(1.0, own[1] + by))


@dataclass(frozen=True)
class FleetRow:
    """The result for one device.

    Args:
        folder: folder of its network; None if it has none.
        missed: one line on why the device has no suitable network; None if it has one.
        test: accuracy by the device's metric, or the run's, on `images` test images; None without a network.
        latency_ms: latency of the network on the device.
        before: `test` and latency of the last time; None if there was none, or with another device, metric or precision.
        metric: name of the metric of `test`; without a network, this and the next three fields belong to `before`.
        precision: precision of the file that `test` was measured through.
        device: "" in older files, which do not record it; `limits` likewise.
        limits: as text.
        before_limits: limits of `before`, if they were different.
        between: see `interval`.
    """

    name: str
    folder: str | None = None
    missed: str | None = None
    test: float | None = None
    images: int = 0
    latency_ms: float | None = None
    before: tuple[float, float] | None = None
    metric: str = METRICS["top1"]
    precision: str = PRECISIONS[0]
    device: str = ""
    limits: str = ""
    before_limits: str | None = None
    between: tuple[float, float] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the test accuracy; from older files, only for top-1."""
        own = None if self.test is None or self.metric != METRICS["top1"] else wilson(self.test, self.images)
        return self.between or own


@dataclass(frozen=True)
class _Served:
    """A row, and the key of everything it depends on."""

    key: str
    row: FleetRow


@dataclass(frozen=True)
class _Fleet:
    """The content of fleet.json, by device name."""

    devices: dict[str, _Served]


def read_fleet(path: Path) -> list[FleetDevice]:
    """Read a fleet file: `devices`, a list with `name`, `device` (default: cpu), limits as on the command line, `precision`,
    `export`, `metric` and the minimum `accuracy`.

    Raises:
        FileError: it cannot be read, or an entry is invalid; the message names it.
    """
    import yaml

    try:
        data = yaml.safe_load(read_text(path, MOST_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as an invalid date
        raise FileError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    entries = data.get("devices") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise FileError(
            f"{path}: no list of devices: write 'devices:', and below it '- name: phone', 'device: cpu', 'latency: 5ms'"
        )
    members = [_member(path, number, entry) for number, entry in enumerate(entries, 1)]
    names = [member.name for member in members]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FileError(f"{path}: two devices are called {twice}: each needs a name of its own")
    return members


def _member(path: Path, number: int, entry: Any) -> FleetDevice:
    where = f"{path}: device {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise FileError(f"{where}: it has no name: write '- name: phone'")
    where = f"{path}: {entry['name']}"
    if unknown := [str(key) for key in entry if key not in KEYS]:
        raise FileError(f"{where}: unknown {', '.join(unknown)}: use {', '.join(KEYS)}")
    if "/" in entry["name"] or "\\" in entry["name"] or entry["name"].strip().startswith("."):
        raise FileError(f"{where}: the name is used for a folder: leave out slashes and a dot at its beginning")
    try:
        limits = {key: flag.read(str(entry[key])) for key, flag in LIMITS.items() if key in entry and flag.read}
        accuracy = _share(entry["accuracy"]) if "accuracy" in entry else None
        budgets = budgets_of(**limits)
    except OnceForAllError as error:
        raise FileError(f"{where}: {error}") from None
    if not budgets:
        raise FileError(f"{where}: no limit: give one of {', '.join(LIMITS)}")
    if len(budgets) > 1:
        raise FileError(f"{where}: several latencies: give one; for several, list several devices")
    export, metric = entry.get("export"), entry.get("metric")
    given = export if isinstance(export, list) else [] if export is None else str(export).split(",")
    try:
        device, formats, tested = _at_precision(entry, tuple(str(name).strip() for name in given))
    except OnceForAllError as error:
        raise FileError(f"{where}: {error}") from None
    if metric is not None and not (isinstance(metric, str) and metric in METRICS):
        raise FileError(f"{where}: metric: {metric!r}: choose from {', '.join(METRICS)}")
    return FleetDevice(entry["name"].strip(), device, budgets[0], formats, accuracy, metric, tested)


def _at_precision(entry: dict[str, Any], formats: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """Device, formats and tested format for the precision that an entry requests; an `OnceForAllError` if there are none."""
    text, precision = str(entry.get("device", "cpu")), entry.get("precision")
    device, plain = Device.parse(text), formats or ("onnx",)
    if precision is None:
        return text, plain, OWN
    if precision not in PRECISIONS:
        raise ValueTextError(f"precision: {precision!r}: choose from {', '.join(PRECISIONS)}")
    if device.imported:
        raise ValueTextError(f"precision: {text} has imported times, of unknown precision: leave it out, and give export")
    int8 = {FORMATS[name].runtime.name: name for name in FORMATS if FORMATS[name].int8}
    if precision == PRECISIONS[0]:
        if device.runtime in int8:
            raise ValueTextError(f"precision: float32, but {device.runtime} is int8: leave one of them out")
        return text, plain, OWN
    runtime = device.runtime if device.runtime in int8 else f"{device.runtime}-int8"
    if runtime not in int8:
        known = ", ".join(name.removesuffix("-int8") for name in int8)
        raise ValueTextError(f"precision: {device.runtime} does not run int8: use one of {known}, or leave it out")
    if formats and int8[runtime] not in formats:
        raise ValueTextError(f"precision: int8, but export has no {int8[runtime]}: add it, or leave export out")
    return replace(device, runtime=runtime).spec, formats or (int8[runtime],), int8[runtime]


def _share(value: Any) -> float:
    """Parse a share: 0.9 or "90 %" as 0.9."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ValueTextError(f"accuracy: {text!r}: a share such as 0.9 or 90 % is needed")
    return share


def specialise_fleet(options: SpecialiseOptions, members: Sequence[FleetDevice], *, progress: Progress = QUIET) -> list[FleetRow]:
    """Find, export and verify a network for each device; failures for one device do not affect the others.

    The table is saved in the run's fleet.json after each device. Devices that already have a network with the same weights, images
    and limits keep it.

    Args:
        options: for all networks: the run directory, and so on.
        members: the devices.
        progress: see `Progress`; its `result` gets each row as soon as it is ready.

    Raises:
        DataError: the run's task does not have a requested metric.
        StoppedError: stopped on request.
    """
    run = Run.open(options.folder, options.data)
    for member in members:
        if member.metric not in (None, *run.task.metrics):
            raise DataError(
                f"{member.name}: metric: {member.metric} does not suit {run.folder}: choose from {', '.join(run.task.metrics)}"
            )
    place = run.folder / RESULT
    stored = _stored(place)
    rows, records = list[FleetRow](), dict(stored)
    for member in members:
        old, key = stored.get(member.name), _key(run, member, options)
        if old is not None and old.key == key and old.row.folder is not None and (Path(old.row.folder) / "arch.json").exists():
            row, record = old.row, run.folder / "specialised" / f"{member.name}.json"
            if row.between is None and record.exists():  # an older file
                made = read_record(record, Specialised)
                row = replace(row, between=member.interval(made), missed=_missed(member, made))
            progress.say(f"{member.name}: unchanged, {row.folder}")
        else:
            given: dict[str, Any] = {"device": member.device, "export": member.export, "name": member.name, "metric": member.metric}
            own = replace(options, budgets=[member.budget], **given)
            row = _served(own, member, None if old is None else old.row, progress)
        rows.append(row)
        network = _network_of(row)
        if network and (same := next((other.name for other in rows[:-1] if _network_of(other) == network), None)):
            progress.say(f"{member.name}: same network as {same}")
        records[member.name] = _Served(_key(run, member, options), row)  # the search may have added a profile and a predictor
        write_record(place, _Fleet(records), FORMAT)
        progress.result(row)
    write_record(place, _Fleet({member.name: records[member.name] for member in members}), FORMAT)
    return rows


def _network_of(row: FleetRow) -> str | None:
    return None if row.folder is None else read_text(Path(row.folder) / "arch.json")


def _served(options: SpecialiseOptions, member: FleetDevice, last: FleetRow | None, progress: Progress) -> FleetRow:
    before = None if last is None or last.test is None or last.latency_ms is None else (last.test, last.latency_ms)
    try:
        named = replace(progress, say=lambda text: progress.say(f"{member.name}: {text}"), result=QUIET.result)
        (found,) = specialise(options, progress=named)
    except StoppedError:
        raise
    except OnceForAllError as error:
        row = FleetRow(member.name, missed=str(error), before=before)
        return row if last is None else replace(row, **{name: getattr(last, name) for name in LIKE}, limits=last.limits)
    missed, (metric, value) = _missed(member, found), member.test(found)
    precision = PRECISIONS[FORMATS[member.tested].int8 and member.tested in found.tests]
    row = FleetRow(
        member.name, str(found.folder), missed, value, found.test.images, found.latency.ms, None,
        metric, precision, Device.parse(member.device).spec, str(member.budget), between=member.interval(found),
    )  # fmt: skip
    if last is None or before is None:
        return row
    if any(getattr(last, name) not in ("", getattr(row, name)) for name in LIKE):
        on = f" on {last.device}" if last.device else ""
        progress.say(f"{member.name}: not compared with the last time, which was {last.metric} in {last.precision}{on}")
        return row
    return replace(row, before=before, before_limits=last.limits if last.limits not in ("", row.limits) else None)


def _missed(member: FleetDevice, found: Specialised) -> str | None:
    """Why a network does not meet its device's requirements; None if it does."""
    if missing := [name for name in member.export if name in found.left_out]:
        return f"{missing[0]}: {found.left_out[missing[0]]}"
    metric, value = member.test(found)
    if member.accuracy is not None and value < member.accuracy:
        return f"misses its required accuracy: test {metric} is {100 * value:.1f} %, {100 * member.accuracy:g} % is required"
    return None


def _key(run: Run, member: FleetDevice, options: SpecialiseOptions) -> str:
    """A key of everything a device's network depends on."""
    own = ("folder", "data", "budgets", "device", "export", "name", "metric")  # given by the member, or irrelevant
    others = {name: value for name, value in vars(options).items() if name not in own}
    files = [
        run.folder / "latency" / str(Device.parse(member.device)) / "table.json",
        run.judged_by(member.metric).accuracy / "predictor.safetensors",
    ]
    known = [sha256(path) for path in files if path.exists()]
    metric = member.metric or (None if run.metric in ("top1", "map") else run.metric)
    known += [text for text in (metric, member.tested) if text not in (None, OWN)]
    text = repr([run.weights_hash(), run.require_images().fingerprint, member, known, sorted(others.items())])
    return text_sha256(text.replace("FleetDevice(", "Member(", 1))[:16]  # the class's former name, so that older files stay valid


def fleet_misses(run: Run) -> dict[str, str]:
    """The devices of the run's fleet that have no suitable network, and why.

    Raises:
        FileError: fleet.json is damaged.
    """
    return {name: served.row.missed for name, served in _stored(run.folder / RESULT).items() if served.row.missed is not None}


def _stored(path: Path) -> dict[str, _Served]:
    """The stored results of the last time."""
    again = "move it away, and all networks are made again"
    return read_record(path, _Fleet, FORMAT, otherwise=again).devices if path.exists() else {}
