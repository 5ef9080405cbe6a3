"""Labelled originals that are not decoded yet, each decoded by `onceforall.preprocess` to a small image.

Every failure is a `DataError` of one line that names the image.
"""

import hashlib
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

DIM = 2**14  # of 65,536 values of 16 bits: images whose highest is below this are read as dark ones
Indices = NDArray[np.int64]
Taken = Path | bytes | Image.Image  # a file, its content, or an image that is decoded already
Original = Path | bytes | Callable[[], Taken]


@dataclass(frozen=True)
class Read:
    """How an original is read; see `onceforall.preprocess.load`.

    Args:
        max_pixels: larger images are left out.
        channels: of the image, 1, 3 or 4.
        range: the values of a gray image of more than 8 bits that become black and white.
        long: as training takes an image, its long side is at most so many short ones.

    Raises:
        DataError: there is no such way.
    """

    max_pixels: int | None = None
    channels: int = 3
    range: tuple[float, float] | None = None
    long: float = 2.0

    def __post_init__(self) -> None:
        if self.max_pixels is not None and self.max_pixels < 1:
            raise DataError(f"the most pixels of an image are {self.max_pixels}: use 1 or more, or none")
        if self.channels not in CHANNELS:
            raise DataError(f"images of {self.channels} channels: use 1 (gray), 3 (red, green, blue) or 4 (and alpha)")
        if self.range is not None and not -inf < self.range[0] < self.range[1] < inf:
            raise DataError(f"the range is {self.range[0]:g} to {self.range[1]:g}: two numbers are needed, the lower one first")

    @property
    def words(self) -> str:
        """What becomes of an image, for people; "" where that is what is usual."""
        words = channels_in_words(self.channels, self.range)
        return "" if words == "RGB" else words

    @property
    def identity(self) -> tuple[str, ...]:
        """Of what becomes of an image, in texts; none of what was the only way before there was a choice, whose caches stay."""
        if (self.channels, self.range, self.long) == (3, None, 2.0):
            return () if self.max_pixels == LARGE else (str(self.max_pixels),)
        return (str(self.max_pixels), str(self.channels), repr(self.range), *([] if self.long == 2.0 else [repr(self.long)]))


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

    def __call__(self, at_least: int | None = None, how: Read = Read()) -> Image.Image:
        """The image with 8 bits a channel, in any thread; see `onceforall.preprocess.load`, also for `at_least`.

        Raises:
            DataError: missing, not an image, truncated, corrupt, too large, or of a pixel type without a known range.
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
    """Labelled images that can be read one after the other, and one by one.

    Attributes:
        names: one for each image, to tell the user which.
        labels: (n,) int64 in [0, classes), or (n, classes) float32 of 0 and 1 where an image may have several.
        identity: changes when the images change (paths, sizes, times of change).
        read: ascending positions -> for each, in order, what decodes it.
        how: they are read.
        groups: for each image what it belongs to (a patient, a product), which no split divides; None where all are alone.
        single: as `read`, but for images that are read each by itself, perhaps by another process: what decodes them can be pickled
            and holds no images. None where `read` gives such.
        only_in_order: why reading single images would take far too long, in words; "" if it does not.
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
        """For each of these ascending positions what another process can decode."""
        return list((self.single or self.read)(positions))

    def read_as(self, how: Read) -> "Part":
        """The same images, read in this way."""
        return replace(self, identity=digest([self.identity, *how.identity]) if how.identity else self.identity, how=how)


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


def small(load: Load, size: int, how: Read) -> NDArray[np.uint8]:
    """An image as training takes it, (height, width, channels): the one way from an original to pixels, kept or not.

    Raises:
        DataError: see `Load`.
    """
    return pixels_of(shrink(load(size, how), size, how.long))


def shrink(image: Image.Image, size: int, long: float = 2.0) -> Image.Image:
    """The image with a short side of at most `size` (antialiased) and a long side of at most `long`, twice, the short one.

    For training, which crops and resizes what is left; evaluation takes the originals. Small images stay as they are.
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
    """What was found in originals.

    Args:
        gray: none shows a colour.
        colour: how many show colours, of which the luminance was taken.
        opaque: how many have no alpha channel, where that is wanted.
        deep: how many are gray images of more than 8 bits.
        most: the highest value in these.
    """

    gray: bool = True
    colour: int = 0
    opaque: int = 0
    deep: int = 0
    most: float = 0.0

    def and_of(self, pixels: NDArray[np.uint8], found: Mapping[str, Any]) -> "Seen":
        """With one image more, of what `onceforall.preprocess.to_channels` found and made: (height, width, channels)."""
        colours = pixels[..., 1:3]  # none in gray images
        return replace(
            self,
            gray=self.gray and not found.get("colour", False) and bool((colours == pixels[..., :1]).all()),
            colour=self.colour + found.get("colour", False),
            opaque=self.opaque + found.get("opaque", False),
            deep=self.deep + ("most" in found),
            most=max(self.most, found.get("most", 0.0)),
        )


def seen_in(parts: Sequence[tuple[Seen | None, int]], how: Read) -> list[str]:
    """What a user should know, a line each.

    Args:
        parts: of each what was seen, None if that is not known, and how many images it has.
        how: they were read.
    """
    known = [(seen, images) for seen, images in parts if seen is not None]
    images = sum(n for _, n in known)
    colour, opaque, deep = (sum(getattr(seen, name) for seen, _ in known) for name in ("colour", "opaque", "deep"))
    most = max((seen.most for seen, _ in known), default=0.0)
    lines = []
    if colour:
        lines.append(f"{colour:,} of {plural(images, 'image')} show colours: with --channels 1 their luminance is taken")
    if opaque and opaque == images:
        lines.append("no image has an alpha channel, so that the fourth of --channels 4 is 255 everywhere: leave it out")
    elif opaque:
        lines.append(f"{opaque:,} of {plural(images, 'image')} have no alpha channel: it is 255 everywhere there")
    if how.range is None and deep and most < DIM:
        full = 2 ** max(1, int(most).bit_length()) - 1
        lines.append(
            f"{plural(deep, 'image')} of 16 bits have no value above {most:,.0f} of 65,535, and are read as that dark: if "
            f"they have {full.bit_length()} bits, --range 0,{full} shows all of these"
        )
    if how.range is not None and known and not deep:
        lines.append("--range changes nothing: it is for gray images of more than 8 bits, and there are none")
    return lines
