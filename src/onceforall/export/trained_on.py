"""trained_on.json of an exported folder: short hashes of the pixels of its network's training images."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.records import read_record, write_record
from ..errors import FileError

TRAINED_ON = "trained_on.json"
FORMAT = "onceforall.trained-on/1"
MOST = 100_000  # images, 800 kB: if there are more, those with the lowest hashes
BYTES = 6  # of each hash: among a million images, an unrelated image is mistaken for one of them about once in 300 million


@dataclass(frozen=True)
class TrainedOn:
    """The images that a network was trained on.

    Args:
        size: short side to which they were shrunk before hashing.
        max_pixels: largest number of pixels of an image, see `onceforall.preprocess.load`.
        images: number of images.
        hashes: the first bytes of all or some hashes, concatenated, in base64.
        long: largest ratio of long to short side, to which they were cropped.
        complete: whether these are all training images, including those of the initial weights; False if not known.
    """

    size: int
    max_pixels: int | None
    images: int
    hashes: str
    long: float = 2.0
    complete: bool = False  # older files do not say

    @classmethod
    def of(cls, digests: NDArray[np.void], size: int, max_pixels: int | None, long: float = 2.0, *, complete: bool) -> "TrainedOn":
        """Make it from full hashes (n,), 16 bytes each."""
        distinct = np.unique(digests)
        rows = distinct.view(np.uint8).reshape(len(distinct), distinct.dtype.itemsize)[:MOST, :BYTES]
        return cls(size, max_pixels, len(distinct), base64.b64encode(rows.tobytes()).decode(), long, complete)

    def known(self) -> frozenset[bytes]:
        """The hashes, `BYTES` of each."""
        content = base64.b64decode(self.hashes)
        return frozenset(content[i : i + BYTES] for i in range(0, len(content), BYTES))

    def among(self, matches: int) -> "AmongTrained":
        """The result for images of which `matches` have a known hash."""
        known = len(self.known())
        exact = self.complete and known == self.images
        about = round(matches * self.images / known) if matches and known < self.images else None
        return AmongTrained(matches if matches or exact else None, exact, about)


@dataclass(frozen=True)
class AmongTrained:
    """How many images of a set a network was trained on.

    Args:
        known: at least this many; None if none were found but there may be some.
        complete: whether `known` is exact.
        about: estimated number, if only some hashes are known.
    """

    known: int | None = None
    complete: bool = False
    about: int | None = None

    def __str__(self) -> str:
        """The number as text."""
        about = "" if self.about is None else f" (about {self.about:,} by a sample)"
        return f"{'' if self.complete else 'at least '}{self.known or 0:,}{about}"


NOT_KNOWN = AmongTrained()


def write_trained_on(folder: Path, record: TrainedOn | None) -> None:
    """Write trained_on.json into an exported folder, if anything is known."""
    if record is not None and record.images:
        write_record(folder / TRAINED_ON, record, FORMAT)


def read_trained_on(folder: Path) -> TrainedOn | None:
    """Read trained_on.json; None if there is none, as with imported weights and in older folders.

    Raises:
        FileError: the file is damaged.
    """
    path = folder / TRAINED_ON
    if not path.is_file():
        return None
    record = read_record(path, TrainedOn, FORMAT, otherwise="remove it, or export the network again")
    try:
        record.known()
    except ValueError as error:
        raise FileError(f"{path}: damaged ({error}): remove it, or export the network again") from None
    return record
