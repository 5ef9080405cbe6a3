"""Cache of small images, each decoded once, in one flat memory-mapped file; or only of facts about them.

A cache is a folder: pixels.bin (uint8, each image height × width × channels), index.npy (int64, one row per image: position in
its part, byte offset, height, width), digests.npy (16 bytes per image) and meta.json. It is written under a temporary name and
renamed when complete, so a folder of the final name is complete. A cache of facts lacks pixels.bin; it has thumbnails.npy if
images are compared.
"""

import hashlib
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..common.files import make_folder, one_at_a_time, read_json, reading_or_writing, replace_file, write_json
from ..common.processors import processors
from ..errors import DataError, FileError
from ..preprocess import FOUND, pixels_of
from .alike import MOST_KNOWN, SIDE, thumbnails
from .originals import Indices, Load, Part, Read, Seen, digest, quiet, shrink, small

VERSION = 2
WORST_SHARE = 0.1
SAMPLE = 64
ABANDONED_SECONDS = 3600
ALIKE = re.compile("kept: (a )?(held-out|test) images? nearly the same as ")  # reasons of `Problem.alike` in older files

OnProgress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """An image or file that was left out, or a doubtful image, with the reason.

    Args:
        doubtful: the image is kept, but its label or its independence of the training images is doubtful.
        count: number of images it stands for, where not all are named.
        alike: the image is doubtful because it is nearly the same as a training image, not because of its label.
    """

    name: str
    reason: str
    doubtful: bool = False
    count: int = 1
    alike: bool = False

    @staticmethod
    def older(data: dict[str, Any]) -> dict[str, Any]:
        """Convert a record of an older file, in which only the reason says whether images are alike."""
        return {"alike": ALIKE.match(str(data.get("reason"))) is not None, **data}


@dataclass(frozen=True, eq=False)
class Store:
    """The images of one part that could be decoded.

    Attributes:
        pixels: the whole file, uint8, read-only, memory-mapped: the system loads and drops its pages as needed. None if images
            are decoded whenever they are needed.
        size: the size they are shrunk to, see `originals.small`.
        index: (n, 4) int64: position in the part, byte offset, height, width.
        digests: (n,) one 16-byte hash of shape and pixels per image.
        channels: of the images.
        seen: facts about their originals; None in older caches.
    """

    pixels: NDArray[np.uint8] | None
    size: int
    index: NDArray[np.int64]
    digests: NDArray[np.void]
    problems: tuple[Problem, ...]
    place: Path = field(repr=False)
    channels: int = 3
    seen: Seen | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all pixels, cached or not."""
        return int(self.channels * (self.index[:, 2] * self.index[:, 3]).sum())

    def thumbnails(self) -> NDArray[np.float32]:
        """(n, 256) one for each image, see `alike.thumbnails`; made at first use and kept beside the pixels.

        A cache of facts with more images than are ever compared has zeros instead, which resemble nothing.
        """
        path = self.place / "thumbnails.npy"
        try:
            kept = np.asarray(np.load(path, allow_pickle=False), np.float32)
            if kept.shape == (len(self.index), 256):
                return kept
        except (OSError, EOFError, ValueError):
            pass
        whole = _open(self.place)
        if whole is None or (pixels := whole.pixels) is None:
            return np.zeros((len(self.index), SIDE * SIDE), np.float32)
        c = self.channels
        found = thumbnails(pixels[o : o + c * h * w].reshape(h, w, c) for _, o, h, w in self.index.tolist())
        with suppress(FileError):  # a read-only cache: made again next time
            save_array(path, found.astype(np.float16))
        return found.astype(np.float16).astype(np.float32)


def expected_bytes(part: Part, *, size: int, folder: Path) -> tuple[int, bool]:
    """Bytes of the decoded part, estimated from 64 images if unknown; and whether it is in the cache."""
    store = _open(place_of(part, size, folder))
    if store is not None:
        return store.bytes, True
    if (facts := _open(facts_of(part, size, folder), decoded=False)) is not None:
        return facts.bytes, False
    positions = np.unique(np.linspace(0, len(part) - 1, min(SAMPLE, len(part))).astype(np.int64))
    sizes = []
    with quiet():
        for load in part.read(positions):
            with suppress(DataError):
                sizes.append(small(load, size, part.how).size)
    return int(np.mean(sizes) * len(part)) if sizes else 0, False


def cache_part(
    part: Part,
    *,
    size: int,
    folder: Path,
    limit_bytes: int,
    decoded: bool = True,
    threads: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Store:
    """Open the part's images, with a short side of at most `size`, from the cache in `folder`, or decode them into it.

    If several processes need them at once, one decodes and the others wait.

    Args:
        limit_bytes: the most that the pixels may take.
        decoded: keep the pixels; else only facts about them, which also takes decoding each image once.
        threads: decoding threads; None for one per processor that this process may use.
        on_progress: called with images done and the total.

    Raises:
        DataError: more than a tenth of the images cannot be read, or the limit is exceeded.
        FileError: the folder cannot be written, or the disk is full. A partly written cache is never used.
    """
    place = place_of(part, size, folder) if decoded else facts_of(part, size, folder)
    store = (None if decoded else _open(place_of(part, size, folder), decoded=False)) or _open(place, decoded)
    if store is None:
        make_folder(folder)
        _sweep(folder)
        with one_at_a_time(folder / f".{place.name}.lock"):
            store = _open(place, decoded)  # another process may have been here before
            if store is None:
                _decode(part, size, place, limit_bytes if decoded else None, threads or processors(), on_progress)
                store = _open(place, decoded)
                if store is None:
                    raise FileError(f"{place}: the cache cannot be read back just after it was written: check the disk")
                return store
    on_progress(len(part), len(part))
    return store


def _decode(part: Part, size: int, place: Path, limit_bytes: int | None, threads: int, on_progress: OnProgress) -> None:
    """Write the cache under a temporary name, then rename it; without a limit, only facts."""
    temporary = place.with_name(f".{place.name}.{token_hex(8)}.tmp")  # processes in two containers can have the same pid
    with reading_or_writing(place.parent):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _write(part, size, temporary, limit_bytes, threads, on_progress)
            if _open(place, limit_bytes is not None) is None:  # where locks do not hold, such as on some network file systems
                shutil.rmtree(place, ignore_errors=True)
                os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def place_of(part: Part, size: int, folder: Path) -> Path:
    """The cache folder of the part's images."""
    return folder / digest([str(VERSION), str(size), part.identity])


