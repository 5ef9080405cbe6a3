"""Labeled images that are not decoded yet, and how `onceforall.preprocess` decodes each to a small image.

Every failure is a one-line `DataError` that names the image.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.readable import plural
from ..errors import DataError
from ..preprocess import CHANNELS, LARGE, channels_in_words, load, pixels_of, to_channels
from .labels import Labels

DIM = 2**14  # 16-bit images whose highest value is below this (of 65,535) look dark
FRAMES = "frames or pages: only the first of each is used"
Indices = NDArray[np.int64]
Taken = Path | bytes | Image.Image  # a file, its content, or a decoded image
Original = Path | bytes | Callable[[], Taken]


@dataclass(frozen=True)
class Read:
    """How to read an original; see `onceforall.preprocess.load`.

    Args:
        max_pixels: larger images are left out.
        channels: of the image, 1, 3 or 4.
        range: the values of a gray image of more than 8 bits that become black and white.
        long: for training, the long side is cropped to at most this multiple of the short side.

    Raises:
        DataError: a value is invalid.
    """

    max_pixels: int | None = None
    channels: int = 3
    range: tuple[float, float] | None = None
    long: float = 2.0

    def __post_init__(self) -> None:
        if self.max_pixels is not None and self.max_pixels < 1:
            raise DataError(f"the limit is {self.max_pixels} pixels per image: use 1 or more, or none")
        if self.channels not in CHANNELS:
            raise DataError(f"images of {self.channels} channels: use 1 (gray), 3 (RGB) or 4 (RGB and alpha)")
        if self.range is not None and not -inf < self.range[0] < self.range[1] < inf:
            raise DataError(f"the range is {self.range[0]:g} to {self.range[1]:g}: two numbers are needed, the lower one first")

    @property
    def words(self) -> str:
        """How images are converted, as text; "" for plain RGB."""
        words = channels_in_words(self.channels, self.range)
        return "" if words == "RGB" else words

    @property
    def identity(self) -> tuple[str, ...]:
        """Texts that identify the reading; none for the settings of the first versions, so that their caches stay valid."""
        if (self.channels, self.range, self.long) == (3, None, 2.0):
            return () if self.max_pixels == LARGE else (str(self.max_pixels),)
        return (str(self.max_pixels), str(self.channels), repr(self.range), *([] if self.long == 2.0 else [repr(self.long)]))


@dataclass(frozen=True)
class Load:
    """One image that is not decoded yet.

    Args:
        original: what to read, or a function that returns it.
        name: shown to the user.
    """

    original: Original
    name: str

    def taken(self) -> Taken:
        """The original, still encoded unless the source has decoded images.

        Raises:
            DataError: it is gone or damaged.
        """
        try:
            return self.original() if callable(self.original) else self.original
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            raise DataError(f"{self.name}: {reason}") from error

    def __call__(self, at_least: int | None = None, how: Read = Read()) -> Image.Image:
        """The image with 8 bits per channel; see `onceforall.preprocess.load`, also for `at_least`. Thread-safe.

        Raises:
            DataError: it is missing, no image, truncated, corrupt, too large, or has a pixel type without a known range.
        """
        try:
            original = self.taken()
            if isinstance(original, Image.Image):
                return to_channels(original, how.channels, how.range)
            return load(original, at_least=at_least, max_pixels=how.max_pixels, channels=how.channels, range=how.range)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{self.name}: {error}") from error.__cause__


@dataclass(frozen=True)
class Part:
    """Labeled images that can be read in order or one by one.

    Attributes:
        names: one for each image, shown to the user.
        labels: (n,) int64 in [0, classes), or multi-label (n, classes) float32 of 0 and 1.
        identity: changes when the images change (paths, sizes, modification times).
        read: ascending positions -> a `Load` for each, in order.
        how: how to read the images.
        groups: the group of each image (a patient, a product), which no split divides; None if there are no groups.
        single: like `read`, for reading images separately, perhaps in another process: its `Load`s can be pickled and hold no
            images. None if this already holds for `read`.
        only_in_order: why reading single images would take far too long, as text; "" if it would not.
    """

    names: list[str]
    labels: Labels
    identity: str
    read: Callable[[Indices], Iterator[Load]]
    how: Read = Read()
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
        """For each of these ascending positions, a `Load` that another process can decode."""
        return list((self.single or self.read)(positions))

    def read_as(self, how: Read) -> "Part":
        """The same images, read with these settings."""
        return replace(self, identity=digest([self.identity, *how.identity]) if how.identity else self.identity, how=how)


@dataclass(frozen=True)
class Source:
    """The labeled images found in a data set; `held_out` and `test` are None if it has no such part.

    Attributes:
        left_out: names of unused files by reason, a phrase in the singular ("file without an image in it (.txt)").
        remarks: further lines for the user on how the data were read.
        files: all images and tables that were read; none if they cannot change.
        hint: another way to read the data, for the error if they cannot be used like this.
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
        """A source with one to three parts: train, test, held-out."""
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


