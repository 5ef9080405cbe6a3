"""`Progress`: how a long call reports its progress, and how it is asked to stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """Callbacks of a long call; those not given do nothing.

    Args:
        say: gets a line that describes the current work.
        count: gets the number of items done, their total, and a note.
        event: gets the records of a training, as in metrics.jsonl, and "data", "decode", "download" and "note" records.
        result: gets each of several results as soon as it is available.
        stopped: called after every training step; True ends training with a checkpoint and `StoppedError`.
    """

    say: Callable[[str], None] = lambda line: None
    count: Callable[[int, int, str], None] = lambda done, total, note: None
    event: Callable[[Event], None] = lambda record: None
    result: Callable[[Any], None] = lambda result: None
    stopped: Callable[[], bool] = lambda: False

    def note(self, text: str) -> None:
        """Send a "note" record."""
        self.event({"event": "note", "text": text})


QUIET = Progress()