def facts_of(part: Part, size: int, folder: Path) -> Path:
    """The cache folder of the facts about the part's images, if the images are not cached."""
    place = place_of(part, size, folder)
    return place.with_name(f"{place.name}-facts")


def _open(place: Path, decoded: bool = True) -> Store | None:
    """Open the cache at `place`, without its pixels if not `decoded`; None if it is missing or incomplete."""
    try:
        meta = read_json(place / "meta.json")
        index = np.load(place / "index.npy", allow_pickle=False)
        digests = np.load(place / "digests.npy", allow_pickle=False)
        if meta["version"] != VERSION or (decoded and (place / "pixels.bin").stat().st_size != meta["bytes"]):
            return None
        if index.shape != (meta["images"], 4) or len(digests) != meta["images"]:
            return None
        pixels = np.asarray(np.memmap(place / "pixels.bin", np.uint8, "r")) if decoded else None
        problems, size = tuple(Problem(**problem) for problem in meta["problems"]), int(meta["size"])
        channels, seen = int(meta.get("channels", 3)), Seen(**meta["seen"]) if "seen" in meta else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return Store(pixels, size, index, digests, problems, place, channels, seen)


def _write(part: Part, size: int, folder: Path, limit_bytes: int | None, threads: int, on_progress: OnProgress) -> None:
    rows: list[tuple[int, int, int, int]] = []
    digests: list[bytes] = []
    problems: list[Problem] = []
    thumbs: list[NDArray[np.float32]] | None = [] if limit_bytes is None and len(part) <= MOST_KNOWN else None
    offset = 0
    decode, seen = partial(_small, size=size, how=part.how), Seen()
    with (
        open(os.devnull if limit_bytes is None else folder / "pixels.bin", "wb") as file,
        closing(in_threads(part, np.arange(len(part)), decode, threads)) as decoded,
    ):
        for position, result in enumerate(decoded):
            if isinstance(result, Problem):
                problems.append(result)
                if len(problems) > WORST_SHARE * len(part):
                    raise DataError(_too_many(problems, position + 1, len(part)))
            else:
                pixels, found = result
                seen = seen.with_image(pixels, found)
                height, width, _ = pixels.shape
                rows.append((position, offset, height, width))
                digests.append(pixel_digest(pixels))
                file.write(pixels.data)
                offset += pixels.size
                if thumbs is not None:
                    thumbs.append(thumbnails([pixels]))
                if limit_bytes is not None and offset > limit_bytes:
                    raise DataError(
                        f"the images take more than {limit_bytes / 1e9:.1f} GB: raise the limit with --cache-gb, cache none with "
                        "--cache none, lower the size, or use fewer images"
                    )
            on_progress(position + 1, len(part))
        file.flush()
        if limit_bytes is not None:
            os.fsync(file.fileno())
    if thumbs is not None:
        save_array(folder / "thumbnails.npy", np.concatenate([*thumbs, thumbnails([])]).astype(np.float16))
    save_array(folder / "index.npy", np.array(rows, np.int64).reshape(-1, 4))
    save_array(folder / "digests.npy", np.frombuffer(b"".join(digests), "V16"))
    left_out = [{"name": problem.name, "reason": problem.reason} for problem in problems]
    facts = {"version": VERSION, "size": size, "images": len(rows), "bytes": offset, "problems": left_out}
    write_json(folder / "meta.json", {**facts, "channels": part.how.channels, "seen": asdict(seen)})


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as an .npy file, atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)

    replace_file(path, write)


def in_threads(part: Part, positions: Indices, use: Callable[[Load], T], threads: int) -> Generator[T, None, None]:
    """Apply `use` to the images at these ascending positions in threads; results in order, a few ahead of the reader."""
    waiting: deque[Future[T]] = deque()
    with quiet():
        pool = ThreadPoolExecutor(threads)
        try:
            for load in part.read(positions):
                waiting.append(pool.submit(use, load))
                if len(waiting) >= 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _small(load: Load, size: int, how: Read) -> tuple[NDArray[np.uint8], Mapping[str, Any]] | Problem:
    """The pixels and facts about the original, or why it cannot be read."""
    try:
        image = load(size, how)
        return pixels_of(shrink(image, size, how.long)), image.info[FOUND]
    except DataError as error:
        return Problem(load.name, str(error).removeprefix(f"{load.name}: "))


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """16-byte hash of shape and pixels, see `Store.digests`."""
    return hashlib.blake2b(pixels.data, digest_size=16, salt=str(pixels.shape).encode()[:16]).digest()


def _too_many(problems: list[Problem], seen: int, images: int) -> str:
    first = "; ".join(f"{problem.name} ({problem.reason})" for problem in islice(problems, 3))
    return f"{len(problems)} of the first {seen} images (of {images}) cannot be read ({first}, …): fix or remove them"


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind."""
    for path in folder.glob(".*.tmp"):
        newest = max((_changed(inside) for inside in path.glob("*")), default=_changed(path))
        if time.time() - newest > ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
