"""trained_on.json of an exported folder: which images its network was trained on, as short hashes of their pixels."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.records import read_record, write_record
from ..errors import FileError

TRAINED_ON = "trained_on.json"
FORMAT = "onceforall.trained-on/1"
MOST = 100_000  # images, 800 kB: of more, those with the lowest hashes
BYTES = 6  # of each hash, so that one of a million images is taken for another once in some hundred million


@dataclass(frozen=True)
class TrainedOn:
    """Images that a network was trained on.

    Args:
        size: short side that they were shrunk to before their pixels were hashed.
        max_pixels: of an image, see `onceforall.preprocess.load`.
        long: the most short sides that their long side was then.
        images: how many there are.
        hashes: the first bytes of each, or of some, one after the other, in base64.
        complete: it was trained on no others, nor were the weights that it started from; False if that is not known.
    """

    size: int
    max_pixels: int | None
    images: int
    hashes: str
    long: float = 2.0
    complete: bool = False  # as of files of before, which did not say

    @classmethod
    def of(cls, digests: NDArray[np.void], size: int, max_pixels: int | None, long: float = 2.0, *, complete: bool) -> "TrainedOn":
        """Of whole hashes (n,), 16 bytes each."""
        known = np.unique(digests)
        rows = known.view(np.uint8).reshape(len(known), known.dtype.itemsize)[:MOST, :BYTES]
        return cls(size, max_pixels, len(known), base64.b64encode(rows.tobytes()).decode(), long, complete)

    def known(self) -> frozenset[bytes]:
        """The hashes, `BYTES` of each."""
        content = base64.b64decode(self.hashes)
        return frozenset(content[i : i + BYTES] for i in range(0, len(content), BYTES))

    def among(self, found: int) -> "AmongTrained":
        """What it says of images of which so many have a hash that is known."""
        known = len(self.known())
        whole = self.complete and known == self.images
        about = round(found * self.images / known) if found and known < self.images else None
        return AmongTrained(found if found or whole else None, whole, about)


@dataclass(frozen=True)
class AmongTrained:
    """How many of some images a network was trained on.

    Args:
        known: that many or more; None where it is not known of any, and may be so of some.
        complete: no more than these.
        about: how many, estimated, where only some hashes are kept.
    """

    known: int | None = None
    complete: bool = False
    about: int | None = None

    def __str__(self) -> str:
        """How many, in words."""
        about = "" if self.about is None else f" (about {self.about:,} by a sample)"
        return f"{'' if self.complete else 'at least '}{self.known or 0:,}{about}"


NOT_KNOWN = AmongTrained()


def write_trained_on(folder: Path, found: TrainedOn | None) -> None:
    """Leave it in an exported folder, unless it is not known."""
    if found is not None and found.images:
        write_record(folder / TRAINED_ON, found, FORMAT)


def read_trained_on(folder: Path) -> TrainedOn | None:
    """What an exported folder says; None if it does not, as those of imported weights and of earlier versions.

    Raises:
        FileError: the file is damaged.
    """
    path = folder / TRAINED_ON
    if not path.is_file():
        return None
    found = read_record(path, TrainedOn, FORMAT, otherwise="remove it, or export the network again")
    try:
        found.known()
    except ValueError as error:
        raise FileError(f"{path}: damaged ({error}): remove it, or export the network again") from None
    return found
