"""`Progress`: what a long call says while it works, and how it is asked to stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]


def _ignored(*told: Any) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Progress:
    """Who listens to a call; whatever is not given is not listened to.

    Args:
        say: gets a line on what is being done now.
        count: gets how many are done, how many there are in all, and a note.
        event: gets records of a training, as metrics.jsonl has them; besides "data", "decode", "download" and "note" records.
        result: gets each of several results as soon as it is there.
        stopped: asked after every step of a training; True ends it with a checkpoint and `StoppedError`.
    """

    say: Callable[[str], None] = _ignored
    count: Callable[[int, int, str], None] = _ignored
    event: Callable[[Event], None] = _ignored
    result: Callable[[Any], None] = _ignored
    stopped: Callable[[], bool] = lambda: False

    def note(self, text: str) -> None:
        """A "note" record."""
        self.event({"event": "note", "text": text})


QUIET = Progress()
