"""Ctrl-C in every long command: exit code 130, one line at the end, no traceback, and what was finished is still there.

Training and profiles are interrupted in test_killed.py, imports in test_import.py.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onceforall.accuracy import read_rows
from onceforall.common.files import read_lines
from onceforall.pipeline import Run
from warm import Ofa


def rows(run: Path) -> int:
    """Sub-networks measured; every file is whole."""
    return len(read_rows(run / "accuracy", Run.open(run).space))


def evaluations(run: Path) -> int:
    return len(read_lines(run / "evaluations.jsonl"))


def folders(run: Path) -> int:
    return len(list((run / "specialised").glob("*/README.md")))


# command: arguments, what standard error says when it is time, and a count that must have grown (None: nothing is left)
CASES: dict[str, tuple[list[str], str, Callable[[Path], int] | None]] = {
    "evaluate": (["--arch", "random:500"], "random 3 done", evaluations),
    "measure-accuracy": (["--subnets", "400"], "measuring: ", rows),
    "predict": (["--subnets", "400"], "measuring: ", None),
    "search": (["--params", "1M", "--finalists", "60"], "measuring the best", None),
    "specialise": (["--params", "300k", "--finalists", "60"], "measuring the best", None),
    "demo": (["--out", "NEW"], "phase single-path", None),
}


@pytest.mark.parametrize("command", CASES)
def test_interrupted(run_copy: Path, tmp_path: Path, command: str) -> None:
    arguments, sign, count = CASES[command]
    if command == "demo":
        given = ["demo", "--out", str(tmp_path / "demo")]
    else:
        given = [command, str(run_copy), *arguments]
    before = 0 if count is None else count(run_copy)
    predictor = (run_copy / "accuracy" / "predictor.safetensors").read_bytes()
    process = Ofa(given)
    said = []
    for line in process.stderr:
        said.append(line.rstrip("\n"))
        if sign in line:
            break
    while count is not None and count(run_copy) <= before and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    said += err.splitlines()
    assert process.returncode == 130, said
    assert out == ""
    assert [line for line in said if line.startswith("ofa: ")] == said[-1:]
    assert not any("Traceback" in line for line in said)
    assert "kept" in said[-1] or "--resume" in said[-1]
    assert count is None or count(run_copy) > before
    assert (run_copy / "accuracy" / "predictor.safetensors").read_bytes() == predictor
    assert not list(run_copy.rglob("*.tmp"))
    assert not list((run_copy / "specialised").glob(".*"))
