"""The command `ofa`: reads arguments, calls the pipeline, shows what happens.

Results go to standard output, progress and messages to standard error. Every failure is one line and a nonzero exit code: 1 for
something to fix, 2 for a wrong command line, 130 for Ctrl-C.
"""

import codecs
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

import typer

from ..common.advice import ofa
from ..common.memory import keep_freed_memory
from ..common.processors import leads
from ..errors import Note, OnceForAllError
from .signals import handled, interrupt

__all__ = ["main", "run"]

INTERRUPTED = 130
SHARING = {"profile", "devices", "measure", "demo", "explore"}  # these time runtimes as other programs run them, or run for long
OUT_OF_MEMORY = "out of memory: use a smaller batch size or a smaller space"

LOOKS_LIKE = dict(zip("×–—µ’·●²³", "x--u'.*23", strict=True)) | {"…": "...", "±": "+-", "→": "->", "≤": "<=", "≥": ">="}

# typer does not name click's base class of wrong command lines
UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


class _Patient(io.TextIOWrapper):
    """Standard output that ignores a closed pipe, as left by `head`, so that the command completes its work."""

    def write(self, text: str) -> int:
        with suppress(BrokenPipeError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            super().flush()

    def close(self) -> None:
        """Leave the buffer open: it belongs to the original stream."""
        with suppress(ValueError):
            self.flush()


def main() -> None:
    """Entry point of `ofa`. Under torchrun only the first process prints results."""
    _open_what_is_closed()
    _take_any_text()
    if isinstance(sys.stdout, io.TextIOWrapper):
        own = sys.stdout
        line, through = own.line_buffering, own.write_through  # as python -u sets them
        sys.stdout = _Patient(own.buffer, own.encoding, own.errors, line_buffering=line, write_through=through)
    if not leads():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for the rest of the process
    if not {*sys.argv[1:2]} & SHARING:
        keep_freed_memory()
    try:
        os.getcwd()
    except OSError:  # numerical libraries would end the process, each in its own way
        sys.exit(_fail("the working folder no longer exists: change to one that does", 1))
    with handled(interrupt):
        code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        if isinstance(sys.stdout, _Patient):
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # output that nobody read would be an error when the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # results went to a full disk
        code = _fail(f"standard output: {error.strerror}", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    with _notes():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        from .program import ofa  # here, so that Ctrl-C while it loads is one line, too

        code = int(ofa(arguments, prog_name="ofa", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # typer's code for Ctrl-C; older versions raise Abort
            raise KeyboardInterrupt
        return code
    except OnceForAllError as error:
        return _fail(str(error), error.exit_code)
    except UsageError as error:
        message, context = error.format_message(), error.ctx  # type: ignore[attr-defined]
        message += _meant(arguments, message)
        return _fail(f"{message} (see {context.command_path if context else 'ofa'} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        again = "run the command again with --resume" if "train" in arguments[:1] else "run the command again"
        return _fail(f"interrupted; finished work is kept: {again} to continue", INTERRUPTED)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except UnicodeEncodeError as error:
        return _fail(f"{error.object!r}: this locale ({error.encoding}) cannot write that: set LC_ALL=C.UTF-8, or PYTHONUTF8=1", 1)
    except MemoryError:
        return _fail(OUT_OF_MEMORY, 1)
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # torch has no class of its own for this on a CPU
            return _fail(OUT_OF_MEMORY, 1)
        return _unexpected(error)
    except Exception as error:
        return _unexpected(error)


def _meant(arguments: list[str], message: str) -> str:
    """A hint for a common mistake in this command line, or ""."""
    if arguments[:1] == ["predict"] and "unexpected extra argument" in message:
        words = [Path(word) for word in arguments[1:] if not word.startswith("--")]
        there = [path for path in words if path.exists()]  # others may be values of options
        others = there if len(there) > 1 else words[:2]
        return f": predict measures accuracies of sub-networks; to classify photographs: {ofa('classify', *others)}"
    if any(word.startswith("-") and not word.startswith("--") and Path(word).exists() for word in arguments):
        return ": put ./ before a path that begins with a dash"
    return ""


@contextmanager
def _notes() -> Iterator[None]:
    """Print each note once to standard error; under torchrun only the first process's notes."""
    shown = set()
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, Note):
            before(message, category, filename, lineno, file, line)
        elif str(message) not in shown and leads():
            shown.add(str(message))
            with suppress(OSError):  # the terminal is gone
                print(f"note: {_one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", Note)
        warnings.showwarning = show
        yield


def _open_what_is_closed() -> None:
    """Redirect closed standard streams (>&-, some services) to the null device; otherwise the next opened file would become one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number, which is this one
        if vars(sys)[name] is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115  # for the rest of the process


def _take_any_text() -> None:
    """Replace characters that standard output or standard error cannot encode (no UTF-8) instead of failing."""

    def other(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)  # only writing comes here
        letters = error.object[error.start : error.end]
        try:
            return letters.encode("ascii", "surrogateescape"), error.end  # bytes of a path that is not UTF-8: unchanged
        except UnicodeEncodeError:
            plain = [LOOKS_LIKE.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters]
            return "".join(plain), error.end

    codecs.register_error("onceforall", other)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="onceforall")


def _unexpected(error: Exception) -> int:
    """Report a bug of ours, or an edited file in the run directory, in one line; the traceback is printed on request."""
    if os.environ.get("OFA_TRACEBACK"):
        raise error
    return _fail(f"unexpected {error!r}: a damaged run directory or a bug; OFA_TRACEBACK=1 shows where", 70)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # the terminal is gone
        print(f"ofa: {_one_line(message)}", file=sys.stderr, flush=True)
    return code


def _one_line(message: str) -> str:
    """The message without line breaks; other spaces stay, because a path in a command may have them."""
    return re.sub(r"\s*[\r\n]\s*", " ", message.strip())
