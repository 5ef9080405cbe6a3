"""Machines that are not like the usual one: no home, no locks, other encodings, nothing that may be written, no Unix.

Each is tried for real, in a process of its own.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from onceforall import cli
from tiny_run import TRAINING_TEXT

ODD = os.fsdecode(b"caf\xe9")
COMMANDS = """
import json, os, sys
from onceforall import cli
cli._take_any_text()
for arguments in json.loads(sys.argv[1]):
    code = cli.run([os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in arguments])
    print("code", code, flush=True)
"""
NO_LOCKS = """
#include <errno.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
"""
WINDOWS = """
import errno, os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("getuid", "geteuid", "killpg", "setsid", "sched_getaffinity", "fork"):
    delattr(os, name)
opened, flush = os.open, os.fsync

def open_file(path, flags, *more, **named):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return opened(path, flags, *more, **named)

def fsync(file):
    number = file if isinstance(file, int) else file.fileno()
    with open(f"/proc/self/fdinfo/{number}") as facts:
        flags = next(int(line.split()[1], 8) for line in facts if line.startswith("flags:"))
    if flags & 3 == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    flush(file)

os.open, os.fsync = open_file, fsync
"""
TRAIN = ["train", "digits", *TRAINING_TEXT, "--scheme", "sandwich", "--epochs", "1"]


def tried(
    commands: Sequence[Sequence[str]], folder: Path, *, before: str = "", prefix: Sequence[str] = (), **changes: str | None
) -> tuple[list[int], str, str]:
    """Exit codes, output and errors of commands that a process of its own gives in the folder."""
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", before + COMMANDS, json.dumps(commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    assert "Traceback" not in err, err
    codes = [int(line.split()[1]) for line in out.splitlines() if line.startswith("code ")]
    assert len(codes) == len(commands), err
    return codes, out, err


@pytest.fixture
def nobody() -> list[str]:
    """What makes a command that of a user whom the system does not know, who may read all and write nothing of others."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv of util-linux, can become another user")
    able = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    prefix = ["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", *able]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this container lets nobody become another user")
    return prefix


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can read, with two that every user can write; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name in ("work", "tmp"):
            (Path(folder) / name).mkdir()
            (Path(folder) / name).chmod(0o1777)
        yield Path(folder)


def test_unknown_user_without_a_home(public: Path, nobody: list[str]) -> None:
    """As with docker run -u 4242."""
    commands = [[*TRAIN, "--out", "run"], ["evaluate", "run"]]
    unset = {"HOME": None, "XDG_CACHE_HOME": None, "USER": None, "LOGNAME": None, "PYTHONDONTWRITEBYTECODE": "1"}
    codes, _, err = tried(commands, public / "work", prefix=nobody, TMPDIR=str(public / "tmp"), **unset)
    assert codes == [0, 0], err
    cache = public / "tmp" / "onceforall-4242"
    assert f"note: the cache is at {cache}, because this user has no home" in err
    assert [path.name for path in (public / "work").iterdir()] == ["run"]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_run_that_can_only_be_read(trained: Path, public: Path, nobody: list[str]) -> None:
    run, work = str(public / "run"), public / "work"
    shutil.copytree(trained, run)
    commands = [
        ["evaluate", run, "--split", "test"], ["status", run], ["report", run, "--out", "page.html"],
        ["train", "digits", *TRAINING_TEXT, "--out", run, "--resume"], ["report", run], ["predict", run],
    ]  # fmt: skip
    home = {"HOME": str(work), "XDG_CACHE_HOME": None, "PYTHONDONTWRITEBYTECODE": "1"}
    codes, out, err = tried(commands, work, prefix=nobody, **home)
    assert codes == [0, 0, 0, 0, 1, 1], err
    assert "(120 test images)" in out
    assert "test images were opened for 'ofa evaluate --arch largest' is not recorded: " in err
    assert "note: this evaluation is not recorded: " in err
    assert (work / "page.html").exists()
    assert err.splitlines()[-1].startswith(f"ofa: {run}/accuracy: permission denied: choose a folder you may read or write")
    assert not (public / "run" / "evaluations.jsonl").exists()


def test_file_system_without_locks(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to build a library without locks")
    (tmp_path / "a.c").write_text(NO_LOCKS)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True)
    codes, _, err = tried(
        [[*TRAIN, "--out", "run"]], tmp_path, LD_PRELOAD=str(tmp_path / "a.so"), XDG_CACHE_HOME=str(tmp_path / "new")
    )
    assert codes == [0], err
    assert (
        err.count("note: run: this file system has no locks (No locks available): let only one command at a time work on it\n") == 1
    )


