"""A disk that is really full: a small file system in memory, mounted in a namespace of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onceforall.train.checkpoint import digest_of
from tiny_run import TRAINING_TEXT

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
PROGRAM = "import sys; from onceforall.cli import main; main()"
SCRIPT = """
mount -t tmpfs -o size=900k tmpfs "$1" || exit 90
shift
"$@" && exit 91
mount -o remount,size=64m "$DISK" && "$@" && cp "$DISK/run/supernet.safetensors" "$KEPT"
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this machine lets users mount nothing")
def test_a_training_stops_and_goes_on_when_there_is_room(trained: Path, tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept.safetensors"
    disk.mkdir()
    command = [sys.executable, "-c", PROGRAM, "train", "digits", "--out", str(disk / "run"), *TRAINING_TEXT, "--resume"]
    found = subprocess.run(
        [*NAMESPACE, "env", f"DISK={disk}", f"KEPT={kept}", "sh", "-c", SCRIPT, "sh", str(disk), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 90:
        pytest.skip("this machine lets users mount nothing")
    assert found.returncode == 0, found.stderr
    errors = [line for line in found.stderr.splitlines() if line.startswith("ofa:")]
    assert len(errors) == 1
    assert errors[0].endswith(": the disk is full: free some space and run the command again (ofa train: with --resume)")
    assert digest_of(kept) == digest_of(trained / "supernet.safetensors")


@pytest.mark.parametrize("arguments", [["devices"], ["--version"]])
def test_results_to_a_full_disk(arguments: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert [line.startswith("ofa: ") for line in found.stderr.splitlines()] == [True]
    assert found.stderr.endswith(": No space left on device\n")
