"""`ofa specialise --fleet FILE`: one network for each device of a list, what came of it in one table, and what changed since."""

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
from .specialising.taken_home import Specialised

RESULT = "fleet.json"
FORMAT = "onceforall.fleet/1"
MOST_BYTES = 1 << 20
KEYS = ("name", "device", *LIMITS, "precision", "export", "metric", "accuracy")
PRECISIONS = ("float32", "int8")
LIKE = ("metric", "precision", "device")  # of rows that are compared
OWN = "pytorch"  # the network itself, of which the card tells


@dataclass(frozen=True)
class FleetDevice:
    """A device of a fleet.

    Args:
        name: of the folder that its network gets.
        device: that was profiled.
        budget: what the network may cost.
        export: formats.
        accuracy: least test accuracy, a fraction; None for any.
        metric: of `accuracy`, and what networks are chosen by; None for the run's.
        tested: the format whose test accuracy counts: an int8 file where the device is to run that.
    """

    name: str
    device: str
    budget: Budget
    export: tuple[str, ...] = ("onnx",)
    accuracy: float | None = None
    metric: str | None = field(default=None, repr=False)  # of both, `_key` tells where they are given
    tested: str = field(default=OWN, repr=False)

    def test(self, found: Specialised) -> tuple[str, float]:
        """Name and value of the test accuracy that counts."""
        tested = found.tests.get(self.tested, found.test)  # what was left out has none
        metric = found.metric or "top1"
        return METRICS[metric], tested.score(metric)

    def interval(self, found: Specialised) -> tuple[float, float] | None:
        """95 % interval of it; through an int8 file as wide as through the others, but for top-1."""
        metric, (_, value) = found.metric or "top1", self.test(found)
        if metric == "top1":
            return wilson(value, found.test.images)
        own = found.labels.interval if found.labels else found.confusion.interval(metric) if found.confusion else None
        by = value - found.test.score(metric)
        return None if own is None else (max(0.0, own[0] + by), min(1.0, own[1] + by))


@dataclass(frozen=True)
class FleetRow:
    """What came of one device.

    Args:
        folder: of its network; None if it has none.
        missed: why the device is not served, in one line; None if it is.
        test: by the device's metric, or the run's, on `images` test images; None without a network.
        latency_ms: of the network there.
        before: `test` of the last time, and its latency; None where there was none, or of another device, metric or precision.
        metric: of `test`, in words; without a network, of `before`, as the three that follow.
        precision: of the file that `test` was measured through.
        device: "" in files of before that was written down, as the limits.
        limits: in words.
        before_limits: of `before`, where they were others.
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
        """95 % interval of the test accuracy; files of before tell that of top-1 only."""
        own = None if self.test is None or self.metric != METRICS["top1"] else wilson(self.test, self.images)
        return self.between or own


@dataclass(frozen=True)
class _Served:
    """A row, and the key of all that it depends on."""

    key: str
    row: FleetRow


@dataclass(frozen=True)
class _Fleet:
    """What fleet.json holds, by the devices' names."""

    devices: dict[str, _Served]


