"""Folders that appear complete or not at all."""

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
    """Add the file's path to errors raised while reading it."""
    try:
        yield path
    except OnceForAllError as error:
        raise FileError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def require_replaceable(folder: Path, *, files: Set[str], what: str, main: str, check: Callable[[Path], object]) -> None:
    """Check that the folder is missing, empty, or holds only an earlier folder of the same kind.

    Args:
        files: all names that such a folder can hold.
        what: the kind of folder, for messages.
        main: the file that every such folder has.
        check: reads that file, and raises an error if it is of another kind.

    Raises:
        FileError: something else is there.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise FileError(f"{folder}: exists and is not a folder: choose another")
    with reading_or_writing(folder):
        names = {path.name for path in folder.iterdir()}
    if foreign := sorted(names - files):
        raise FileError(f"{folder}: holds {foreign[0]!r}, which is not part of {what}: choose another folder or move it away")
    if names and main not in names:
        raise FileError(f"{folder}: holds files but is not {what}: choose another folder")
    if names:
        with errors_name(folder / main) as path:
            check(path)


@contextmanager
def in_place_when_done(folder: Path, require: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary folder that replaces `folder` at the end; on any error it is removed and `folder` is unchanged.

    Processes that write the same folder wait for each other. Leftovers of killed ones are removed.

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
    """Create the parent folders; those that stay empty are removed again."""
    made = [above for above in folder.parents if not above.exists()]
    make_folder(folder.parent)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for above in made:
                above.rmdir()


def clear_left(folder: Path) -> None:
    """Remove what a killed process left behind while making the folder, unless another process is making it."""
    temporary, old, lock = _beside(folder)
    with suppress(FileError), one_at_a_time(lock, wait=False):
        _clear(folder, temporary, old)


def _beside(folder: Path) -> tuple[Path, Path, Path]:
    temporary, old, lock = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old", "lock"))
    return temporary, old, lock


def _clear(folder: Path, temporary: Path, old: Path) -> None:
    """Remove unfinished folders; the earlier folder is restored if it was not replaced."""
    with reading_or_writing(folder):
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for path in (temporary, old):
            if path.exists():
                shutil.rmtree(path)
