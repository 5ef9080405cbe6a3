"""Pixels for evaluation: originals fitted to a resolution by `onceforall.preprocess` and kept in the user's cache.

Each part of the data, resolution and crop has a folder: pixels.bin (uint8, height × width × channels for each image) and
positions.npy (int64, position of each image in the part), both in the order of the requests. Images are appended
and flushed before positions.npy is replaced, so every image that it lists is complete. The least recently used folders
make room for new ones.
"""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from .. import preprocess
from ..common.files import make_folder, one_at_a_time, reading_or_writing
from ..common.processors import processors
from ..common.readable import duration
from ..errors import FileError
from ..resolutions import Resolution, by_sides, height_width
from .cache import in_threads, save_array
from .originals import Indices, Load, Part, digest
from .preparation import Preprocessing

AT_ONCE = 512  # images written before positions.npy is updated: the most that an interrupt can lose
PATIENCE_S, SILENCE_S = 2.0, 60.0  # before the first note on the time left, and between notes
PIXELS, POSITIONS = "pixels.bin", "positions.npy"


@dataclass(frozen=True)
class Keep:
    """Where fitted pixels are kept.

    Args:
        folder: the cache folder.
        limit_bytes: limit for the fitted pixels of all data in it.
        tell: called with a line when fitting takes long.
        elsewhere: returns a folder for pixels missing from `folder`, which may be read-only.
    """

    folder: Path
    limit_bytes: int
    tell: Callable[[str], None] = lambda text: None
    elsewhere: Callable[[], Path] | None = None


def fitted_batches(
    part: Part, groups: Sequence[Indices], resolution: Resolution, steps: Preprocessing, keep: Keep
) -> Iterator[NDArray[np.uint8]]:
    """For each group of positions in the part, its images as (n, height, width, channels).

    Images not in the cache are decoded, one thread per CPU, and cached if the limit allows it and the file system has locks.

    Raises:
        DataError: an original cannot be read any more.
        FileError: the cache cannot be written, or the disk is full.
    """
    wanted = np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
    shape = (*height_width(resolution), part.how.channels)
    if len(wanted) * prod(shape) > keep.limit_bytes:
        yield from _uncached(part, groups, resolution, steps)
        return
    place = _place(part, resolution, steps, keep.folder)
    known, pixels = _open(place, shape)
    if keep.elsewhere is not None and not np.isin(wanted, known).all():
        place = _place(part, resolution, steps, keep.elsewhere())
        known, pixels = _open(place, shape)
    if not np.isin(wanted, known).all():
        make_folder(place.parent)
        with one_at_a_time(_lock(place)) as alone:  # one of several processes decodes, the others wait
            if not alone:  # two processes appending to one file would mix up their images
                yield from _uncached(part, groups, resolution, steps)
                return
            known, _ = _open(place, shape)
            missing = np.setdiff1d(wanted, known)
            _make_room(place, len(missing) * prod(shape), keep.limit_bytes)
            _append(part, place, known, missing, resolution, steps, keep.tell)
            known, pixels = _open(place, shape)
    if not np.isin(wanted, known).all():
        raise FileError(f"{place}: the cache cannot be read back just after it was written: check the disk")
    with suppress(OSError):
        os.utime(place / POSITIONS)  # marks it as used now
    order = np.argsort(known)
    for group in groups:
        yield pixels[order[np.searchsorted(known, group, sorter=order)]]


