"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from ..common.files import make_folder, one_at_a_time, reading_or_writing
from ..common.places import plain_path
from ..errors import FileError, OnceForAllError


@contextmanager
def errors_name(path: Path) -> Iterator[Path]:
    """Errors of what is read from the file name the file."""
    try:
        yield path
    except OnceForAllError as error:
        raise FileError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def require_replaceable(folder: Path, *, files: Set[str], what: str, main: str, check: Callable[[Path], object]) -> None:
    """Do nothing if there is nothing, an empty folder, or an earlier one of the kind and nothing else.

    Args:
        files: all names that such a folder can hold.
        what: it is, for messages.
        main: the file that each has.
        check: reads that file, and raises an error if it is no such file.

    Raises:
        FileError: there is something else.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise FileError(f"{folder}: is there and is not a folder: choose another")
    with reading_or_writing(folder):
        names = {path.name for path in folder.iterdir()}
    if foreign := sorted(names - files):
        raise FileError(f"{folder}: holds {foreign[0]!r}, which is not of {what}: choose another folder or move it away")
    if names and main not in names:
        raise FileError(f"{folder}: holds files but is not {what}: choose another folder")
    if names:
        with errors_name(folder / main) as path:
            check(path)


@contextmanager
def in_place_when_done(folder: Path, require: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its place at the end; on any error it is removed and `folder` is as it was.

    Those who write one folder wait for each other. What one that was killed has left is removed.

    Args:
        require: called before and at the end; raises an error if the folder must not be replaced.
    """
    require(folder)
    temporary, old, lock = _beside(folder)
    with _parents(folder), one_at_a_time(lock):
        _clear(folder, temporary, old)
        make_folder(temporary)
        try:
            with plain_path(temporary) as plain:
                yield plain
            require(folder)
            with reading_or_writing(folder):
                if folder.exists():
                    os.replace(folder, old)
                os.replace(temporary, folder)
        finally:
            _clear(folder, temporary, old)


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """The folders above it; if nothing comes to lie in those that were made, they are gone again."""
    made = [above for above in folder.parents if not above.exists()]
    make_folder(folder.parent)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: something has come
            for above in made:
                above.rmdir()


def clear_left(folder: Path) -> None:
    """Remove what one that was killed has left of making the folder; nothing if somebody is making it, or where it cannot be."""
    temporary, old, lock = _beside(folder)
    with suppress(FileError), one_at_a_time(lock, wait=False):
        _clear(folder, temporary, old)


def _beside(folder: Path) -> tuple[Path, Path, Path]:
    temporary, old, lock = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old", "lock"))
    return temporary, old, lock


def _clear(folder: Path, temporary: Path, old: Path) -> None:
    """Remove what is half done; the earlier one goes back to its place if nothing has taken it."""
    with reading_or_writing(folder):
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for path in (temporary, old):
            if path.exists():
                shutil.rmtree(path)
