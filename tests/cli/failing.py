"""A command that must fail."""

import pytest

from onceforall.cli import run


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """The message of a command that must fail."""
    capsys.readouterr()
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    *before, last = err.splitlines()
    assert last.startswith("ofa: ")
    assert not any(line.startswith("ofa: ") for line in before)
    assert "Traceback" not in err
    assert "rror(" not in last
    return last.removeprefix("ofa: ")
