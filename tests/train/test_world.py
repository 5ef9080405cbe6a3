"""Two processes with gloo, started by torchrun: as one process with the whole batch; stops, divergence, a killed one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import two_processes
from onceforall.errors import TrainingError
from onceforall.train import Settings, World
from tiny_training import SPACE, same
from warm import two_processes_of


def torchrun(folder: Path, *scenarios: str, restarts: int) -> subprocess.CompletedProcess[str]:
    here = Path(two_processes.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parent)}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts),
        "--monitor-interval", "0.1", str(here), str(folder), *scenarios,
    ]  # fmt: skip
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each scenario gave in either process."""
    folder = tmp_path_factory.mktemp("both")
    names = [name for name in two_processes.SCENARIOS if name not in ("killed", "deserted")]
    ended = two_processes_of([str(folder), *names], two_processes.main)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)] for name in [*names, "threads"]}


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two processes that were started again since one was killed, and of which one left early then."""
    folder = tmp_path_factory.mktemp("restarted")
    ended = torchrun(folder, "killed", "deserted", restarts=1)
    assert ended.returncode == 0, ended.stderr
    return folder


def worst(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a if "running" not in name)


@pytest.mark.parametrize("scheme", two_processes.HALVES)
def test_halves_are_the_whole(tmp_path: Path, both: dict[str, list[Any]], scheme: str) -> None:
    """Half the batch in each of two processes, with synchronized batch norm: frozen and in-place teachers, candidates, clipping."""
    one = two_processes.halves(World(), tmp_path, scheme)
    assert same(*both[scheme])
    assert worst(both[scheme][0], one) < 1e-9
    assert worst(both[scheme][0], two_processes.double().state_dict()) > 1e-3, "something was learnt"


def test_without_batch_norm(tmp_path: Path, both: dict[str, list[Any]]) -> None:
    assert same(*both["no_norm"])
    assert worst(both["no_norm"][0], two_processes.no_norm(World(), tmp_path)) < 1e-9


def test_own_networks_in_each_process(both: dict[str, list[Any]]) -> None:
    first, second = both["own_archs"]
    assert same(first["weights"], second["weights"])
    assert same(first["alike"], second["alike"])
    assert worst(first["weights"], first["alike"]) > 1e-4
    assert first["resolutions"] == second["resolutions"]
    assert set(first["resolutions"]) == set(SPACE.resolutions)
    assert [f"checkpoints/{name}" in first["files"] for name in ("good.safetensors", "step-000000012.safetensors")] == [True] * 2
    assert second["files"] == [], "only the first process writes"


def test_a_stop_asked_of_one_stops_both(both: dict[str, list[Any]]) -> None:
    first, second = both["stopped"]
    assert first["message"] == second["message"] == "stopped at step 4 of 12 on request; continue with --resume"
    assert same(first["weights"], second["weights"])
    assert same(first["weights"], both["uninterrupted"][0])


def test_one_that_diverges_takes_both_back(both: dict[str, list[Any]]) -> None:
    first, second = both["diverging"]
    assert first["rollbacks"] == second["rollbacks"]
    assert len(first["rollbacks"]) == 2
    assert "no longer finite" in first["rollbacks"][0]
    assert "collapsed from 90.0% to 20.0%" in first["rollbacks"][1]
    assert same(first["weights"], second["weights"])
    assert all(value.isfinite().all() for name, value in first["weights"].items() if "running" not in name)


def test_folders_must_be_shared(both: dict[str, list[Any]]) -> None:
    assert both["other_starts"] == ["the processes start from different checkpoints: give all of them the same folder"] * 2


def test_exchanges(both: dict[str, list[Any]]) -> None:
    for rank, found in enumerate(both["exchanges"]):
        rows = [[[value] * 3] * 2 for value in (1.5, 2.0, 2.0)]
        assert found["gradients"] == [*rows, None]
        assert found["agree"] == [True, True, False]
        assert found["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found["mean"] == [1.5, 5.0]
        assert found["leads"] == (rank == 0)
        assert found["alike"] == [2.0, 2.0]
        assert found["longest"] == 86400, "the first process may decode for hours"


def test_a_process_that_fails_is_one_line_in_the_others(restarted: Path) -> None:
    assert torch.load(restarted / "deserted-0.pt") == "another process ended: see its message"


def test_a_killed_process(restarted: Path, both: dict[str, list[Any]]) -> None:
    """torchrun starts both again; they go on from the checkpoint, to the weights of an uninterrupted training."""
    assert (restarted / "killed" / "killed").exists()
    found = [torch.load(restarted / f"killed-{rank}.pt") for rank in range(2)]
    assert same(*found)
    assert same(found[0], both["uninterrupted"][0])


def test_who_leaves_has_no_threads_of_gloo(both: dict[str, list[Any]]) -> None:
    """They may abort the process at its exit."""
    assert both["threads"] == [[], []]


def test_alone() -> None:
    world = World.join()
    assert world == World(0, 1)
    assert world.leads
    assert world.agree([True, False]) == [True, False]
    assert world.gather(3) == [3]
    assert world.mean(torch.tensor([2.0])).tolist() == [2.0]
    world.wait()
    world.leave()


@pytest.mark.parametrize("size", ["many", "", "-2"])
def test_a_number_of_processes_that_is_none(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(TrainingError, match=f"^WORLD_SIZE is '{size}': torchrun sets it to a number of processes"):
        World.join()


def test_who_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "no port"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=r"^2 processes did not find each other: [^\n]*$"):
        World.join()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "the seed is -1: it must be a whole number of at least 0"),
        ({"validate_every": 0}, "validate_every is 0: it must be a whole number of at least 1"),
        ({"precision": "float8"}, "unknown precision 'float8': choose one of float32, bfloat16"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as refused:
        Settings(**settings)
    assert "\n" not in str(refused.value)


def test_synchronized_norms_need_the_same_networks() -> None:
    with pytest.raises(TrainingError, match="sync_norm needs the same layers in all processes: set same_archs"):
        Settings(sync_norm=True, same_archs=False)
