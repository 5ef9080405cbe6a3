"""The command `ofa`: reads arguments, calls the pipeline, shows what happens.

Results go to standard output, progress and messages to standard error. Every failure is one line and an exit code that is
not 0: 1 for something to mend, 2 for a wrong command line, 130 for Ctrl-C.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

import typer

from ..advice import ofa
from ..errors import OnceForAllError
from ..memory import keep_freed_memory
from .signals import handled, interrupt

__all__ = ["main", "run"]

INTERRUPTED = 130
SHARING = {"profile", "devices", "measure", "demo", "explore"}  # time runtimes as others' programs run them, or stay for long
OUT_OF_MEMORY = "out of memory: use a smaller batch size or a smaller space"

# typer does not name click's base class of wrong command lines
UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


def main() -> None:
    """Entry point of `ofa`. Of torchrun's processes only the first prints results."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for the rest of the process
    if not {*sys.argv[1:2]} & SHARING:
        keep_freed_memory()
    with handled(interrupt):
        code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # results went to a full disk
        code = _fail(f"standard output: {error.strerror}", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        from .program import ofa  # here, so that Ctrl-C while it loads is one line too

        code = int(ofa(arguments, prog_name="ofa", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C; older versions make it Abort
            raise KeyboardInterrupt
        return code
    except OnceForAllError as error:
        return _fail(str(error), error.exit_code)
    except UsageError as error:
        message, context = error.format_message(), error.ctx  # type: ignore[attr-defined]
        message += _meant(arguments, message)
        return _fail(f"{message} (see {context.command_path if context else 'ofa'} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        again = "give the command again with --resume" if "train" in arguments[:1] else "give the command again"
        return _fail(f"interrupted; what was finished is kept: {again} to go on", INTERRUPTED)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except MemoryError:
        return _fail(OUT_OF_MEMORY, 1)
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # torch has no class of its own for this on a CPU
            return _fail(OUT_OF_MEMORY, 1)
        return _unexpected(error)
    except Exception as error:
        return _unexpected(error)


def _meant(arguments: list[str], message: str) -> str:
    """What people who type this command line want, where that is known."""
    if arguments[:1] == ["predict"] and "unexpected extra argument" in message:
        others = [Path(word) for word in arguments[1:] if not word.startswith("--")]
        return f": predict measures accuracies of sub-networks; to tell what photographs show: {ofa('classify', *others)}"
    if any(word.startswith("-") and not word.startswith("--") and Path(word).exists() for word in arguments):
        return ": put ./ before a path that begins with a dash"
    return ""


def _unexpected(error: Exception) -> int:
    """A bug of ours, or a file of the run directory that was edited: still one line, the traceback on request."""
    if os.environ.get("OFA_TRACEBACK"):
        raise error
    return _fail(f"unexpected {error!r}: a damaged run directory or a bug; OFA_TRACEBACK=1 shows where", 70)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # the terminal is gone
        print(f"ofa: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
