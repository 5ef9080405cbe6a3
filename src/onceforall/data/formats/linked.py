"""Find files in class folders that are the same image, linked or copied, which then has several labels."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import DataError
from ..originals import Original

HEAD = 4096  # bytes that distinguish most files of equal size


def same_files(
    paths: Sequence[str], sizes: Sequence[int], head: Callable[[str], Hashable], read: Callable[[Iterable[str]], Iterator[Original]]
) -> list[list[int]]:
    """Group the positions of files with the same content, in the order of each group's first file.

    `head`, a cheap key, is called for files of equal size; only those with equal keys are read completely. Unreadable files are
    never equal.
    """
    groups = _divided([list(range(len(paths)))], lambda i: sizes[i])
    groups = _divided(groups, lambda i: head(paths[i]))
    return sorted(_divided(groups, lambda i: _content(paths[i], read)))


def hash_of_head(content: bytes) -> bytes:
    """A short hash of a file's beginning; short, as there may be a million files."""
    return hashlib.blake2b(content[:HEAD], digest_size=16).digest()


def _divided(groups: Iterable[list[int]], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Split each group by its members' keys; groups of one member are kept."""
    found: list[list[int]] = []
    for group in groups:
        if len(group) == 1:
            found.append(group)
            continue
        parts: dict[Hashable, list[int]] = defaultdict(list)
        for i in group:
            parts[key(i)].append(i)
        found += parts.values()
    return found


def _content(path: str, read: Callable[[Iterable[str]], Iterator[Original]]) -> Hashable:
    """A hash of a file; its path if it cannot be read."""
    try:
        (original,) = read([path])
        if isinstance(original, Path):
            with open(original, "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        data = original() if callable(original) else original
        assert isinstance(data, bytes)  # of an archive
        return hashlib.sha256(data).digest()
    except (OSError, DataError):
        return path
