"""Folders of images, one folder per class."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import reading_or_writing
from .sources import Indices, Load, Part, Source, digest

__all__ = ["open_folder"]

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".mpo")
TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
EXPECTED = "expected one folder per class with images in it, or train/ and val/ with such folders"


def open_folder(root: Path) -> Source:
    """A folder of class folders, or one with train/ and test/ or val/ of class folders.

    With train, val and test all there, val becomes the held-out part.

    Raises:
        DataError: no class folders, or different classes in train and the others.
    """
    inside = {folder.name.lower(): folder for folder in _subfolders(root)}
    train = next((inside[name] for name in TRAIN if name in inside and _subfolders(inside[name])), None)
    if train is None:
        classes = _classes(root)
        return Source(str(root), tuple(map(_printable, classes)), _part(root, root, classes))
    classes = _classes(train)
    others = [inside[name] for name in ("test", *VALIDATION) if name in inside and _subfolders(inside[name])]
    for other in others:
        _require_same(classes, _classes(other), train, other)
    parts = [_part(root, other, classes) for other in others]
    return Source(
        str(root),
        tuple(map(_printable, classes)),
        _part(root, train, classes),
        test=parts[0] if parts else None,
        held_out=parts[1] if len(parts) > 1 else None,
    )


def _subfolders(folder: Path) -> list[Path]:
    with reading_or_writing(folder):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(path.name for path in _subfolders(folder))
    if not classes:
        raise DataError(f"{folder}: no class folders in it: {EXPECTED}")
    return classes


def _require_same(classes: tuple[str, ...], others: tuple[str, ...], train: Path, other: Path) -> None:
    if classes != others:
        odd = sorted(set(classes) ^ set(others))
        raise DataError(
            f"{train} has {len(classes)} classes and {other} has {len(others)}; only in one of them: "
            f"{', '.join(map(_printable, odd[:5]))}{', …' if len(odd) > 5 else ''}: both need the same class folders"
        )


def _part(root: Path, folder: Path, classes: tuple[str, ...]) -> Part:
    paths: list[str] = []
    labels: list[int] = []
    marks: list[str] = []
    for label, name in enumerate(classes):
        with reading_or_writing(folder / name):
            for path, stat in sorted(_images(str(folder / name))):
                paths.append(path)
                labels.append(label)
                marks.append(f"{path}|{stat[0]}|{stat[1]}")
    if not paths:
        raise DataError(f"{folder}: no images in its folders ({', '.join(SUFFIXES)}): {EXPECTED}")
    names = [_printable(os.path.relpath(path, root)) for path in paths]

    def read(positions: Indices) -> Iterator[Load]:
        for i in positions:
            yield Load(Path(paths[i]), names[i])

    return Part(names, np.array(labels, np.int64), digest(marks), read)


def _printable(name: str) -> str:
    """A file name on one line and in valid Unicode, which it need not be."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _images(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Path and (size, time of change) of every image below the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _images(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry.path, _stat(entry)


def _stat(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError:  # a dangling link is reported by name when it is read
        return -1, 0
    return stat.st_size, stat.st_mtime_ns
