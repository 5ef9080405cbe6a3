"""Atomic file writes, locks, and errors that name the file and the reason.

A file is written under a temporary name, flushed to disk, then renamed: readers see all of the old content or all of the new.
"""

import codecs
import errno
import hashlib
import json
import math
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import FileError, Note

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None  # type: ignore[assignment]

TRIES = 5  # to lock a folder: `held` may have locked it for a moment
MOST_BYTES = 100_000_000  # of a text file
UNICODE = "backslashreplace"  # paths need not be valid Unicode; this matches JSON's escapes
NOT_PERMITTED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FLUSH = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP)  # of a folder: Windows, and some network file systems

ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run the command again (ofa train: with --resume)",
    errno.EDQUOT: "the disk quota is used up: free some space and run the command again (ofa train: with --resume)",
    errno.EACCES: "permission denied: choose a folder you may read or write, or change its permissions",
    errno.EPERM: "not permitted: choose a folder you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOENT: "no such file or folder: check the path",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: check the path",
    errno.EISDIR: "this is a folder, a file is needed: check the path",
}


@contextmanager
def reading_or_writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into a `FileError` that names the path and what to do."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {ADVICE.get(error.errno or 0, error.strerror or str(error))}") from error


@contextmanager
def recording(what: str) -> Iterator[None]:
    """Turn missing permission to write a record, as in a read-only folder, into a `Note`.

    Args:
        what: subject and verb of the message, such as "this evaluation is".
    """
    try:
        yield
    except FileError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in NOT_PERMITTED:
            raise
        warnings.warn(f"{what} not recorded: {error}", Note, stacklevel=4)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two commands do not write the same files. A crash releases it.

    If the file system has no locks, a `Note` says so.

    Raises:
        FileError: another process holds it.
    """
    refusal = f"{folder}: another command is working on it: wait until it has finished, or stop it"
    with reading_or_writing(folder):
        handle, _ = _lock(folder / ".lock", TRIES, refusal)
    try:
        yield
    finally:
        _close(handle)


def busy(folder: Path) -> bool:
    """Whether a command holds the folder's lock now."""
    return held(folder / ".lock")


def held(path: Path) -> bool:
    """Whether a process holds this lock file now. If the file system has no locks: False, and a `Note` says so."""
    with reading_or_writing(path):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
    try:
        return _taken(handle, path, shared=True) is False
    finally:
        _close(handle)