def read_fleet(path: Path) -> list[FleetDevice]:
    """The devices of a file: `devices`, a list with `name`, `device` (cpu if left out), limits as on the command line, `precision`,
    `export`, `metric` and the least `accuracy`.

    Raises:
        FileError: it cannot be read, or something in it is not what a fleet needs; the line names it.
    """
    import yaml

    try:
        data = yaml.safe_load(read_text(path, MOST_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # as of a date that there is not
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
    if odd := [str(key) for key in entry if key not in KEYS]:
        raise FileError(f"{where}: unknown {', '.join(odd)}: use {', '.join(KEYS)}")
    if "/" in entry["name"] or "\\" in entry["name"] or entry["name"].strip().startswith("."):
        raise FileError(f"{where}: the name becomes that of a folder: leave out / and a dot at its beginning")
    try:
        limits = {key: flag.read(str(entry[key])) for key, flag in LIMITS.items() if key in entry and flag.read}
        accuracy = _share(entry["accuracy"]) if "accuracy" in entry else None
        budgets = budgets_of(**limits)
    except OnceForAllError as error:
        raise FileError(f"{where}: {error}") from None
    if not budgets:
        raise FileError(f"{where}: no limit: give one of {', '.join(LIMITS)}")
    if len(budgets) > 1:
        raise FileError(f"{where}: several latencies: one is needed; for several, name several devices")
    export, metric = entry.get("export"), entry.get("metric")
    given = export if isinstance(export, list) else [] if export is None else str(export).split(",")
    try:
        device, formats, tested = _at_precision(entry, tuple(str(one).strip() for one in given))
    except OnceForAllError as error:
        raise FileError(f"{where}: {error}") from None
    if metric is not None and not (isinstance(metric, str) and metric in METRICS):
        raise FileError(f"{where}: metric: {metric!r}: choose from {', '.join(METRICS)}")
    return FleetDevice(entry["name"].strip(), device, budgets[0], formats, accuracy, metric, tested)


def _at_precision(entry: dict[str, Any], formats: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """Device, formats and the format that is tested, for the precision that an entry asks for.

    Raises:
        OnceForAllError: an unknown device or precision, or one that the device or the formats do not have.
    """
    text, precision = str(entry.get("device", "cpu")), entry.get("precision")
    device, plain = Device.parse(text), formats or ("onnx",)
    if precision is None:
        return text, plain, OWN
    if precision not in PRECISIONS:
        raise ValueTextError(f"precision: {precision!r}: choose from {', '.join(PRECISIONS)}")
    if device.imported:
        raise ValueTextError(f"precision: the times of {text} are of whatever was timed there: leave it out, and give export")
    int8 = {FORMATS[name].runtime.name: name for name in FORMATS if FORMATS[name].int8}
    if precision == PRECISIONS[0]:
        if device.runtime in int8:
            raise ValueTextError(f"precision: float32, but {device.runtime} is int8: leave one of them out")
        return text, plain, OWN
    runtime = device.runtime if device.runtime in int8 else f"{device.runtime}-int8"
    if runtime not in int8:
        known = ", ".join(name.removesuffix("-int8") for name in int8)
        raise ValueTextError(f"precision: {device.runtime} has no int8: use one of {known}, or leave it out")
    if formats and int8[runtime] not in formats:
        raise ValueTextError(f"precision: int8, but export has no {int8[runtime]}: add it, or leave export out")
    return replace(device, runtime=runtime).spec, formats or (int8[runtime],), int8[runtime]


def _share(value: Any) -> float:
    """0.9 or "90 %" as 0.9."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ValueTextError(f"accuracy: {text!r}: a share such as 0.9 or 90 % is needed")
    return share


def specialise_fleet(options: SpecialiseOptions, members: Sequence[FleetDevice], *, progress: Progress = QUIET) -> list[FleetRow]:
    """Find, export and prove a network for each device; one that cannot be served does not keep the others from being.

    The table is written to fleet.json of the run after each device. Devices whose network is there, of the same weights, images
    and limits, are taken from it.

    Args:
        options: of all networks: the run directory, and so on.
        members: the devices.
        progress: see `Progress`; its `result` gets each row as it comes.

    Raises:
        DataError: a metric that the run's task does not have.
        StoppedError: on request.
    """
    run = Run.open(options.folder, options.data)
    for member in members:
        if member.metric not in (None, *run.task.metrics):
            raise DataError(
                f"{member.name}: metric: {member.metric}: networks of {run.folder} are judged by {', '.join(run.task.metrics)}"
            )
    place = run.folder / RESULT
    stored = _stored(place)
    rows, records = list[FleetRow](), dict(stored)
    for member in members:
        old, key = stored.get(member.name), _key(run, member, options)
        if old is not None and old.key == key and old.row.folder is not None and (Path(old.row.folder) / "arch.json").exists():
            row = old.row
            progress.say(f"{member.name}: as before, {row.folder}")
        else:
            given: dict[str, Any] = {"device": member.device, "export": member.export, "name": member.name, "metric": member.metric}
            own = replace(options, budgets=[member.budget], **given)
            row = _served(own, member, None if old is None else old.row, progress)
        rows.append(row)
        network = _network_of(row)
        if network and (same := next((other.name for other in rows[:-1] if _network_of(other) == network), None)):
            progress.say(f"{member.name}: same network as {same}")
        records[member.name] = _Served(_key(run, member, options), row)  # the search may have made a profile and a predictor
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
        progress.say(f"{member.name}: not compared with before, which was {last.metric} in {last.precision}{on}")
        return row
    return replace(row, before=before, before_limits=last.limits if last.limits not in ("", row.limits) else None)


def _missed(member: FleetDevice, found: Specialised) -> str | None:
    """Why a network that was made does not serve its device."""
    if missing := [name for name in member.export if name in found.left_out]:
        return f"{missing[0]}: {found.left_out[missing[0]]}"
    metric, value = member.test(found)
    if member.accuracy is not None and value < member.accuracy:
        return f"misses its floor: test {metric} is {100 * value:.1f} %, {100 * member.accuracy:g} % are asked for"
    return None


def _key(run: Run, member: FleetDevice, options: SpecialiseOptions) -> str:
    """A key of all that a device's network depends on."""
    own = ("folder", "data", "budgets", "device", "export", "name", "metric")  # which the member says, or that do not matter
    others = {name: value for name, value in vars(options).items() if name not in own}
    files = [
        run.folder / "latency" / str(Device.parse(member.device)) / "table.json",
        run.judged_by(member.metric).accuracy / "predictor.safetensors",
    ]
    known = [sha256(path) for path in files if path.exists()]
    metric = member.metric or (None if run.metric in ("top1", "map") else run.metric)
    known += [text for text in (metric, member.tested) if text not in (None, OWN)]
    text = repr([run.weights_hash(), run.require_images().fingerprint, member, known, sorted(others.items())])
    return text_sha256(text.replace("FleetDevice(", "Member(", 1))[:16]  # its name when files were first written


def fleet_misses(run: Run) -> dict[str, str]:
    """The devices of the run's fleet that are not served as asked, and why.

    Raises:
        FileError: fleet.json is damaged.
    """
    return {name: one.row.missed for name, one in _stored(run.folder / RESULT).items() if one.row.missed is not None}


def _stored(path: Path) -> dict[str, _Served]:
    """What the last time left."""
    again = "move it away, and all networks are made again"
    return read_record(path, _Fleet, FORMAT, otherwise=again).devices if path.exists() else {}
