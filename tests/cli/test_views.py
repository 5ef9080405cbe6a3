"""Lines come in the order in which things happened."""

import io
import re

import pytest
from rich.console import Console

from onceforall.cli import views
from onceforall.cli.views import TrainView, lasting_stream


def test_lines_are_in_the_order_of_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "TRAINING_SILENCE_S", -1.0)  # every step has a line
    text = io.StringIO()
    with TrainView(Console(file=text)) as view:
        view({"event": "phase", "phase": "one", "step": 0, "steps": 700, "rate": 0.1})
        for step in range(20, 701, 20):
            view({"event": "train", "phase": "one", "step": step, "loss": 1.0, "remaining_s": None, "progress": step / 700})
            if step % 640 == 0:
                for subnet in ("largest", "smallest", "random"):
                    view({"event": "validation", "step": step, "subnet": subnet, "top1": 0.5})
            if step == 680:
                view({"event": "note", "text": "a note"})
        view({"event": "validation", "step": 700, "subnet": "largest", "top1": 0.5})
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("phase one")
    steps = [int(found[1]) for line in lines if (found := re.match(r"  step (\d+): ", line))]
    assert steps == sorted(steps)
    assert len(steps) == 35 + 2
    (held_out,) = (i for i, line in enumerate(lines) if line.startswith("  step 640: held-out"))
    assert lines[held_out] == "  step 640: held-out top-1 largest 50.0 %, smallest 50.0 %, random 50.0 %"
    assert lines[held_out - 1].startswith("  step 640: loss")
    assert lines[held_out + 1].startswith("  step 660: loss")
    assert lines[lines.index("a note") - 1].startswith("  step 680: loss")
    assert lines[-1].startswith("  step 700: held-out")


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    with TrainView(Console(file=lasting_stream(Gone()), force_terminal=True)) as view:
        view({"event": "note", "text": "nobody reads this"})
        view({"event": "phase", "phase": "one", "step": 0, "steps": 700, "rate": 0.1})


def test_a_stream_that_was_closed_first() -> None:
    """Python closes the wrapper when it collects it, and from 3.13 on says what that raised."""
    stream = io.TextIOWrapper(io.BytesIO())
    lasting = lasting_stream(stream)
    stream.close()
    lasting.close()
