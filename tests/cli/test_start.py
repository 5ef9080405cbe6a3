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


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("evaluate /nowhere", 1),
        ("report /nowhere", 1),
        ("evaluate RUN --split all", 1),
        ("train digits --out NEW --preset best", 1),
        ("train digits --out NEW --recipe best=1", 1),
        ("predict RUN --subnets 3", 1),
        ("search RUN --device gpu", 1),
        ("specialise RUN", 2),
        ("specialise RUN --latency 5parsecs", 2),
    ],
)
def test_refusals(measured: Path, tmp_path: Path, command: str, code: int) -> None:
    places = {"RUN": str(measured), "NEW": str(tmp_path / "run")}
    assert starts(*(places.get(word, word) for word in command.split())) == (code, [])