def _uncached(part: Part, groups: Sequence[Indices], resolution: Resolution, steps: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    """As `fitted_batches`, without the cache."""
    if (np.diff(np.concatenate(groups)) > 0).all():
        with closing(_fitted(part, np.concatenate(groups), resolution, steps)) as images:
            yield from (np.stack(list(islice(images, len(group)))) for group in groups)
    else:
        for group in groups:
            ascending, back = np.unique(group, return_inverse=True)
            with closing(_fitted(part, ascending, resolution, steps)) as images:
                yield np.stack(list(images))[back]


def _place(part: Part, resolution: Resolution, steps: Preprocessing, folder: Path) -> Path:
    """The folder for these pixels; it depends on the part, the code of the preprocessing and the version of Pillow."""
    code = Path(preprocess.__file__).read_text(encoding="utf-8")
    settings = str(resolution), repr(steps.crop_share), repr(steps.interpolation)
    return folder / "fitted" / digest([code, PIL.__version__, part.identity, *settings])


def _lock(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def _open(place: Path, image: tuple[int, ...]) -> tuple[Indices, NDArray[np.uint8]]:
    """The positions of the cached images and their memory-mapped pixels; empty if the folder is incomplete."""
    try:
        positions = np.load(place / POSITIONS, allow_pickle=False)
        shape = (len(positions), *image)
        whole = (place / PIXELS).stat().st_size >= prod(shape)
        if positions.dtype == np.int64 and positions.ndim == 1 and len(positions) and whole:
            return positions, np.asarray(np.memmap(place / PIXELS, np.uint8, "r", shape=shape))
    except (OSError, EOFError, ValueError, TypeError):
        pass
    return np.zeros(0, np.int64), np.zeros((0, *image), np.uint8)


def _fitted(
    part: Part, positions: Indices, resolution: Resolution, steps: Preprocessing
) -> Generator[NDArray[np.uint8], None, None]:
    """Decode and fit the images at ascending positions."""

    def fit(load: Load) -> NDArray[np.uint8]:
        return preprocess.pixels_of(preprocess.fit(load(how=part.how), resolution, steps.crop_share, steps.interpolation))

    return in_threads(part, positions, fit, processors())


def _append(
    part: Part,
    place: Path,
    known: Indices,
    missing: Indices,
    resolution: Resolution,
    steps: Preprocessing,
    tell: Callable[[str], None],
) -> None:
    """Append the missing images to the cached ones."""
    block, kept = part.how.channels * prod(height_width(resolution)), 0
    what = f"preparing {len(missing):,} images at {by_sides(resolution)} for evaluation, once"
    start = time.monotonic()
    tell_at = start + PATIENCE_S
    with reading_or_writing(place):
        place.mkdir(exist_ok=True)
        if not len(known):
            (place / PIXELS).unlink(missing_ok=True)  # another process may have mapped it
        with open(place / PIXELS, "ab") as file, closing(_fitted(part, missing, resolution, steps)) as images:
            file.truncate(len(known) * block)  # drops what a killed process left
            try:
                for done, pixels in enumerate(images, start=1):
                    file.write(pixels.tobytes())
                    if done - kept == AT_ONCE or done == len(missing):
                        file.flush()
                        os.fsync(file.fileno())
                        known, kept = np.concatenate([known, missing[kept:done]]), done
                        save_array(place / POSITIONS, known)
                    now = time.monotonic()
                    left = (now - start) / done * (len(missing) - done)
                    if now > tell_at and left > PATIENCE_S:
                        tell(f"{what}: about {duration(left)} left")
                        tell_at = now + SILENCE_S
            except OSError:
                with suppress(OSError):
                    file.truncate(len(known) * block)
                raise


def _make_room(place: Path, need: int, limit_bytes: int) -> None:
    """Remove the least recently used folders until `need` more bytes fit; a `FileError` if the disk has no room."""

    def used(folder: Path) -> float:
        try:
            return (folder / POSITIONS).stat().st_mtime
        except OSError:
            return 0.0

    def size(folder: Path) -> int:
        try:
            return (folder / PIXELS).stat().st_size
        except OSError:
            return 0

    with reading_or_writing(place.parent):
        others = sorted((path for path in place.parent.iterdir() if path.is_dir() and path != place), key=used)
        total = size(place) + sum(map(size, others)) + need
        for folder in others:
            free = shutil.disk_usage(place.parent).free
            if total <= limit_bytes and need <= free:
                return
            with suppress(FileError), one_at_a_time(_lock(folder), wait=False):  # another process may be writing it
                total -= size(folder)
                shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(place.parent).free
    if need > free:
        raise FileError(
            f"{place.parent}: the images for evaluation need {need / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free: free some "
            "space, or set XDG_CACHE_HOME to a folder on another disk"
        )
