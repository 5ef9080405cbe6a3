"""Find, import and silence optional packages, with one-line errors."""

import importlib
import importlib.util
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from ..errors import DeviceError, MissingExtraError

_REDIRECTING = threading.RLock()


def require(package: str, extra: str) -> None:
    """Check that a package is installed, without importing it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


def import_package(name: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingExtraError: the package is not installed.
        DeviceError: it is, but cannot be imported.
    """
    package = name.partition(".")[0]
    require(package, extra)
    try:
        with quiet_packages():
            return importlib.import_module(name)
    except Exception as error:  # packages raise all kinds of errors if one of their libraries does not load
        raise DeviceError(
            f"the package {package!r} is installed but cannot be imported: {one_line(error)}: reinstall it"
        ) from error


def one_line(error: BaseException) -> str:
    """An error's message as one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


class _Quiet:
    """See `quiet_packages`."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before.callback(logging.disable, logging.root.manager.disable)
                logging.disable(logging.WARNING)
                self._before.enter_context(warnings.catch_warnings(action="ignore"))
                self._before.enter_context(redirect_stdout(io.StringIO()))

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


_QUIET = _Quiet()


def quiet_packages() -> AbstractContextManager[None]:
    """Hide warnings, log messages and progress bars of other packages from the user, but not errors.

    If several threads are inside at once, the first to enter silences the packages, and the last to leave restores them.
    """
    return _QUIET


@contextmanager
def no_stderr() -> Iterator[None]:
    """Drop everything written to this process's standard error: the only way to silence a C++ library that logs to it.

    The output of other threads is dropped too, so use it for seconds at most. One thread at a time: if two overlapped, one could
    restore what the other had redirected.
    """
    with _dropped(2, sys.stderr), redirect_stderr(io.StringIO()):  # sys.stderr may be another file
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
    """Restore environment variables afterwards, for packages that set some when they are imported."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)
