"""What a user may name as data, opened as lists of labelled images that are not decoded yet."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from ..files import reading_or_writing
from ..places import expanded
from ..preprocess import LARGE
from .decode import Original, decode

__all__ = ["Load", "Part", "Reading", "Source", "digest", "open_source"]

Indices = NDArray[np.int64]
Classes = tuple[tuple[str, tuple[str, ...]], ...]  # for each class its name and the names that the data have for it


@dataclass(frozen=True)
class Load:
    """One image that is not decoded yet.

    Args:
        original: what is read.
        name: to tell the user which.
    """

    original: Original
    name: str

    def __call__(self, at_least: int | None = None, max_pixels: int | None = None) -> Image.Image:
        """Decode it, see `decode`; in any thread."""
        return decode(self.original, self.name, at_least=at_least, max_pixels=max_pixels)


@dataclass(frozen=True)
class Part:
    """Labelled images that can be read one after the other.

    Attributes:
        names: one for each image, to tell the user which.
        labels: (n,) int64 in [0, classes).
        identity: changes when the images change (paths, sizes, times of change).
        read: ascending positions -> for each, in order, what decodes it.
        max_pixels: larger images are not read; see `onceforall.preprocess.load`.
        groups: for each image what it belongs to (a patient, a product), which no split divides; None where all are alone.
    """

    names: list[str]
    labels: Indices
    identity: str
    read: Callable[[Indices], Iterator[Load]]
    max_pixels: int | None = None
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, positions: Indices) -> "Part":
        """The images at these positions, in ascending order."""
        chosen = np.unique(positions)
        return replace(
            self,
            names=[self.names[i] for i in chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            identity=digest([self.identity, chosen.tobytes().hex()]),
            read=lambda wanted: self.read(chosen[wanted]),
        )

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
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part | None = None
    held_out: Part | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How data are read where they leave a choice.

    Args:
        label: the column of labels in tables and Parquet files; None for the likeliest by its name.
        classes: those that are used, in this order; see `classes.classes_of_text`. None for all, by name.
        group: the column of a table that says what an image belongs to, or a regular expression that finds it in the image's path:
            its first group, or all that it matches. No split divides what belongs together.
        few: classes may have no image in a split, or a single one in all.
    """

    label: str | None = None
    classes: Classes | None = None
    group: str | None = None
    few: bool = False


AS_IT_IS = Reading()


def digest(texts: Iterable[str]) -> str:
    """A short hash of a list of texts."""
    state = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogateescape")
        state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.hexdigest()[:32]


def open_source(source: str, reading: Reading = AS_IT_IS) -> Source:
    """Find the images that `source` names, and read them as `reading` says. Nothing is decoded yet.

    Args:
        source: one of
            a folder with train/ and val/ (or others of the names in `split_names`), each with one folder per class;
            a folder with one folder per class;
            a folder with Parquet files as the Hugging Face hub lays them out (train-*.parquet, train/*.parquet, in a
                configuration's folder or not), or one such file;
            a table of images and labels (CSV, TSV, JSON lines, COCO's JSON), or a folder with such tables by split, or with
                metadata.csv or metadata.jsonl beside its images;
            a zip or tar archive of class folders, or shards in WebDataset's format, or a folder with them;
            `torchvision:NAME:ROOT`, a data set of torchvision that is in ROOT already;
            `digits`, the 1,797 handwritten digits that come with scikit-learn.

    Raises:
        DataError: nothing usable is there, or more than one reading; the message says what was expected.
    """
    from .classes import chosen_classes

    found = _found(source, reading)
    if reading.classes is not None:
        found = chosen_classes(found, reading.classes)
    if reading.group is not None and found.train.groups is None:
        found = _grouped(found, reading.group)
    return found


def _found(source: str, reading: Reading) -> Source:
    """What `open_source` finds, with all of its classes."""
    from .archives import ARCHIVES, COMPRESSED, open_archive
    from .embedded import open_digits, open_torchvision
    from .folders import holds_image_folders
    from .parquet import Files, open_parquet, parquet_files
    from .tables import TABLES, open_tables

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
    name = path.name.lower()
    if not is_folder:
        if name.endswith(TABLES):
            return open_tables(path, [path], reading)
        if name.endswith((*ARCHIVES, *COMPRESSED)):
            return open_archive(path, reading)
        if name.endswith(".parquet"):
            return open_parquet(path, Files([path], [], []), reading)
        raise DataError(
            f"{source}: a file of a kind that holds no labelled images: give the folder that holds the images, a table of them "
            f"({', '.join(TABLES)}), an archive ({', '.join(ARCHIVES)}) or a Parquet file"
        )
    files = parquet_files(path)
    if not (files.with_images or files.without or files.broken):
        return _open_folder(path, reading)
    if not holds_image_folders(path):
        return open_parquet(path, files, reading)
    if files.with_images:
        raise DataError(
            f"{path}: are its folders of images the data, or its Parquet files with images ({files.with_images[0]}, …)? Give the "
            "folder that holds only the one or the other, or move one of them away"
        )
    return _open_folder(path, reading)


def _open_folder(path: Path, reading: Reading) -> Source:
    """Class folders; or where there are none, tables or shards."""
    from .archives import open_shards, shard_files
    from .folders import holds_class_folders, open_folder
    from .tables import METADATA, open_tables, table_files

    tables, folders = table_files(path, reading), holds_class_folders(path)
    if tables and not folders:
        return open_tables(path, tables, reading)
    if tables and (reading.label or tables[0].name.lower() in METADATA):
        raise DataError(
            f"{path}: are the folders its classes, or are the labels those of {tables[0]}? Give that file for its labels; move it "
            "away for the folders"
        )
    if reading.label:
        raise DataError(f"{path}: no table of images with a column {reading.label!r}: give the table, or leave out --label")
    shards = [] if folders else shard_files(path)
    return open_shards(path, shards) if shards else open_folder(path, few=reading.few)


def _grouped(source: Source, pattern: str) -> Source:
    """With the groups that a regular expression finds in the names of images.

    Raises:
        DataError: no regular expression, or one that does not match all names.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--group {pattern}: no column of that name, and no regular expression ({error})") from None

    def grouped(part: Part | None) -> Part | None:
        if part is None:
            return None
        matches = [expression.search(name) for name in part.names]
        odd = [name for name, match in zip(part.names, matches, strict=True) if match is None]
        if odd:
            raise DataError(
                f"{source.name}: --group {pattern} is no column, and matches {len(odd):,} of {len(part):,} names nowhere, such as "
                f"{odd[0]}: give a column of a table, or a regular expression for all names, such as '(patient\\d+)'"
            )
        return replace(part, groups=tuple(match[expression.groups and 1] or "" for match in matches if match))

    train = grouped(source.train)
    assert train is not None
    return replace(source, train=train, test=grouped(source.test), held_out=grouped(source.held_out))
