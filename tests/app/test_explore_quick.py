"""Exploring before there is a predictor: beside a training, by its newest checkpoint, and a run that was only trained."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorers import Served, serve
from onceforall.app.quick import HELD_OUT, SUBNETS, Standing
from onceforall.arch import Arch
from onceforall.common.files import busy
from onceforall.pipeline import Run, predict
from onceforall.pipeline.evaluate import calibrated, judge_network
from onceforall.pipeline.run_directory.newest import open_newest
from onceforall.train.checkpoint import latest
from tiny_run import SPACE_TEXT
from warm import Ofa

LONG = ["--space", SPACE_TEXT, "--scheme", "single_path", "--epochs", "4000", "--limit", "120", "--batch-size", "32"]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rests beside a training."""
    monkeypatch.setattr("onceforall.app.quick.REST", 0.0)
    monkeypatch.setattr("onceforall.app.quick.WATCH_S", 0.1)
    monkeypatch.setattr("onceforall.app.engine.WATCH_S", 0.2)


@pytest.fixture(scope="module")
def training(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ofa]]:
    """A run directory, and the process that is training in it."""
    out = tmp_path_factory.mktemp("training") / "run"
    process = Ofa(["train", "digits", "--out", str(out), *LONG])
    yield out, process
    process.send_signal(2)
    process.communicate(timeout=120)


def facts(served: Served) -> dict[str, Any]:
    return dict(served.client.get("/api/run").json())


def standing_of(served: Served, than: int = 0) -> Standing:
    """Once there is one of a later step."""

    def later(s: Served) -> bool:
        models = s.app.engine.models
        return models is not None and models.standing is not None and models.standing.step > than

    served.until(later)
    models = served.app.engine.models
    assert models is not None
    assert models.standing is not None
    return models.standing


def waited(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_beside_a_training(training: tuple[Path, Ofa]) -> None:
    out, process = training
    waited(lambda: (out / "run.json").exists() or process.poll() is not None)
    for served in serve(out, quick=True):
        first = standing_of(served)
        assert busy(out), "the training goes on"
        assert (first.final, first.subnets) == (False, SUBNETS)
        told = facts(served)
        assert told["ready"]
        assert told["at"] == f"step {first.step:,}"
        assert f"Training is running: all accuracies here are for the weights at step {first.step:,} of " in told["standing"]
        network = served.client.get("/api/best").json()["network"]
        body = {"arch": network["arch"], "formats": ["pytorch"], "device": "pytorch", "limits": {}}
        assert "its training is still running" in served.client.post("/api/jobs/add", json=body).json()["error"]
        served.client.post("/api/looks/add", json={"arch": "smallest", "name": "small"})

        second = standing_of(served, than=first.step)  # by itself
        assert second.weights != first.weights
        told = facts(served)
        assert told["generation"] > network["generation"]
        assert f"for the weights at {told['at']} of " in told["standing"]
        found = list((out / "explorer" / "quick").glob("*.safetensors"))
        assert len(found) <= 2, "those of before are gone"
        served.until(lambda s: len(s.client.get("/api/looks").json()["looks"]) == 1)
        (look,) = served.client.get("/api/looks").json()["looks"]
        assert look["name"].startswith("small, step ")

        assert served.client.post("/api/quick", json={"on": False}).status_code == 200
        served.until(lambda s: not s.app.quick.state()["step"])
        process.send_signal(2)
        waited(lambda: process.poll() is not None)
        assert "Training has stopped: all accuracies here are for the weights at step " in facts(served)["standing"]
        assert facts(served)["quick"]["paused"]
    run = Run.open(out)
    weights, supernet = open_newest(run)
    saved = latest(out / "checkpoints")
    assert saved is not None
    assert weights.step == saved.step >= second.step
    for name, value in supernet.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), saved.tensors.get(f"ema.{name}", saved.tensors[f"model.{name}"]).numpy())


def test_a_run_that_was_only_trained(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    run = Run.open(out)
    for served in serve(out, quick=True):
        assert "no accuracy predictor yet" in str(served.wait("/api/run", "filling", False)["problem"])
        served.wait("/api/run", "ready")
        told = facts(served)
        assert told["at"] == ""
        assert told["standing"].startswith(f"A quick look: accuracies are predicted from {SUBNETS} sub-networks, measured on ")
        assert f"ofa predict {out}" in told["standing"]
        assert not (out / "accuracy").exists()
        network = served.client.get("/api/best").json()["network"]
        arch = Arch.from_json(network["arch"])
        splits = run.splits()
        held_out = splits.held_out.sample(HELD_OUT)
        measured, _ = judge_network(
            run, calibrated(run, run.supernet(), arch, splits), held_out, arch.resolution, lambda *said: None
        )
        assert measured.top1 == pytest.approx(network["top1"], abs=max(0.2, 4 * network["std"]))
        served.app.quick.stop()
        predict(out, subnets=16)
        served.until(lambda s: s.app.engine.models is not None and s.app.engine.models.standing is None)
        assert facts(served)["standing"] == ""
        assert not facts(served)["quick"]["possible"]


def test_what_is_cancelled_is_not_begun_again(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    for served in serve(out, quick=True):
        served.until(lambda s: bool(s.app.quick.state()["step"]))
        assert served.client.post(f"/api/jobs/{served.app.quick.job}/cancel", json={}).status_code == 200
        served.until(lambda s: s.app.quick.paused)
        assert served.app.quick.state()["step"] == ""
    assert not (out / "explorer" / "quick").exists()


def test_a_damaged_quick_look_is_told(trained: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    place = out / "explorer" / "quick" / "standing.json"
    place.parent.mkdir(parents=True)
    place.write_text("{")
    for served in serve(out):
        assert "standing.json" in str(served.wait("/api/run", "filling", False)["problem"])
