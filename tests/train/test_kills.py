"""Real kills at the level of the training loop: before every operation on a file, in every phase, by the clock; a full disk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dying_training
from once import made_once
from onceforall.train import SCHEMES

EXPLORE = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
STRIDE = 1 if EXPLORE else 23  # of the operations before which a training is killed


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of it, in one process that loads torch once and whose forks are killed."""
    script = Path(dying_training.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}

    def make(folder: Path) -> None:
        command = [sys.executable, str(script), str(folder / "killed"), "0", str(STRIDE)]
        (folder / "killed").mkdir()
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr
        (folder / "found.json").write_text(ended.stdout)

    made = made_once(tmp_path_factory.getbasetemp(), "kills", make)
    result: dict[str, Any] = json.loads((made / "found.json").read_text())
    return result


def test_before_every_operation_on_a_file(found: dict[str, Any]) -> None:
    """The final weights were compared there, bit by bit."""
    assert found["operations"] > 80


def test_in_every_phase(found: dict[str, Any]) -> None:
    assert found["kills"].keys() == SCHEMES.keys()
    assert found["kills"]["progressive_shrinking"] > 5


def test_while_fine_tuning(found: dict[str, Any]) -> None:
    assert found["tuned"] > 8


def test_a_full_disk(found: dict[str, Any]) -> None:
    """One clear line; the checkpoint before is whole and training goes on from it when there is room."""
    disk = found["disk"]
    assert disk["message"].endswith("checkpoints/step-000000005.safetensors: File too large")
    assert "\n" not in disk["message"]
    assert disk["step"] == "4"
    assert disk["left"] == "good.safetensors step-000000003.safetensors step-000000004.safetensors"
