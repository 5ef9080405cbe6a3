"""Who listens to a long call."""

from typing import Any

from onceforall.common.progress import QUIET, Progress


def test_nobody_needs_to_listen() -> None:
    QUIET.say("a line")
    QUIET.count(1, 2, "")
    QUIET.event({"event": "phase"})
    QUIET.result(3)
    QUIET.note("a line")
    assert QUIET.stopped() is False


def test_a_note_is_a_record() -> None:
    events: list[dict[str, Any]] = []
    Progress(event=events.append).note("images are decoded")
    assert events == [{"event": "note", "text": "images are decoded"}]
