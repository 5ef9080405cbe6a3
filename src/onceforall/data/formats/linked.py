"""Which files of class folders are one image, linked or copied into several of them: it then has several labels."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import DataError
from ..originals import Original

HEAD = 4096  # bytes that tell most files of equal size apart


def same_files(paths: Sequence[str], sizes: Sequence[int], read: Callable[[Iterable[str]], Iterator[Original]]) -> list[list[int]]:
    """Positions of files with the same content together, in the order of the first of each.

    Only files of equal size are opened, and only those with an equal beginning read whole. What cannot be read is like no other.
    """
    groups = _divided([list(range(len(paths)))], lambda i: sizes[i])
    groups = _divided(groups, lambda i: _content(paths[i], read, True))
    return sorted(_divided(groups, lambda i: _content(paths[i], read, False)))


def _divided(groups: Iterable[list[int]], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Each group by the key of its members; those of one member need none."""
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


def _content(path: str, read: Callable[[Iterable[str]], Iterator[Original]], head: bool) -> Hashable:
    """The beginning of a file, or a hash of all of it; its path where it cannot be read."""
    try:
        (original,) = read([path])
        if isinstance(original, Path):
            with open(original, "rb") as file:
                return file.read(HEAD) if head else hashlib.file_digest(file, "sha256").digest()
        data = original() if callable(original) else original
        assert isinstance(data, bytes)  # of an archive
        return hashlib.sha256(data).digest()
    except (OSError, DataError):
        return path
