"""Places on this machine: paths as people write them, a writable cache, paths that any library can open."""

import os
import stat
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError, Note
from .files import reading_or_writing, writable

NAME = "onceforall"
HOW = "set XDG_CACHE_HOME to a folder that can be written"


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user expanded; unchanged if there is no such home, so that it is reported as not found."""
    return Path(os.path.expanduser(path))


def cache_folder(holds: Sequence[str] = ()) -> Path:
    """A folder for reproducible files: $XDG_CACHE_HOME/onceforall, or ~/.cache/onceforall.

    If it is not writable, or there is no home, as for an unknown user in a container, it is a private folder under the temporary
    directory, and a `Note` says so.

    Args:
        holds: names needed from it: if all exist already, it need not be writable.

    Raises:
        FileError: neither can be written.
    """
    usual, reason = _usual_cache()
    if usual is not None:
        if holds and all(os.path.isdir(usual / name) for name in holds):
            return usual
        try:
            return writable(usual)
        except FileError as error:
            reason = str(error)
    folder = _private()
    warnings.warn(f"the cache is at {folder}, because {reason}; to choose another place, {HOW}", Note, stacklevel=2)
    return folder


def _usual_cache() -> tuple[Path | None, str]:
    """The folder by the rules of the XDG base directory specification, or why there is none."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and not os.path.isabs(given):  # the specification: such a path is invalid and to be ignored
        warnings.warn(f"XDG_CACHE_HOME={given} is ignored, because it is not an absolute path", Note, stacklevel=3)
    elif given:
        return Path(given) / NAME, ""
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None, "this user has no home (HOME is not set)"
    return Path(home) / ".cache" / NAME, ""


def _private() -> Path:
    """A folder under the temporary directory that only this user can read and write; a `FileError` if there is none."""
    try:
        user = str(os.getuid())
    except AttributeError:  # Windows, where the temporary directory is the user's own
        user = "cache"
    with reading_or_writing(Path("temporary directory")):
        path = Path(tempfile.gettempdir()) / f"{NAME}-{user}"
    with reading_or_writing(path):
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
        if os.name == "posix" and (not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077):
            raise FileError(f"{path}: other users can access this folder, or own it: {HOW}")
    return writable(path)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """The file or folder under a name that is valid Unicode, for libraries that need one: itself, or a link to it."""
    if is_unicode(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"plain{path.suffix if is_unicode(path.suffix) else ''}"
        with reading_or_writing(link):
            link.symlink_to(path.absolute(), target_is_directory=path.is_dir())
        yield link


def is_unicode(path: str | Path) -> bool:
    """Whether the path's name is valid Unicode, so that UTF-8 can hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
