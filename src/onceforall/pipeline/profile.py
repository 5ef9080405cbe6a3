"""`ofa profile`: measure a device, to estimate the latency of every network in a run's space on it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..backends import RUNTIMES
from ..common.advice import ofa
from ..common.arguments import takes
from ..common.files import locked, make_folder
from ..common.places import cache_folder
from ..common.progress import QUIET, Progress
from ..errors import DeviceError, FileError
from ..latency import QUICK, Device, Effort, LatencyTable, available, export_kit, import_results, profile_space
from ..latency.device import IMPORTED
from ..options.measuring import ProfileOptions
from ..space import Space
from .run_directory.run import Run

LEVELS = "levels.jsonl"  # levels of devices, beside the decoded images
CLASSES = 1000  # for a space without a run: ImageNet's


@takes(ProfileOptions)
def profile(options: ProfileOptions, *, progress: Progress = QUIET) -> LatencyTable:
    """Measure a device and save its latency table in the run directory, or in `out`. Needs no trained weights.

    Args:
        progress: its `count` gets measurements done, measurements needed, and what is being measured with the estimated time.

    Returns:
        The table; `table.errors` compares it with measured networks that it was not fitted to.
    """
    space, num_classes = _networks(options.networks, options.classes)
    chosen = Device.parse(options.device)
    if chosen.imported:
        raise DeviceError(f"{options.device}: it cannot be measured from here: give its times with --import-results")
    effort = replace(QUICK if options.quick else Effort(), target=options.target)
    with _own(_place(options.networks, options.out, chosen)) as place:
        table = profile_space(
            space,
            num_classes,
            chosen,
            folder=place,
            seed=options.seed,
            effort=effort,
            again=options.again,
            levels=cache_folder() / LEVELS,
            progress=progress,
        )
        table.save(place / "table.json")
    return table


def kit(
    source: Path | Space,
    target: Path,
    *,
    classes: int | None = None,
    quick: bool = False,
    seed: int = 0,
    progress: Progress = QUIET,
) -> int:
    """Write the models to time on a device that this program cannot reach; `imported` reads the times.

    Args:
        source: a run directory, or a space.
        target: folder to create: ONNX files with made-up weights, manifest.json, and results.csv to fill in.
        quick: write fewer models.
        progress: its `count` gets files written, the total, and what is being written.

    Returns:
        The number of models.
    """
    space, num_classes = _networks(source, classes)
    return len(export_kit(space, num_classes, Path(target), QUICK if quick else Effort(), seed=seed, progress=progress))


def imported(
    source: Path | Space, results: Path, device: str, *, out: Path | None = None, classes: int | None = None
) -> LatencyTable:
    """Make a device's latency table from the times of a kit's models, saved in the run directory or in `out`.

    Args:
        source: a run directory, or a space.
        results: the kit's results.csv, filled in.
        device: "imported@NAME", as for the other commands.
    """
    space, num_classes = _networks(source, classes)
    kind, _, name = device.partition("@")
    if kind != IMPORTED:
        raise DeviceError(f"{device}: imported times need a name of their own: give --device imported@NAME")
    table = import_results(space, num_classes, Path(results), name)
    with _own(_place(source, out, table.device)) as place:
        table.save(place / "table.json")
    return table


def profiled(run: Run, device: str) -> bool:
    """Whether the run has a latency table for the device."""
    return (run.folder / "latency" / str(Device.parse(device)) / "table.json").exists()


def latency_tables(run: Run) -> dict[Path, LatencyTable]:
    """All latency tables of the run by folder, in the order of the runtimes, including those of other processors and versions.

    Raises:
        FileError: a table is damaged.
    """
    files = sorted((run.folder / "latency").glob("*/table.json"))
    tables = {file.parent: LatencyTable.load(file, run.space, run.num_classes) for file in files}
    order = [*RUNTIMES, IMPORTED]
    return dict(sorted(tables.items(), key=lambda item: order.index(item[1].device.runtime)))


def latency_table(run: Run, device: str) -> LatencyTable:
    """The latency table that `profile` made.

    Raises:
        FileError: the device has not been profiled yet.
        DeviceError: it was profiled on another processor or with another version of the runtime.
    """
    chosen = Device.parse(device)
    path = run.folder / "latency" / str(chosen) / "table.json"
    if not path.exists():
        how = ("--import-results", "FILE", "--device", device) if chosen.imported else ("--device", device)
        measured = sorted(file.parent.name for file in (run.folder / "latency").glob("*/table.json"))
        there = f"; profiled so far: {', '.join(measured)}" if measured else ""
        raise FileError(f"{run.folder}: {device} has not been profiled yet: {ofa('profile', run.folder, *how)}{there}")
    table = LatencyTable.load(path, run.space, run.num_classes)
    if chosen.host is not None:
        return table
    here = available(chosen.runtime)
    if (table.processor, table.version) != (here.processor, here.version or ""):
        raise DeviceError(
            f"{path}: measured on {table.processor} with {chosen.runtime} {table.version}, this machine has {here.processor} and "
            f"{here.version}: {ofa('profile', run.folder, '--device', device, '--again')}"
        )
    return table


def _networks(source: Path | Space, classes: int | None) -> tuple[Space, int]:
    """A space and its networks' number of classes."""
    if isinstance(source, Space):
        if classes is not None and classes < 1:
            raise DeviceError(f"--classes {classes}: give at least 1")
        return source, CLASSES if classes is None else classes
    run = Run.open(source)
    if classes not in (None, run.num_classes):
        raise DeviceError(f"--classes {classes}: {source} has {run.num_classes} classes: leave it out")
    return run.space, run.num_classes


def _place(source: Path | Space, out: Path | None, device: Device) -> Path:
    """The folder of a latency table."""
    if out is not None:
        return Path(out)
    if isinstance(source, Space):
        raise FileError("a space has no folder of its own: give --out FOLDER for the table, or a run directory")
    return Path(source) / "latency" / str(device)


@contextmanager
def _own(place: Path) -> Iterator[Path]:
    """Create and lock a folder; if nothing was measured in it, whatever was created is deleted again."""
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    with locked(make_folder(place)):
        try:
            yield place
        except BaseException:
            if made and not (place / "measurements.jsonl").exists():
                for name in ("profile.json", ".lock"):
                    (place / name).unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    for folder in made:
                        folder.rmdir()
            raise
