"""Real processes: killed at random moments and resumed, interrupted by Ctrl-C."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onceforall.cli import run
from onceforall.files import read_lines
from onceforall.train.checkpoint import digest_of
from tiny_run import SPACE_TEXT

# paper: SGD; digits: AdamW
RECIPES = {"digits": ["--preset", "digits"], "paper": ["--preset", "paper", "--rate", "0.05"]}
ARGUMENTS = ["--space", SPACE_TEXT + ",strides=1/1/2/2/2/1/1", "--epochs", "6", "--limit", "120", "--batch-size", "32"]


def command(out: Path, preset: str) -> list[str]:
    return ["train", "digits", "--out", str(out), *RECIPES[preset], *ARGUMENTS, "--resume"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    program = "import sys; from onceforall.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], path: Path, lines: int) -> None:
    """Until the file has that many lines, or the process has ended."""
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        time.sleep(0.005)


@pytest.mark.parametrize(("preset", "kills"), [("paper", 2), ("digits", 1)])
def test_killed_and_resumed(tmp_path: Path, preset: str, kills: int) -> None:
    assert run(command(tmp_path / "whole", preset)) == 0
    rng, out = np.random.default_rng(len(preset)), tmp_path / "run"
    whole = read_lines(tmp_path / "whole" / "metrics.jsonl")
    for kill in range(kills):
        lines = int(rng.integers(1 + kill * len(whole) // kills, 1 + (kill + 1) * len(whole) // kills))
        process = start(command(out, preset))
        wait_for(process, out / "metrics.jsonl", lines)
        time.sleep(float(rng.uniform(0, 0.1)))
        process.kill()
        process.communicate()
    assert run(command(out, preset)) == 0
    assert digest_of(out / "supernet.safetensors") == digest_of(tmp_path / "whole" / "supernet.safetensors")
    records = read_lines(out / "metrics.jsonl")
    timeless = [[{**r, "seconds": 0} for r in rows] for rows in (records, whole)]
    assert timeless[0] == timeless[1]
    assert not [path for path in (out / "checkpoints").iterdir() if path.suffix == ".tmp"]


def test_ctrl_c_while_training(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(command(out, "digits"))
    wait_for(process, out / "metrics.jsonl", 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    lines = [line for line in err.splitlines() if line.startswith("ofa: ")]
    assert process.returncode == 130
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    assert "go on with --resume" in lines[0]
    assert "Traceback" not in err
    assert list((out / "checkpoints").glob("step-*"))
    assert run(command(out, "digits")) == 0
    assert run(command(tmp_path / "whole", "digits")) == 0
    assert digest_of(out / "supernet.safetensors") == digest_of(tmp_path / "whole" / "supernet.safetensors")


def test_ctrl_c_while_measuring(run_copy: Path) -> None:
    measurements = run_copy / "latency" / "pytorch-threads1-batch1" / "measurements.jsonl"
    process = start(["profile", str(run_copy), "--device", "pytorch", "--quick"])
    wait_for(process, measurements, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    (line,) = err.splitlines()
    assert line.startswith("ofa: interrupted; what was finished is kept")
    assert len(read_lines(measurements)) >= 2
    assert (run_copy / "latency" / "onnxruntime-threads1-batch1" / "table.json").exists()


def test_a_reader_that_has_seen_enough(trained: Path) -> None:
    with start(["evaluate", str(trained), "--json"]) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "largest done\n"
    assert (trained / "evaluations.jsonl").exists()
