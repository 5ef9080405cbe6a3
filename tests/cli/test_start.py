"""What starts at once: without torch, which takes seconds to load."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from onceforall.cli import run
code = run(sys.argv[1:])
print(code, *sorted({"torch", "torchvision"} & {*sys.modules}), file=sys.stderr)
"""


def starts(*words: str) -> tuple[int, list[str]]:
    """The exit code of a command line in a process of its own, and what of torch it loaded."""
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True)
    code, *loaded = done.stderr.splitlines()[-1].split()
    return int(code), loaded


def test_status(measured: Path) -> None:
    assert starts("status", str(measured)) == (0, [])


@pytest.mark.parametrize("command", ["", "train", "specialise"])
def test_help(command: str) -> None:
    assert starts(*command.split(), "--help") == (0, [])
