"""Files that a crash cannot tear, and what is said when they cannot be written or read."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.common import files
from onceforall.common.files import (
    append_line,
    busy,
    held,
    locked,
    make_folder,
    one_at_a_time,
    read_json,
    read_lines,
    read_text,
    recording,
    regular_file,
    replace_file,
    write_json,
    write_text,
)
from onceforall.errors import FileError, Note, OnceForAllError
from rights import needs_permissions

TEXT = st.text(max_size=9) | st.binary(max_size=9).map(os.fsdecode)  # paths need not be valid Unicode
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(DATA)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, data)
    assert read_json(path) == data
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@given(st.lists(st.dictionaries(TEXT, DATA, max_size=2), max_size=4))
def test_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    for record in records:
        append_line(path, record)
    assert read_lines(path) == records


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\r", "\n"])
def test_line_separators_inside_a_text(tmp_path: Path, separator: str) -> None:
    append_line(tmp_path / "a.jsonl", {"name": f"a{separator}b"})
    assert read_lines(tmp_path / "a.jsonl") == [{"name": f"a{separator}b"}]


def test_a_torn_line_loses_only_itself(tmp_path: Path) -> None:
    """Cut the file after every byte, also within a character, and go on writing."""
    path = tmp_path / "a.jsonl"
    append_line(path, {"step": 1})
    start = path.stat().st_size
    append_line(path, {"step": 2, "name": "Bär ☃"})
    whole = path.read_bytes()
    for size in range(start, len(whole)):
        path.write_bytes(whole[:size])
        append_line(path, {"step": 3})
        steps = [record["step"] for record in read_lines(path)]
        assert steps in ([1, 3], [1, 2, 3])
        assert steps == [1, 3] or size >= len(whole) - 1


@pytest.mark.parametrize("junk", [b"\0\0\0\n", b"\xff\xfe\n", b"[1]\n", b"\n\n", b"[" * 100_000 + b"\n", b"{\n"])
def test_junk_between_lines(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + junk + b'{"a": 2}\n')
    assert read_lines(path) == [{"a": 1}, {"a": 2}]


def test_no_lines_yet(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


class Crash(BaseException):
    """Nothing that the code could catch by kind."""


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Crash(), KeyboardInterrupt(), ValueError("bad")]
)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model.bin"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise error

    with pytest.raises(FileError if isinstance(error, OSError) else type(error)):
        replace_file(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_flush_or_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(FileError, match=r"a\.json: the disk is full: free some space and run the command again"):
        write_json(path, "new")
    assert read_json(path) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_data_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    write_text(tmp_path / "a.txt", "x")
    assert order == ["fsync", "replace", "fsync"]


def test_a_write_that_the_system_stops_half_way(tmp_path: Path) -> None:
    """In another process, by a limit on the size of files."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import resource, signal
from pathlib import Path
from onceforall.errors import FileError
from onceforall.common.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path({str(path)!r}), "x" * 100_000)
except FileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{path}: File too large"
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_messages(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe\x00")
    cases = [
        (lambda: read_text(tmp_path / "none"), "none: no such file or folder: check the path"),
        (lambda: read_text(tmp_path), "this is a folder, a file is needed: check the path"),
        (lambda: read_text(file), "file: not a text file"),
        (lambda: read_text(file / "below"), "a part of the path is a file, not a folder: check the path"),
        (lambda: write_text(file / "below", "x"), "a part of the path is a file, not a folder: check the path"),
        (lambda: write_text(tmp_path / "none" / "a", "x"), "no such file or folder: check the path"),
        (lambda: append_line(tmp_path / "none" / "a", {}), "no such file or folder: check the path"),
        (lambda: make_folder(file), "a file of that name is in the way: choose another folder"),
        (lambda: make_folder(file / "below"), "a part of the path is a file, not a folder: check the path"),
        (lambda: read_lines(tmp_path), "this is a folder, a file is needed: check the path"),
    ]
    for call, message in cases:
        with pytest.raises(FileError, match=message) as caught:
            call()
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, OnceForAllError)
        assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000])
def test_not_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")


