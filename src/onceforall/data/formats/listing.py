"""The files of a data set, to detect changes cheaply later: names, sizes, times, and hashes of their beginnings and ends."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...common.advice import PHOTOS
from ...common.files import reading_or_writing, replace_file
from ...common.packages import one_line
from ...common.places import plain_path
from ...errors import FileError
from .scan import printable

END = 4096  # bytes at a file's beginning and end, which no two photographs share
WHOLE = 8_000_000  # bytes; smaller files that are not images, such as tables, are hashed completely
SCHEMA = {"name": pa.binary(), "bytes": pa.int64(), "changed_ns": pa.int64(), "ends": pa.binary(8)}


@dataclass(frozen=True, eq=False)
class Listing:
    """Files by name, relative to the data's folder if inside it.

    Attributes:
        names: sorted.
        sizes: (n,) in bytes, -1 for missing files.
        changed: (n,) modification times in nanoseconds.
        ends: a hash of each file, see `ends_of`.
    """

    names: tuple[bytes, ...]
    sizes: NDArray[np.int64]
    changed: NDArray[np.int64]
    ends: tuple[bytes, ...]

    @classmethod
    def of(cls, files: Sequence[str], root: Path) -> "Listing":
        """List files; `root` is the folder of the data, or a file in it."""
        pairs = sorted(_by_name(files, root).items())
        facts = np.array([_facts(file) for _, file in pairs], np.int64).reshape(-1, 2)
        return cls(tuple(name for name, _ in pairs), facts[:, 0], facts[:, 1], tuple(ends_of(file) for _, file in pairs))

    def save(self, path: Path) -> None:
        """Write a Parquet file."""
        columns = (self.names, self.sizes, self.changed, self.ends)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.values(), strict=True)]
        table = pa.table(arrays, names=list(SCHEMA))

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # pyarrow only takes UTF-8 paths
                pq.write_table(table, file, compression="zstd")

        replace_file(path, write)

    @classmethod
    def load(cls, path: Path) -> "Listing":
        """Read a file written by `save`.

        Raises:
            FileError: it is damaged, or of another kind.
        """
        try:
            with reading_or_writing(path), plain_path(path) as plain:
                table = pq.read_table(plain, columns=list(SCHEMA))
            names, sizes, changed, ends = (column.to_numpy() for column in table.columns)
        except (pa.ArrowException, FileError) as error:
            raise FileError(f"{path}: damaged ({one_line(error)}): remove it") from None
        return cls(tuple(names), sizes, changed, tuple(ends))


@dataclass(frozen=True)
class FileChanges:
    """Names of files that were added, removed or changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        """The changes as text."""
        return ", ".join(
            f"{len(names):,} {what} ({names[0]}{', …' if len(names) > 1 else ''})" for what, names in vars(self).items() if names
        )


def changes(before: Listing, files: Sequence[str], root: Path) -> FileChanges:
    """Compare files with an earlier listing. Only files with the same size and another time are opened.

    A large file that is not an image, such as an archive, counts as changed if its time differs, since its middle is not hashed.
    """
    now, known, other = _by_name(files, root), {name: i for i, name in enumerate(before.names)}, list[bytes]()
    for name in sorted(known.keys() & now.keys()):
        i, (size, changed) = known[name], _facts(now[name])
        if size == before.sizes[i]:
            large = size > WHOLE and not _is_image(now[name])
            if changed == before.changed[i] or (not large and ends_of(now[name]) == before.ends[i]):
                continue
        other.append(name)
    added, removed = sorted(now.keys() - known.keys()), sorted(known.keys() - now.keys())
    return FileChanges(*(tuple(printable(os.fsdecode(name)) for name in names) for names in (added, removed, other)))


def ends_of(file: str) -> bytes:
    """A hash of a file's first and last `END` bytes, or of all of a non-image of at most `WHOLE` bytes; zeros if unreadable."""
    try:
        with open(file, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            state = blake2b(stream.read(END if _is_image(file) or size > WHOLE else WHOLE), digest_size=8)
            if size > stream.tell():
                stream.seek(max(END, size - END))
                state.update(stream.read(END))
            return state.digest()
    except OSError:
        return bytes(8)


def _is_image(file: str) -> bool:
    return file.lower().endswith(PHOTOS)


def _by_name(files: Sequence[str], root: Path) -> dict[bytes, str]:
    base = f"{root if root.is_dir() else root.parent}{os.sep}"
    return {os.fsencode(file.removeprefix(base)): file for file in files}


def _facts(file: str) -> tuple[int, int]:
    try:
        facts = os.stat(file)
    except OSError:
        return -1, 0
    return facts.st_size, facts.st_mtime_ns