def file_mark(path: str | Path) -> str:
    """Text that changes when the file does."""
    stat = os.stat(path)
    return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's Python warnings (odd EXIF, large images): what matters becomes a `DataError`.

    Enter it once in the main thread around the decoding threads: Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def small(load: Load, size: int, how: Read) -> NDArray[np.uint8]:
    """An image in the size used for training, (height, width, channels). All training pixels are made by this function.

    Raises:
        DataError: see `Load`.
    """
    return pixels_of(shrink(load(size, how), size, how.long))


def shrink(image: Image.Image, size: int, long: float = 2.0) -> Image.Image:
    """Shrink an image to a short side of at most `size` (antialiased), cropping its long side to at most `long` short sides.

    For training, which crops and resizes further; evaluation uses the originals. Small images are not enlarged.
    """
    width, height = image.size
    short = min(width, height)
    most = round(long * short)
    across, down = min(width, most), min(height, most)
    left, top = (width - across) // 2, (height - down) // 2
    box = (left, top, left + across, top + down)
    if short <= size:
        return image if (across, down) == image.size else image.crop(box)
    target = (max(size, round(across * size / short)), max(size, round(down * size / short)))
    return image.resize(target, Image.Resampling.BILINEAR, box=box)


@dataclass(frozen=True)
class Seen:
    """Facts about originals.

    Args:
        gray: none shows any color.
        colour: number of color images converted to luminance.
        opaque: number of images without an alpha channel where one is wanted.
        deep: number of gray images of more than 8 bits.
        dim: number of these without a value of `DIM` or more.
        most: the highest value in the dim ones.
        frames: number of images with several frames or pages.
    """

    gray: bool = True
    colour: int = 0
    opaque: int = 0
    deep: int = 0
    dim: int = 0
    most: float = 0.0
    frames: int = 0

    def with_image(self, pixels: NDArray[np.uint8], found: Mapping[str, Any]) -> "Seen":
        """Add an image: its pixels (height, width, channels), and what `onceforall.preprocess.to_channels` found."""
        colours = pixels[..., 1:3]  # none in gray images
        return replace(
            self,
            gray=self.gray and not found.get("colour", False) and bool((colours == pixels[..., :1]).all()),
            colour=self.colour + found.get("colour", False),
            opaque=self.opaque + found.get("opaque", False),
            deep=self.deep + ("most" in found),
            dim=self.dim + (found.get("most", inf) < DIM),
            most=max(self.most, found["most"] if found.get("most", inf) < DIM else 0.0),
            frames=self.frames + found.get("frames", False),
        )


def remarks_on(parts: Sequence[tuple[Seen | None, int]], how: Read) -> list[str]:
    """Lines for the user on the facts (None if unknown) about the images of each part, which were read as `how`."""
    known = [(seen, images) for seen, images in parts if seen is not None]
    images = sum(n for _, n in known)
    names = ("colour", "opaque", "deep", "dim", "frames")
    colour, opaque, deep, dim, frames = (sum(getattr(seen, name) for seen, _ in known) for name in names)
    most = max((seen.most for seen, _ in known), default=0.0)
    lines = [f"{frames:,} of {plural(images, 'image')} have several {FRAMES}"] if frames else []
    if colour:
        lines.append(f"{colour:,} of {plural(images, 'image')} are in color: with --channels 1 their luminance is used")
    if opaque and opaque == images:
        lines.append("no image has an alpha channel, so the fourth of --channels 4 is 255 everywhere: leave the option out")
    elif opaque:
        lines.append(f"{opaque:,} of {plural(images, 'image')} have no alpha channel: theirs is 255 everywhere")
    if how.range is None and 2 * dim > deep:  # not all: one dead pixel can be as bright as can be
        share = f"{dim:,} of " if dim < deep else ""
        full = 2 ** max(1, int(most).bit_length()) - 1
        lines.append(
            f"{share}{plural(deep, 'image')} of 16 bits have no value above {most:,.0f} of 65,535, and are read as dark images: if "
            f"they use {full.bit_length()} bits, give --range 0,{full}"
        )
    if how.range is not None and known and not deep:
        lines.append("--range has no effect: it applies to gray images of more than 8 bits, and there are none")
    return lines
