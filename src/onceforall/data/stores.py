"""Options for opening data, and the decoded images of all parts: one file per part on the disk, or not kept at all."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from ..common.files import make_folder
from ..errors import DataError, FileError
from .cache import OnProgress, Store, cache_part, expected_bytes
from .originals import Part, Read
from .reading import AS_IT_IS, Reading, require_cache

CACHE_GB = 8.0
FREE_SHARE = 0.5  # the most that "auto" uses of the free disk space, leaving room for evaluation pixels and checkpoints


@dataclass(frozen=True)
class DataOptions:
    """Arguments of `onceforall.data.open_data`.

    Args:
        source: what to open, see `open_source`.
        size: images are kept with a short side of at most this; use the longest side of all resolutions / 0.875.
        holdout: share of the training images to hold out if the data have no held-out part; at most 10,000 images.
        seed: of the choice of held-out images. The test part never depends on it.
        cache: folder for decoded images; None for the user's cache folder.
        caching: "decoded" keeps the decoded images in that folder, "none" only facts about them; "auto" decides, see `open_stores`.
        limit_gb: limit for the decoded images on the disk, and again for the pixels for evaluation.
        limit: use only the first n images of each part, stratified; for quick tries.
        how: how to read images: their largest size, channels, and which values of more than 8 bits become black and white.
        exact: use exactly `limit` images; earlier versions used approximately that many.
        reading: which labels, classes and groups; see `Reading`.

    Raises:
        DataError: a number is out of range.
    """

    source: str
    _: KW_ONLY
    size: int
    holdout: float = 0.1
    seed: int = 0
    cache: Path | None = None
    caching: str = "decoded"
    limit_gb: float = CACHE_GB
    limit: int | None = None
    how: Read = field(default=Read())
    exact: bool = True
    reading: Reading = AS_IT_IS

    def __post_init__(self) -> None:
        if self.size < 8:
            raise DataError(f"images of size {self.size} are too small to keep: use 8 or more")
        if not 0 < self.holdout <= 0.5:
            raise DataError(f"the held-out share is {self.holdout}: it must be above 0 and at most 0.5")
        if self.seed < 0:
            raise DataError(f"the seed is {self.seed}: use 0 or more")
        if self.limit is not None and self.limit < 1:
            raise DataError(f"the limit is {self.limit} images: use 1 or more, or none")


def open_stores(
    parts: Mapping[str, Part],
    options: DataOptions,
    folder: Path,
    on_progress: OnProgress = lambda done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> dict[str, Store]:
    """Decode the images of each part into the folder, or only collect facts about them, decoding each once without keeping it.

    With `caching` "auto" they are kept if they take at most `limit_gb` and half of the free disk; otherwise a note says that
    they are not.

    Raises:
        DataError: `caching` is unknown, decoded images exceed the limit, or they are not to be kept but cannot be read one by
            one.
        FileError: the disk has no room for decoded images.
    """
    size, limit_gb, caching = options.size, options.limit_gb, options.caching
    require_cache(caching)
    if caching != "none":
        why, how, kind = _no_room(parts, size, folder, limit_gb, share=FREE_SHARE if caching == "auto" else 1.0)
        if why and caching == "decoded":
            raise kind(f"{why}: {how}, cache none of them (--cache none), lower the size, or use fewer images")
        if why:
            on_note(f"{why}: training images are decoded whenever they are needed, as with --cache none")
        caching = "none" if why else "decoded"
    if caching == "none" and (reason := parts["train"].only_in_order):
        raise DataError(f"{reason}, or decode all images once (--cache decoded)")
    stores: dict[str, Store] = {}
    images, done, left = sum(map(len, parts.values())), 0, int(limit_gb * 1e9)
    for name, part in parts.items():

        def report(part_done: int, part_images: int, before: int = done) -> None:
            on_progress(before + part_done, images)

        stores[name] = cache_part(
            part, size=size, folder=folder, limit_bytes=left, decoded=caching == "decoded", on_progress=report
        )
        left -= stores[name].bytes
        done += len(part)
    return stores


def _no_room(
    parts: Mapping[str, Part], size: int, folder: Path, limit_gb: float, share: float
) -> tuple[str, str, type[DataError] | type[FileError]]:
    """Why decoded images do not fit there ("" if they do), what to do, and the type of the error."""
    expected = [expected_bytes(part, size=size, folder=folder) for part in parts.values()]
    total, missing = sum(found for found, _ in expected), sum(found for found, cached in expected if not cached)
    images = sum(map(len, parts.values()))
    if total > limit_gb * 1e9:
        what = (
            f"{images:,} images of size {size} would take about {total / 1e9:.1f} GB in {folder}, over the limit of {limit_gb:g} GB"
        )
        return what, "raise it with --cache-gb", DataError
    if missing:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        if missing > share * free:
            part = "" if share == 1 else f", of which {share:.0%} may be used"
            what = f"{folder}: the decoded images need about {missing / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free{part}"
            return what, "free some space, choose another cache folder", FileError
    return "", "", DataError
