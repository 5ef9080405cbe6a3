"""Which files of class folders are one image, linked or copied into several of them: it then has several labels."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import DataError
from ..originals import Original

HEAD = 4096  # bytes that tell most files of equal size apart


def same_files(
    paths: Sequence[str],
    sizes: Sequence[int],
    head: Callable[[str], Hashable],
    read: Callable[[Iterable[str]], Iterator[Original]],
) -> list[list[int]]:
    """Positions of files with the same content together, in the order of the first of each.

    `head` is asked of files of equal size, what tells most of them apart; only those with an equal one are read whole. What cannot
    be read is like no other.
    """
    groups = _divided([list(range(len(paths)))], lambda i: sizes[i])
    groups = _divided(groups, lambda i: head(paths[i]))
    return sorted(_divided(groups, lambda i: _content(paths[i], read)))


def hash_of_head(content: bytes) -> bytes:
    """A short hash of a file's beginning, as there may be a million of them."""
    return hashlib.blake2b(content[:HEAD], digest_size=16).digest()


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


def _content(path: str, read: Callable[[Iterable[str]], Iterator[Original]]) -> Hashable:
    """A hash of a file; its path where it cannot be read."""
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