def test_only_whole_files_of_a_sensible_size_are_read(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large", tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(large, "wb") as file:
        file.truncate(100_000_001)
    assert regular_file(large) == 100_000_001
    for read in (read_json, read_text):
        with pytest.raises(FileError, match=r"large: has 100\.0 MB, and a file of this kind at most 100 MB: check the path"):
            read(large)
        with pytest.raises(FileError, match="pipe: this is a pipe or device, a file is needed: check the path"):
            read(pipe)
        with pytest.raises(FileError, match="this is a folder, a file is needed"):
            read(tmp_path)
        with pytest.raises(FileError, match="no such file or folder"):
            read(tmp_path / "none")
        with pytest.raises(FileError, match="this is a pipe or device"):
            read(Path("/dev/zero"))
    (tmp_path / "text").write_text("1234")
    assert read_text(tmp_path / "text", 4) == "1234"
    with pytest.raises(FileError, match="at most 0 MB"):
        read_text(tmp_path / "text", 3)


def test_make_folder(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "b")
    assert made.is_dir()
    assert make_folder(made) == made


@needs_permissions
def test_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="permission denied: choose a folder you may read or write"):
        write_text(tmp_path / "a", "x")
    tmp_path.chmod(0o700)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """So that root does not lose devices, as `--out /dev/full` once did."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(FileError, match="this is a pipe or device, a file is needed: check the path"):
            write_text(path, "x")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_locked_folder_is_refused_to_others_until_released(tmp_path: Path) -> None:
    with locked(tmp_path):
        code = f"from pathlib import Path; from onceforall.common.files import locked\nwith locked(Path({str(tmp_path)!r})): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another command is working on it" in other.stderr
    with locked(tmp_path):
        pass


def test_a_lock_file_tells_whether_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not held(path)
    with one_at_a_time(path):
        assert held(path)
        with (
            pytest.raises(FileError, match=r"a\.lock: another process holds it: wait until it has finished"),
            one_at_a_time(path, wait=False),
        ):
            pass
    assert not held(path)
    path.touch()  # as a crash leaves it
    assert not held(path)
    with one_at_a_time(path, wait=False):
        assert held(path)
    assert not path.exists()


def test_byte_order_marks(tmp_path: Path) -> None:
    """Editors and spreadsheets of Windows write them."""
    path = tmp_path / "file"
    path.write_bytes('{"a": "ü"}\n{"b": 1}\n'.encode("utf-8-sig"))
    assert read_text(path) == '{"a": "ü"}\n{"b": 1}\n'
    assert read_lines(path) == [{"a": "ü"}, {"b": 1}]
    path.write_bytes("[1]".encode("utf-8-sig"))
    assert read_json(path) == [1]
    for encoding in ("utf-16", "utf-16-be"):
        path.write_bytes(("" if encoding == "utf-16" else "\ufeff").encode(encoding) + "[1ü]".encode(encoding))
        with pytest.raises(FileError, match="file: not a text file in UTF-8 but in UTF-16: save it as UTF-8"):
            read_text(path)
    path.write_bytes("größe".encode("cp1252"))
    with pytest.raises(FileError, match="file: not a text file in UTF-8: save it as UTF-8"):
        read_text(path)
    path.write_bytes(b"\x89PNG\r\n\0\0")
    with pytest.raises(FileError, match=r"file: not a text file$"):
        read_text(path)


NO_LOCKS = pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES])


@NO_LOCKS
def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The work goes on, and one note says what the user must see to."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    note = rf"this file system has no locks \({os.strerror(number)}\): let only one command at a time work on it"
    with pytest.warns(Note, match=note), locked(tmp_path):
        pass
    with pytest.warns(Note, match=note):
        assert not busy(tmp_path)
    for wait in (True, False):
        with pytest.warns(Note, match=note), one_at_a_time(tmp_path / "a.lock", wait=wait):
            pass
    assert not (tmp_path / "a.lock").exists()


class Msvcrt:
    """The locks of Windows' C library, made of Linux's: they refuse to wait, and say so with another error."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self, flock: Any) -> None:
        self.flock = flock

    def locking(self, handle: int, mode: int, size: int) -> None:
        assert size == 1
        assert os.lseek(handle, 0, os.SEEK_CUR) == 0
        try:
            self.flock(handle, {self.LK_NBLCK: 6, self.LK_UNLCK: 8}[mode])
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None


def test_locks_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "msvcrt", Msvcrt(files.fcntl.flock))
    monkeypatch.setattr(files, "fcntl", None)
    path = tmp_path / "a.lock"
    with locked(tmp_path):
        assert busy(tmp_path)
        with pytest.raises(FileError, match="another command is working on it"), locked(tmp_path):
            pass
    assert not busy(tmp_path)
    with one_at_a_time(path):
        assert held(path)
        with pytest.raises(FileError, match="another process holds it"), one_at_a_time(path, wait=False):
            pass
    assert not path.exists()


def test_folder_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which opens no folders, and some network file systems, which flush none."""
    flush, opened = os.fsync, os.open

    def no_folder(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    def only_files(path: Any, *arguments: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_folder)
        write_text(tmp_path / "a", "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", only_files)
        write_text(tmp_path / "a", "2")
    assert read_text(tmp_path / "a") == "2"


def test_records_where_nothing_may_be_written(tmp_path: Path) -> None:
    def fail(number: int) -> None:
        with recording("this is"), files.reading_or_writing(tmp_path):
            raise OSError(number, os.strerror(number))

    for number in (errno.EROFS, errno.EACCES, errno.EPERM):
        with pytest.warns(Note, match=r"^this is not recorded: /.*: "):
            fail(number)
    with pytest.raises(FileError, match="the disk is full"):
        fail(errno.ENOSPC)
