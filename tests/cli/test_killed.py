"""Real processes: killed at random moments and resumed, interrupted by Ctrl-C."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onceforall.cli import run
from onceforall.common.files import read_lines
from onceforall.train.checkpoint import digest_of
from tiny_run import SPACE_TEXT
from warm import Ofa

# paper: SGD; digits: AdamW
RECIPES = {
    "digits": ["--preset", "digits", "--scheme", "progressive_shrinking"],
    "paper": ["--preset", "imagenet-ofa", "--rate", "0.05"],
}
ARGUMENTS = ["--space", SPACE_TEXT + ",strides=1/1/2/2/2/1/1", "--epochs", "6", "--limit", "120", "--batch-size", "32"]


def command(out: Path, preset: str) -> list[str]:
    return ["train", "digits", "--out", str(out), *RECIPES[preset], *ARGUMENTS, "--resume"]


def wait_for(process: Ofa, path: Path, lines: int) -> None:
    """Until the file has that many lines, or the process has ended."""
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        time.sleep(0.005)


@pytest.mark.parametrize(("preset", "signals"), [("paper", [signal.SIGKILL] * 2), ("digits", [signal.SIGINT, signal.SIGKILL])])
def test_killed_and_resumed(tmp_path: Path, preset: str, signals: list[signal.Signals]) -> None:
    assert run(command(tmp_path / "whole", preset)) == 0
    rng, out = np.random.default_rng(len(preset)), tmp_path / "run"
    whole = read_lines(tmp_path / "whole" / "metrics.jsonl")
    for i, number in enumerate(signals):
        lines = int(rng.integers(1 + i * len(whole) // len(signals), 1 + (i + 1) * len(whole) // len(signals)))
        process = Ofa(command(out, preset))
        wait_for(process, out / "metrics.jsonl", lines)
        time.sleep(float(rng.uniform(0, 0.1)))
        process.send_signal(number)
        _, err = process.communicate()
        if number == signal.SIGINT:
            check_interrupted(process.returncode, err)
    assert run(command(out, preset)) == 0
    assert digest_of(out / "supernet.safetensors") == digest_of(tmp_path / "whole" / "supernet.safetensors")
    steps, phases = ([[r[key] for r in rows if r["event"] == event] for rows in (read_lines(out / "metrics.jsonl"), whole)]
                     for event, key in (("train", "step"), ("phase", "phase")))  # fmt: skip
    assert steps[0] == sorted({*steps[0], *steps[1]})  # a stop adds a line, none is lost or doubled
    assert phases[0] == phases[1]
    validations = [[{**r, "seconds": 0} for r in read_lines(folder / "metrics.jsonl") if r["event"] == "validation"]
                   for folder in (out, tmp_path / "whole")]  # fmt: skip
    assert validations[0] == validations[1]
    assert not [path for path in (out / "checkpoints").iterdir() if path.suffix == ".tmp"]


def check_interrupted(code: int, err: str) -> None:
    """One line at the end, the exit code of Ctrl-C, no traceback."""
    assert code == 130
    lines = err.splitlines()
    assert lines[-1].startswith("ofa: stopped at step ")
    assert "continue with --resume" in lines[-1]
    assert not any(line.startswith("ofa: ") or "Traceback" in line for line in lines[:-1])


def test_ctrl_c_while_measuring(run_copy: Path) -> None:
    measurements = run_copy / "latency" / "pytorch-threads1-batch1" / "measurements.jsonl"
    process = Ofa(["profile", str(run_copy), "--device", "pytorch"])
    wait_for(process, measurements, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    first, *_, line = err.splitlines()
    assert re.fullmatch(r"measuring: 0 of \d+ segments", first)
    assert line.startswith("ofa: interrupted; finished work is kept")
    assert len(read_lines(measurements)) >= 2
    assert (run_copy / "latency" / "onnxruntime-threads1-batch1" / "table.json").exists()


def test_a_reader_that_has_seen_enough() -> None:
    command = [sys.executable, "-m", "onceforall", "devices", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ctrl_c_while_fine_tuning(run_copy: Path) -> None:
    process = Ofa(["specialise", str(run_copy), "--no-limit", "--finalists", "1", "--finetune", "5000"])
    while process.poll() is None and not list(run_copy.glob("finetuned/*/step-*.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out == ""
    lines = err.splitlines()
    assert re.fullmatch(r"ofa: stopped at step \d+ of 15000 of fine-tuning on request; run the same command to continue", lines[-1])
    assert any(re.fullmatch(r"epoch \d+ of 5000: loss .* left", line) for line in lines)
    assert not any(line.startswith("ofa: ") or "Traceback" in line for line in lines[:-1])
