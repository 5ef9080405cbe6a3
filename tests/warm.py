"""`ofa` in processes of its own that are forked from one that has loaded torch, which takes seconds of every other start.

For tests of what happens to a command while it works; what happens while it starts is tried with new interpreters.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from multiprocessing.connection import Connection
from threading import Thread
from typing import IO

from onceforall.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["onceforall.pipeline.train", "onceforall.pipeline.specialise", "onceforall.cli.program", "warm"])


def _be_ofa(arguments: list[str], environment: dict[str, str], out: Connection, err: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = (TextIOWrapper(os.fdopen(fd, "wb", buffering=size), line_buffering=size == 0, write_through=size == 0)
                              for fd, size in ((1, 8192), (2, 0)))  # fmt: skip
    sys.argv = ["ofa", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


class Ofa:
    """A running command, as `subprocess.Popen` of text would be."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str] | None = None) -> None:
        (out, out_end), (err, err_end) = multiprocessing.Pipe(duplex=False), multiprocessing.Pipe(duplex=False)
        given = {**os.environ, **(environment or {})}
        self._process = _CONTEXT.Process(target=_be_ofa, args=(arguments, given, out_end, err_end), daemon=False)
        self._process.start()
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
        self.stdout.close()
        self.stderr.close()
        return texts[self.stdout], texts[self.stderr]
