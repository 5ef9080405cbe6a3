"""Labelled originals that are not decoded yet, each decoded by `onceforall.preprocess` to a small RGB image.

Every failure is a `DataError` of one line that names the image.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from ..preprocess import LARGE, load, to_rgb
from .labels import Labels

Indices = NDArray[np.int64]
Taken = Path | bytes | Image.Image  # a file, its content, or an image that is decoded already
Original = Path | bytes | Callable[[], Taken]


@dataclass(frozen=True)
class Load:
    """One image that is not decoded yet.

    Args:
        original: what is read, or a function that gives it.
        name: to tell the user which.
    """

    original: Original
    name: str

    def taken(self) -> Taken:
        """What is read, not decoded yet unless it never was encoded.

        Raises:
            DataError: it is gone, or damaged.
        """
        try:
            return self.original() if callable(self.original) else self.original
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            raise DataError(f"{self.name}: {reason}") from error

    def __call__(self, at_least: int | None = None, max_pixels: int | None = None) -> Image.Image:
        """The image as RGB, in any thread; see `onceforall.preprocess.load`, also for `at_least` and `max_pixels`.

        Raises:
            DataError: missing, not an image, truncated, corrupt, too large, or of a pixel type without a known range.
        """
        try:
            original = self.taken()
            if isinstance(original, Image.Image):
                return to_rgb(original)
            return load(original, at_least=at_least, max_pixels=max_pixels)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{self.name}: {error}") from error.__cause__


@dataclass(frozen=True)
class Part:
    """Labelled images that can be read one after the other, and one by one.

    Attributes:
        names: one for each image, to tell the user which.
        labels: (n,) int64 in [0, classes), or (n, classes) float32 of 0 and 1 where an image may have several.
        identity: changes when the images change (paths, sizes, times of change).
        read: ascending positions -> for each, in order, what decodes it.
        max_pixels: larger images are not read; see `onceforall.preprocess.load`.
        groups: for each image what it belongs to (a patient, a product), which no split divides; None where all are alone.
        single: as `read`, but for images that are read each by itself, perhaps by another process: what decodes them can be pickled
            and holds no images. None where `read` gives such.
        only_in_order: why reading single images would take far too long, in words; "" if it does not.
    """

    names: list[str]
    labels: Labels
    identity: str
    read: Callable[[Indices], Iterator[Load]]
    max_pixels: int | None = None
    groups: tuple[str, ...] | None = None
    single: Callable[[Indices], Iterator[Load]] | None = None
    only_in_order: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, positions: Indices) -> "Part":
        """The images at these positions, in ascending order."""
        chosen, single = np.unique(positions), self.single
        return replace(
            self,
            names=[self.names[i] for i in chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            identity=digest([self.identity, chosen.tobytes().hex()]),
            read=lambda wanted: self.read(chosen[wanted]),
            single=None if single is None else lambda wanted: single(chosen[wanted]),
        )

    def singles(self, positions: Indices) -> list[Load]:
        """For each of these ascending positions what another process can decode."""
        return list((self.single or self.read)(positions))

    def up_to(self, max_pixels: int | None) -> "Part":
        """The same images, but with this limit of their pixels."""
        same = max_pixels == LARGE  # the limit before there was a choice: what was cached then stays
        identity = self.identity if same else digest([self.identity, str(max_pixels)])
        return replace(self, identity=identity, max_pixels=max_pixels)


@dataclass(frozen=True)
class Source:
    """What was found: `held_out` and `test` are None where the data bring no such part.

    Attributes:
        left_out: what was there and is not used: why, as a phrase about one ("file without an image in it (.txt)"), and the names.
        remarks: what else the user should know about how the data were read, a line each.
        files: all that it was read from, images and tables; none where nothing can change.
        hint: how else the data may be meant, if they cannot be used like this.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    held_out: Part | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    files: Sequence[str] = field(default=(), repr=False)
    hint: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        classes: Iterable[str],
        parts: Sequence[Part],
        left_out: Mapping[str, Sequence[str]],
        remarks: Iterable[str] = (),
        files: Iterable[str | Path] = (),
        hint: str = "",
    ) -> "Source":
        """Of one to three parts: train, test, held-out."""
        train, test, held_out = (*parts, None, None)[:3]
        assert train is not None
        return cls(name, tuple(classes), train, test, held_out, left_out, tuple(remarks), tuple(map(str, files)), hint)


def digest(texts: Iterable[str]) -> str:
    """A short hash of a list of texts."""
    state = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogateescape")
        state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.hexdigest()[:32]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's Python warnings (odd EXIF, large images): what matters becomes a `DataError`.

    Enter it once in the main thread around the decoding threads: Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def small(load: Load, size: int, max_pixels: int | None) -> NDArray[np.uint8]:
    """An image as training takes it, (height, width, 3): the one way from an original to pixels, kept or not.

    Raises:
        DataError: see `Load`.
    """
    return np.asarray(shrink(load(size, max_pixels), size))


def shrink(image: Image.Image, size: int) -> Image.Image:
    """The image with a short side of at most `size` (antialiased) and a long side of at most twice the short one.

    For training, which crops and resizes what is left; evaluation takes the originals. Small images stay as they are.
    """
    width, height = image.size
    short = min(width, height)
    across, down = min(width, 2 * short), min(height, 2 * short)
    left, top = (width - across) // 2, (height - down) // 2
    box = (left, top, left + across, top + down)
    if short <= size:
        return image if (across, down) == image.size else image.crop(box)
    target = (max(size, round(across * size / short)), max(size, round(down * size / short)))
    return image.resize(target, Image.Resampling.BILINEAR, box=box)
