"""Every signal that asks for an end leaves a checkpoint, a line that names it and says how to go on, and exit code 130."""

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from onceforall.cli import _notes, run
from onceforall.cli.signals import SIGNALS, handled
from onceforall.cli.views import tell
from onceforall.errors import Note
from tiny_run import TRAINING_TEXT


@pytest.fixture(autouse=True)
def _not_under_nohup() -> Iterator[None]:
    """Where the tests themselves were started by nohup, SIGHUP is ignored, here and in every process that starts here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


PROGRAM = [sys.executable, "-c", "import sys; from onceforall.cli import main; main()"]
MANY = [*TRAINING_TEXT[:4], "--epochs", "20000", "--limit", "120", "--batch-size", "32"]  # never ends by itself


def trains(out: Path) -> bool:
    """Whether two steps are written down, so that the first has been shown too. A line may be half written."""
    path = out / "metrics.jsonl"
    return path.exists() and path.read_bytes().count(b'"event": "train"') > 1


def last_step(out: Path) -> int:
    """Of the newest checkpoint."""
    return max(int(path.stem.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*.safetensors"))


@contextmanager
def started(arguments: list[str], **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command, which does not outlive the test."""
    process = subprocess.Popen([*PROGRAM, *arguments], **settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Sent to this process, which spares another's start."""
    out, ended = tmp_path / "run", threading.Event()

    def send() -> None:
        try:
            while not ended.is_set() and not trains(out):
                time.sleep(0.02)
        finally:  # without it the training never ends
            if not ended.is_set():
                os.kill(os.getpid(), signal.Signals[name])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        code = run(["train", "digits", "--out", str(out), *MANY])
    finally:
        ended.set()
        sender.join()
    *before, last = capsys.readouterr().err.splitlines()
    assert code == 130
    assert f"{name}: stopping with a checkpoint after this step; repeat to stop at once" in before
    assert last.startswith("ofa: stopped at step ")
    assert "continue with --resume" in last
    assert f"step {last_step(out)} of" in last


def test_a_terminal_that_closes_leaves_a_checkpoint(tmp_path: Path) -> None:
    """The kernel sends SIGHUP, and from then on writing to the terminal fails."""
    out = tmp_path / "run"
    ours, theirs = pty.openpty()

    def own_session() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(2), os.O_RDWR))  # becomes the terminal of the session

    settings = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "preexec_fn": own_session}
    with started(["train", "digits", "--out", str(out), *MANY], **settings) as process:
        os.close(theirs)
        while process.poll() is None and not trains(out):
            os.read(ours, 100_000)
        os.close(ours)
        assert process.wait(timeout=300) == 130
    assert last_step(out) > 0


def test_nohup_is_kept(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[int] = []
    try:
        with handled(lambda number, frame: seen.append(number)):
            for name in SIGNALS:
                os.kill(os.getpid(), signal.Signals[name])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert sorted(seen) == sorted(signal.Signals[name] for name in SIGNALS if name != "SIGHUP")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(signal.Signals[name]) for name in SIGNALS]
    with handled(lambda number, frame: None):
        pass
    assert before == [signal.getsignal(signal.Signals[name]) for name in SIGNALS]


def test_handlers_written_in_c_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python does not know them, and cannot put them back: `signal.signal(number, None)` is an error."""
    before = [signal.getsignal(signal.Signals[name]) for name in SIGNALS]
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with handled(lambda number, frame: pytest.fail("called")):
            patch.undo()
            assert before == [signal.getsignal(signal.Signals[name]) for name in SIGNALS]


def test_notes_do_not_end_what_has_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with _notes():
        warnings.warn("something", Note, stacklevel=1)


def test_lines_come_from_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of those of torchrun."""
    for size, rank in (("2", "0"), ("2", "1"), ("1", "1"), ("many", "1")):  # the latter two are of something else
        monkeypatch.setenv("WORLD_SIZE", size)
        monkeypatch.setenv("RANK", rank)
        tell(f"process {rank} of {size}")
    monkeypatch.delenv("WORLD_SIZE")
    tell("process 1 of no others")
    assert capsys.readouterr().err.splitlines() == [
        "process 0 of 2",
        "process 1 of 1",
        "process 1 of many",
        "process 1 of no others",
    ]


def test_other_commands_end_with_one_line(trained: Path, tmp_path: Path) -> None:
    run_copy = Path(shutil.copytree(trained, tmp_path / "run"))
    given = ["measure-accuracy", str(run_copy), "--subnets", "400"]
    with started(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == b""
    *_, named, last = err.decode().splitlines()
    assert named == "received SIGUSR1"
    assert last.startswith("ofa: interrupted; finished work is kept")
    assert run(["status", str(run_copy)]) == 0
