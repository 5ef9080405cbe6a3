"""Signals that ask a command to end: Ctrl-C, a shell's or scheduler's request, a closed terminal, Slurm's warning."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], None]
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # Windows has the first two


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Call the handler for each of `SIGNALS` inside the block. Ignored signals stay ignored, such as SIGHUP under nohup.

    Handlers written in C stay too, because Python cannot restore them.
    """
    numbers = [signal.Signals[name] for name in SIGNALS if name in signal.Signals.__members__]
    before = {number: old for number in numbers if (old := signal.getsignal(number)) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that ends a command as Ctrl-C does; other signals are named, because the user may not expect them."""
    if number != signal.SIGINT:
        with suppress(OSError):  # the terminal is gone
            os.write(2, f"received {signal_name(number)}\n".encode())
    raise KeyboardInterrupt


def signal_name(number: int) -> str:
    """The signal's name."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
