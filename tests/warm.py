"""`ofa` in processes of its own that are forked from one that has loaded torch, which takes seconds of every other start.

For tests of what happens to a command while it works; what happens while it starts is tried with new interpreters.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from multiprocessing.connection import Connection
from threading import Thread
from typing import IO

from onceforall.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["onceforall.pipeline.train", "onceforall.pipeline.specialise", "onceforall.cli.program", "warm"])


def _be(
    program: Callable[[], object], arguments: list[str], environment: dict[str, str], given: Connection | None, out: Connection,
    err: Connection,
) -> None:  # fmt: skip
    os.environ.clear()
    os.environ.update(environment)
    if given is not None:
        os.dup2(given.fileno(), 0)
        sys.stdin = TextIOWrapper(os.fdopen(0, "rb"))
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = (TextIOWrapper(os.fdopen(fd, "wb", buffering=size), line_buffering=size == 0, write_through=size == 0)
                              for fd, size in ((1, 8192), (2, 0)))  # fmt: skip
    sys.argv = ["ofa", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program()


class Ofa:
    """A running command, or another program that reads `sys.argv`, as `subprocess.Popen` of text would be."""

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str] | None = None,
        program: Callable[[], object] = main,
        *,
        asks: bool = False,
    ) -> None:
        (out, out_end), (err, err_end), (in_end, into) = (multiprocessing.Pipe(duplex=False) for _ in range(3))
        given = {**os.environ, **(environment or {})}
        self._process = _CONTEXT.Process(
            target=_be, args=(program, arguments, given, in_end if asks else None, out_end, err_end), daemon=False
        )
        self._process.start()
        in_end.close()
        self.stdin: IO[str] = os.fdopen(os.dup(into.fileno()), "w", encoding="utf-8")
        into.close()
        out_end.close()
        err_end.close()
        self.stdout: IO[str] = os.fdopen(os.dup(out.fileno()), encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(os.dup(err.fileno()), encoding="utf-8")
        self.pid = self._process.pid
        assert self.pid is not None

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("ofa", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            assert self.pid is not None
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it still prints, when it has ended."""
        texts: dict[IO[str], str] = {}
        readers = [Thread(target=lambda file=file: texts.update({file: file.read()})) for file in (self.stdout, self.stderr)]
        for reader in readers:
            reader.start()
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"it did not end in {timeout} s")
        for reader in readers:
            reader.join()
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()
        return texts[self.stdout], texts[self.stderr]


def two_processes_of(arguments: list[str], program: Callable[[], object] = main) -> "subprocess.CompletedProcess[str]":
    """The command as the two processes that torchrun would start, with what torchrun tells them; what both say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    both = [Ofa(arguments, {**told, "RANK": rank, "LOCAL_RANK": rank}, program) for rank in ("0", "1")]
    said = [process.communicate(timeout=200) for process in both]
    codes = [process.returncode or 0 for process in both]
    return subprocess.CompletedProcess(arguments, max(codes, key=abs), *("".join(texts) for texts in zip(*said, strict=True)))
