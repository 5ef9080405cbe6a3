"""Open the images of a new run."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path

from ...common.places import expanded
from ...common.progress import QUIET, Progress
from ...data import CACHE_GB, Read, Splits, open_data
from ...data.reading import HUB
from ...options.training import ImportOptions, TrainOptions
from ...resolutions import height_width, longest_side
from ...scores import METRICS, imbalance
from ...space import Space
from ...tasks.task import task_of
from .info import DataInfo

NEW_PLACE = "NEW_PLACE"  # placeholder in suggested commands


def data_asked(options: TrainOptions | ImportOptions, source: str, space: Space, crop_share: float) -> DataInfo:
    """How a command that makes a run opens its images; their fingerprint is not known yet.

    Images are kept at the longest side and largest aspect ratio that the space's networks take.

    Raises:
        DataError: images with the space's number of channels are not supported.
    """
    long = max(max(sides) / min(sides) for sides in map(height_width, space.resolutions))
    how = Read(options.max_pixels, space.channels, options.range, 2.0 * long)
    return DataInfo(
        source,
        ceil(longest_side(space.resolutions) / crop_share),
        options.holdout,
        options.seed,
        options.limit,
        "",
        default_gb(options.cache) if options.cache_gb is None else options.cache_gb,
        how.max_pixels,
        channels=how.channels,
        range=how.range,
        long=how.long,
        reading=options.reading,
        cache=options.cache or "auto",
    )


def default_gb(cache: str | None) -> float:
    """Default limit for decoded images on disk; 0 with "none", for evaluation, too."""
    return 0.0 if cache == "none" else CACHE_GB


def open_images(
    asked: DataInfo,
    *,
    on_classes: Callable[[tuple[str, ...]], None] = lambda names: None,
    progress: Progress = QUIET,
    known_channels: bool = True,
) -> tuple[DataInfo, Splits]:
    """Decode and split the images; also return how to open them again.

    Args:
        asked: how to open the images.
        on_classes: called with the names of the classes before anything is decoded; may raise an error.
        progress: its `event` gets "decode" records, then one "data" record, then notes on images left out or doubtful.
        known_channels: the number of channels was given or follows from the weights; otherwise a note tells if one is enough.

    Raises:
        DataError: see `onceforall.data.open_data`.
        FileError: the cache cannot be written.
    """
    source = lasting_data(asked.source)
    if source.startswith(HUB):
        from ...data.formats.hub_data import fetched

        source = fetched(source, on_note=progress.note, tell=progress.event)
    splits = open_data(
        source, **asked.options, compare=True, on_classes=on_classes, on_progress=decoding(progress), on_note=progress.note
    )
    counts = {
        "train": len(splits.train),
        "held_out": len(splits.held_out),
        "test": splits.test_size,
        "classes": len(splits.classes),
        "problems": splits.unreadable,
        "duplicates": splits.duplicates,
    }
    progress.event({"event": "data", **counts})
    for remark in splits.remarks:
        progress.note(remark)
    if splits.gray and not known_channels and asked.channels == 3:
        progress.note(
            "no training image shows a color: --channels 1 would make networks for gray images, whose input is a third as large"
        )
    return replace(asked, source=source, asked=asked_as(asked.source), fingerprint=splits.fingerprint, cache=splits.cache), splits


def decoding(progress: Progress) -> Callable[[int, int], None]:
    """A function that reports "decode" records."""
    return lambda done, total: progress.event({"event": "decode", "done": done, "total": total})


def metric_of(asked: str | None, task: str | None, splits: Splits, note: Callable[[str], None]) -> str:
    """The requested metric, else the one suited to the training images; a note says so unless it is the task's default."""
    if asked is not None:
        return asked
    own = task_of(task)
    chosen = own.default_metric(splits.train.labels)
    if chosen != own.metrics[0]:
        times = imbalance(splits.train.labels)
        what = f"one class has {times:.0f} times as many images as another: networks are chosen by {METRICS[chosen]}"
        note(f"{what}; to choose by the share of all images: --metric top1")
    return chosen


def lasting_data(data: str) -> str:
    """The data's name, valid from any working folder: paths become absolute, also in "torchvision:NAME:FOLDER"."""
    _, folder = _divided(data)
    return absolute(data) if folder and expanded(folder).exists() else data


def same_place(data_info: DataInfo, data: str) -> bool:
    """Whether `data` names the known place of the data; on the Hub, with its commit or none, or as originally requested."""
    known = data_info.source
    if known.startswith(HUB) and data.startswith(HUB):
        from ...data.formats.hub_data import is_pinned_by

        return data == data_info.asked or is_pinned_by(data, known)
    return known in (lasting_data(data), absolute(data))  # the second if the images are gone


def asked_as(data: str) -> str:
    """The user's text for data on the Hub, which may have a tag or branch in place of the commit; "" for others."""
    return data if data.startswith(HUB) else ""


def place_now(data: str) -> str:
    """The lasting name of the data: `lasting_data`, or on the Hub the name with the current commit."""
    if not data.startswith(HUB):
        return lasting_data(data)
    from ...data.formats.hub_data import pinned

    return pinned(data)


def short_name(source: str) -> tuple[str, str]:
    """The data's name on cards (of the data set, file or folder), and the commit of a data set on the Hub, or ""."""
    if source.startswith(HUB):
        from ...data.formats.hub_data import name_and_commit

        return name_and_commit(source)
    head, folder = _divided(source)
    return head.split(":")[1] if head else Path(folder).name, ""


def of_commit(name: str, commit: str) -> list[str]:
    """A card's note on the commit that `short_name` leaves out of the name."""
    return [f"The data are commit {commit} of {name} on the Hugging Face Hub."] if commit else []


def absolute(data: str) -> str:
    """The data's name with an absolute path, whether it exists or not."""
    head, folder = _divided(data)
    return data if data == "digits" or not folder else f"{head}{expanded(folder).resolve()}"


def gone(source: str) -> str:
    """Why the images cannot be there, judging by their folder; "" if they can."""
    if source == "digits" or source.startswith(HUB):  # data from the Hub are fetched again
        return ""
    folder = root_of(source)
    try:
        there = folder.is_file() or any(folder.iterdir())  # a table or an archive, or a folder
        return "" if there else f"{folder}: the images are gone, the folder is empty"
    except FileNotFoundError:
        return f"{folder}: the images are no longer there"
    except (OSError, ValueError) as error:  # ValueError: this locale cannot encode the name
        return f"{folder}: the images cannot be read ({error.strerror if isinstance(error, OSError) else error})"


def root_of(source: str) -> Path:
    """The folder or file that holds the data."""
    return expanded(_divided(source)[1])


def _divided(source: str) -> tuple[str, str]:
    """The data's name as what precedes the folder, such as "torchvision:CIFAR10:", and the folder."""
    if source.startswith(HUB):
        return source, ""
    kind, name, folder = [*source.split(":", 2), "", ""][:3]
    return (f"{kind}:{name}:", folder) if kind == "torchvision" else ("", source)
