"""Optional packages: found, imported and kept quiet, with errors of one line."""

import importlib
import importlib.util
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from ..errors import DeviceError, MissingExtraError

_REDIRECTING = threading.RLock()


def require(package: str, extra: str) -> None:
    """Look for a package without importing it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


def import_package(name: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        MissingExtraError: the package is not installed.
        DeviceError: it is, but cannot be imported.
    """
    package = name.partition(".")[0]
    require(package, extra)
    try:
        with quiet_packages():
            return importlib.import_module(name)
    except Exception as error:  # whatever a package does when a library of its own does not load
        raise DeviceError(
            f"the package {package!r} is installed but cannot be imported: {one_line(error)}: reinstall it"
        ) from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


@contextmanager
def quiet_packages() -> Iterator[None]:
    """Warnings, log messages and progress bars of other packages do not reach the user; errors do.

    Of several threads that are inside at once, the first to come silences them, and the last to go lets them speak again.
    """
    _HUSHED.come()
    try:
        yield
    finally:
        _HUSHED.go()


class _Hushed:
    """How many are inside `quiet_packages`, and what is to be put back after them."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, ExitStack()

    def come(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before.callback(logging.disable, logging.root.manager.disable)
                logging.disable(logging.WARNING)
                self._before.enter_context(warnings.catch_warnings(action="ignore"))
                self._before.enter_context(redirect_stdout(io.StringIO()))

    def go(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


_HUSHED = _Hushed()


@contextmanager
def no_stderr() -> Iterator[None]:
    """What is written to this process's standard error is dropped: the only way to quiet a library in C++ that logs to it.

    That of other threads is dropped too, so this is for seconds at most. One thread at a time: two that overlap could put back
    what the other one had put there.
    """
    with _dropped(2, sys.stderr), redirect_stderr(io.StringIO()):  # what Python has there may be another file
        yield


@contextmanager
def no_stdout() -> Iterator[None]:
    """Like `no_stderr`, for standard output."""
    with _dropped(1, sys.stdout), redirect_stdout(io.StringIO()):
        yield


@contextmanager
def _dropped(descriptor: int, stream: TextIO | None) -> Iterator[None]:
    with _REDIRECTING:
        if stream is not None:
            stream.flush()
        try:
            before = os.dup(descriptor)
        except OSError:  # there is none
            yield
            return
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, descriptor)
            os.close(nothing)
            yield
        finally:
            os.dup2(before, descriptor)
            os.close(before)


@contextmanager
def same_environment() -> Iterator[None]:
    """Environment variables that a package sets for itself when it is imported are as before afterwards."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)