def test_without_what_only_unix_has(measured: Path, tmp_path: Path) -> None:
    """As far as Linux can play Windows: training, going on, and a search on a run that was measured."""
    shutil.copytree(measured, tmp_path / "run")
    commands = [
        [*TRAIN, "--out", "new"],
        ["search", "run", "--macs", "100M", "--finalists", "1", "--device", "pytorch"],
        ["train", "digits", *TRAINING_TEXT, "--out", "run", "--resume"],
    ]
    codes, _, err = tried(commands, tmp_path, before=WINDOWS)
    assert codes == [0, 0, 0], err
    assert "this file system has no locks (Function not implemented)" in err


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_every_encoding(trained: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    """Whatever is said, of ours or of the user's, is written somehow, and JSON stays JSON."""
    named = tmp_path / f"größe→{ODD}"
    shutil.copytree(trained, named)
    known = json.loads((named / "run.json").read_text())
    known["data"]["source"] = f"/no/Grüße–{ODD}"
    (named / "run.json").write_text(json.dumps(known))
    commands = [
        ["--help"],
        ["status", named.name],
        ["status", named.name, "--json"],
        ["evaluate", named.name],
        ["report", named.name],
    ]
    codes, out, err = tried(commands, tmp_path, **changes)
    assert codes == [0, 0, 0, 1, 0], err
    assert "rror(" not in err
    (told,) = [line for line in out.splitlines() if line.startswith("{")]
    assert json.loads(told)["folder"].encode("utf-8", "surrogateescape") == named.name.encode("utf-8", "surrogateescape")
    assert "report.html" in out.splitlines()[-2]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_letters_that_an_encoding_lacks(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", file)
    cli._take_any_text()
    file.write(f"3 × 4 – 5 … € 日 {ODD}/a")
    file.flush()
    plain = {"×": "x", "–": "-", "…": "...", "€": "\\u20ac", "日": "\\u65e5"}
    kept = {"ascii": "", "latin-1": "×", "cp1252": "×–…€", "utf-8": "×–…€日"}[encoding]
    expected = "".join(c if c in kept else plain.get(c, c) for c in "3 × 4 – 5 … € 日 ")
    assert file.detach().getvalue() == expected.encode(encoding) + b"caf\xe9/a"


def test_closed_output(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As with >&- in a shell: there is nothing to write to, which is no error."""
    monkeypatch.setattr(sys, "argv", ["ofa", "status", str(trained)])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    sys.stdout.buffer.close()
    assert ended.value.code == 0
    assert capsys.readouterr().err == ""


def test_no_standard_stream_at_all(tmp_path: Path) -> None:
    """As services start programs; what is opened next must not take their numbers."""
    program = "import sys; from onceforall.cli import main; main()"
    closed = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", program]
    assert subprocess.run([*closed, *TRAIN, "--out", str(tmp_path / "run"), "--cache", "none"], check=False).returncode == 0
    assert (tmp_path / "run" / "supernet.safetensors").exists()


def test_a_reader_that_has_seen_enough() -> None:
    """As with | head -1: the work goes on to its end."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = cli._Patient(open(writing, "wb"))  # noqa: SIM115  # closed below
    for _ in range(2):
        print("a result", file=stream, flush=True)
    with pytest.raises(BrokenPipeError):
        stream.buffer.close()


def test_output_that_is_not_buffered_stays_so(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with python -u, or PYTHONUNBUFFERED in a container: whoever reads a log sees each line at once."""
    own = io.TextIOWrapper(io.BytesIO(), write_through=True)
    monkeypatch.setattr(sys, "argv", ["ofa", "status", str(trained)])
    monkeypatch.setattr(sys, "stdout", own)
    with pytest.raises(SystemExit):
        cli.main()
    assert isinstance(sys.stdout, cli._Patient)
    assert sys.stdout.write_through


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "argv", ["ofa", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "ofa: the working folder no longer exists: change to one that does\n"


def test_spaces_of_a_path_stay(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(trained, tmp_path / "my  two\tspaces ")
    assert cli.run(["search", str(run), "--latency", "5ms"]) == 1
    assert f"ofa profile '{run}' --device cpu\n" in capsys.readouterr().err


def test_name_that_the_locale_cannot_write(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*given: object, **more: object) -> None:
        "größe".encode("ascii")

    monkeypatch.setattr("onceforall.cli.program.ofa", fail)
    assert cli.run(["status", "größe"]) == 1
    assert capsys.readouterr().err == "ofa: 'größe': this locale (ascii) cannot write that: set LC_ALL=C.UTF-8, or PYTHONUTF8=1\n"