@contextmanager
def one_at_a_time(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Wait for and hold a lock file; deleted on exit, released on a crash.

    If the file system has no locks, a `Note` says so, and it yields False: another process may be working too.

    Raises:
        FileError: it cannot be created, or another process holds it and `wait` is False.
    """
    tries, refusal = math.inf if wait else 1, f"{path}: another process holds it: wait until it has finished"
    with reading_or_writing(path):
        handle, real = _lock(path, tries, refusal)
        while not _is_at(handle, path):  # the previous holder has removed it
            _close(handle)
            handle, real = _lock(path, tries, refusal)
    try:
        yield real
    finally:
        if fcntl is None:  # Windows removes no file that is open, here or in the process that has it next
            _close(handle)
            with suppress(OSError):
                path.unlink()
        else:
            try:
                with reading_or_writing(path):
                    path.unlink(missing_ok=True)
            finally:
                _close(handle)


def make_folder(path: Path) -> Path:
    """Create the folder and its parents if they do not exist; return it."""
    with reading_or_writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def writable(path: Path) -> Path:
    """Check that files can be created in the folder, or if it does not exist, in its nearest existing parent; return it.

    Raises:
        FileError: they cannot.
    """
    with reading_or_writing(path):
        # Path.exists fails in a folder without search permission, until Python 3.14
        there = next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.exists(folder))
        probe = there / f".{os.getpid()}.probe.tmp"
        probe.touch()
        probe.unlink(missing_ok=True)  # another container's process may have the same number
    return path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, flush what it wrote, and rename it to `path`.

    Raises:
        FileError: the file cannot be written, or is a pipe or device, which a file must not replace; `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with reading_or_writing(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise FileError(f"{path}: this is a pipe or device, a file is needed: check the path")
        try:
            write(temporary)
            _flush(temporary, os.O_RDWR)  # Windows flushes only what can be written
            os.replace(temporary, path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, atomically."""
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    r"""Write a whole text file (UTF-8), atomically. Characters that UTF-8 cannot encode become \udce9, which JSON reads back."""
    write_bytes(path, text.encode("utf-8", UNICODE))


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file, atomically."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def regular_file(path: Path, most_bytes: int | None = None) -> int:
    """Check that this is a regular file (no folder, pipe or device) and not too large; return its size in bytes.

    Raises:
        FileError: it is not, or does not exist.
    """
    with reading_or_writing(path):
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(facts.st_mode):
        raise FileError(f"{path}: this is a pipe or device, a file is needed: check the path")
    if most_bytes is not None and facts.st_size > most_bytes:
        size, most = facts.st_size / 1e6, most_bytes / 1e6
        raise FileError(f"{path}: has {size:,.1f} MB, and a file of this kind at most {most:,.0f} MB: check the path")
    return facts.st_size


def text_sha256(text: str) -> str:
    """The sha256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of the file's content, in hexadecimal digits."""
    with reading_or_writing(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The text (UTF-8, with or without a byte order mark) of a regular file.

    Raises:
        FileError: unreadable, too large, or not text.
    """
    regular_file(path, most_bytes)
    with reading_or_writing(path):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            with open(path, "rb") as file:
                head = file.read(1 << 16)
            other = " but in UTF-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
            how = f" in UTF-8{other}: save it as UTF-8" if other or b"\0" not in head else ""
            raise FileError(f"{path}: not a text file{how}") from None


def why_not_the_file(path: Path) -> str:
    """What a file is instead of the expected one, as after a wrong download, and what to do; "" if unknown."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError:
        return ""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file: git lfs pull downloads it"
    if start.startswith((b"\x1f\x8b", b"bzh", b"\xfd7zxz", b"\x28\xb5\x2f\xfd")):
        return "compressed: unpack it first"
    return "an HTML page instead of the file: download it again" if start.startswith((b"<!doctype html", b"<html")) else ""


def read_json(path: Path) -> Any:
    """The file's JSON value.

    Raises:
        FileError: as `read_text`, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: not JSON ({error})") from None


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON record as a line; a line torn by an earlier crash is ended first."""
    line = json.dumps(record, ensure_ascii=False) + "\n"
    with reading_or_writing(path), open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode("utf-8", UNICODE))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; [] if there is none. Lines torn by a crash are skipped."""
    with reading_or_writing(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
    records = []
    for line in content.removeprefix(codecs.BOM_UTF8).split(b"\n"):
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _lock(path: Path, tries: float, refusal: str) -> tuple[int, bool]:
    """A handle of the lock file, and whether the lock is real; a `FileError` if others hold it at every try."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while (taken := _taken(handle, path)) is False:
            tries -= 1
            if tries < 1:
                raise FileError(refusal)
            time.sleep(0.02)
    except BaseException:
        os.close(handle)
        raise
    return handle, taken is True


def _taken(handle: int, path: Path, *, shared: bool = False) -> bool | None:
    """Lock an open file; False if another process holds it. None if there are no locks, and a `Note` says so."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    except OSError as error:
        if isinstance(error, BlockingIOError if fcntl is not None else PermissionError):
            return False
        # such as ENOLCK, ENOSYS or EOPNOTSUPP of NFS, Lustre or FUSE, as some machines mount them
        text = f"{path.parent}: this file system has no locks ({error.strerror}): let only one command at a time work on it"
        warnings.warn(text, Note, stacklevel=3)
        return None
    return True


def _close(handle: int) -> None:
    """Close an open file, which releases its lock."""
    if fcntl is None and msvcrt is not None:
        with suppress(OSError):  # it was not taken
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    """Flush the folder so that a new name in it survives a power failure; do nothing where folders cannot be flushed."""
    try:
        _flush(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
