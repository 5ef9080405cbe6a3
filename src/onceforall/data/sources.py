"""What a user may name as data, opened as lists of labelled images that are not decoded yet."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from ..files import reading_or_writing
from ..places import expanded

__all__ = ["Load", "Part", "Source", "digest", "open_source"]

Load = Callable[[int], Image.Image]  # a short side that is enough -> RGB image; raises DataError
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Labelled images that can be read one after the other.

    Attributes:
        names: one for each image, to tell the user which.
        labels: (n,) int64 in [0, classes).
        identity: changes when the images change (paths, sizes, times of change).
        read: ascending positions -> for each, in order, a function that decodes it and may run in any thread.
    """

    names: list[str]
    labels: Indices
    identity: str
    read: Callable[[Indices], Iterator[Load]]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, positions: Indices) -> "Part":
        """The images at these positions, in ascending order."""
        chosen = np.unique(positions)
        return Part(
            names=[self.names[i] for i in chosen],
            labels=self.labels[chosen],
            identity=digest([self.identity, chosen.tobytes().hex()]),
            read=lambda wanted: self.read(chosen[wanted]),
        )


@dataclass(frozen=True)
class Source:
    """What was found: `held_out` and `test` are None where the data bring no such part."""

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    held_out: Part | None = None


def digest(texts: Iterable[str]) -> str:
    """A short hash of a list of texts."""
    state = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogateescape")
        state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.hexdigest()[:32]


def open_source(source: str) -> Source:
    """Find the images that `source` names. Nothing is decoded yet.

    Args:
        source: one of
            a folder with train/ and val/ (or test/, valid/, validation/), each with one folder per class;
            a folder with one folder per class;
            a folder with Hugging Face Parquet files (train-*.parquet, test-*.parquet, …), or its parent's parent "data/";
            `torchvision:NAME:ROOT`, a data set of torchvision that is in ROOT already;
            `digits`, the 1,797 handwritten digits that come with scikit-learn.

    Raises:
        DataError: nothing usable is there; the message says what was expected.
    """
    from .embedded import open_digits, open_torchvision
    from .folders import open_folder
    from .parquet import open_parquet, parquet_files

    if source == "digits":
        return open_digits()
    if source.startswith("torchvision:"):
        return open_torchvision(source)
    path = expanded(source)
    with reading_or_writing(path):
        there, is_folder = path.exists(), path.is_dir()
    if not source.strip() or not there:
        raise DataError(
            f"{source or 'an empty path'}: no such folder: check the path (or use 'digits', or 'torchvision:NAME:ROOT')"
        )
    if not is_folder:
        raise DataError(f"{source}: this is a file: give the folder that holds the images (or the Parquet files)")
    return open_parquet(path) if parquet_files(path) else open_folder(path)
