"""Photographs start from trained weights where nothing else is said; without a connection both ways on are told."""

from pathlib import Path

import numpy as np
import pytest
from failing import fails
from PIL import Image
from safetensors.torch import save

from file_server import FileServer
from onceforall.cli import run
from onceforall.models import bring
from onceforall.pipeline import Run
from onceforall.pipeline.training.beginning import NETWORK


@pytest.fixture
def photos(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(24):
            noise = rng.integers(-40, 40, (24, 24, 3)) + level
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return str(tmp_path / "photos")


def test_trained_weights(
    own_cache: None, capsys: pytest.CaptureFixture[str], hub_of_files: FileServer, photos: str, tmp_path: Path
) -> None:
    model = bring(NETWORK, "random", seed=1).model
    hub_of_files.publish("timm/tf_efficientnet_lite0.in1k", model__safetensors=save(model.state_dict()))
    out = str(tmp_path / "run")
    assert run(["train", photos, "--out", out, "--epochs", "0", "--resolutions", "32", "--space", "widths=1"]) == 0
    err = capsys.readouterr().err
    assert f"starts from {NETWORK}, weights {hub_of_files.address}" in err
    assert "with a new classifier; license of the weights: apache-2.0" in err
    assert "fitting a classifier on the features of" in err
    made = Run.open(Path(out))
    assert (made.info.preset, made.info.arguments["from_run"]) == ("pretrained", NETWORK)
    assert run(["train", photos, "--out", out, "--resume"]) == 0


def test_without_a_connection_both_ways_on_are_told(
    capsys: pytest.CaptureFixture[str], hub_of_files: FileServer, photos: str, tmp_path: Path
) -> None:
    """The server has no such repository, which is one of the ways not to get the file."""
    text = fails(capsys, ["train", photos, "--out", str(tmp_path / "run")], 1)
    assert "tf_efficientnet_lite0.in1k" in text
    assert "--weights FILE" in text
    assert text.endswith("; to train from random weights: --from scratch")
    assert not (tmp_path / "run").exists()


def test_from_scratch(capsys: pytest.CaptureFixture[str], photos: str, tmp_path: Path) -> None:
    given = ["train", photos, "--from", "scratch", "--out", str(tmp_path / "run")]
    small = ["--resolutions", "24", "--space", "width=0.1", "--batch-size", "8", "--epochs", "1.5"]
    assert "0 epochs leave the weights random" in fails(capsys, [*given, "--epochs", "0"], 1)
    assert run([*given, *small]) == 0
    made = Run.open(tmp_path / "run")
    assert (made.info.preset, made.family, made.info.brought) == ("imagenette-60m", "mobilenet_v3", None)
    assert run([*given, "--resume"]) == 0  # the same start
    assert "was started with from scratch, not" in fails(
        capsys, ["train", photos, "--from", NETWORK, "--out", str(tmp_path / "run"), "--resume"], 1
    )


def test_a_space_of_ours_has_no_weights(capsys: pytest.CaptureFixture[str], photos: str, tmp_path: Path) -> None:
    small = ["--space", "width=0.1,resolutions=24", "--batch-size", "8", "--epochs", "1.5"]
    assert run(["train", photos, "--out", str(tmp_path / "run"), *small]) == 0
    assert (
        "--space width belongs to a built-in family, which has no trained weights here: training starts" in capsys.readouterr().err
    )


def test_images_of_imagenet_are_no_test(
    own_cache: None, capsys: pytest.CaptureFixture[str], hub_of_files: FileServer, photos: str, tmp_path: Path
) -> None:
    for name, wnid in (("dark", "n01440764"), ("light", "n02102040")):
        (Path(photos) / name).rename(Path(photos) / wnid)
    model = bring("timm:test_byobnet", "random", seed=1).model
    hub_of_files.publish("timm/test_byobnet.r160_in1k", model__safetensors=save(model.state_dict()))
    out = str(tmp_path / "run")
    assert run(["train", photos, "--from", "timm:test_byobnet", "--out", out, "--epochs", "0", "--resolutions", "32"]) == 0
    assert "do not show how well new photographs are classified" in capsys.readouterr().err
    assert "do not show how well new photographs are classified" in Run.open(Path(out)).info.notes[-1]  # which every card has
