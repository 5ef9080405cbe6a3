"""Networks for images that are no squares, from training to networks at home, by the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import onceforall
from onceforall import preprocess
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.errors import DataError
from onceforall.pipeline import Run
from taken_home import FORMATS, answers, evaluated, said
from tiny_own import source

SPACE_TEXT = "width=0.1,depths=1/2,kernels=3/5,expand_ratios=2"
TRAINING = ["--preset", "digits", "--space", SPACE_TEXT, "--resolutions", "16x32,12x24,20", "--scheme", "single_path"]
TRAINING += ["--batch-size", "16", "--holdout", "0.25"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 20 × 44 pixels with a bright square at the left or the right: a centre crop of a square would lose it."""
    root, rng = tmp_path_factory.mktemp("wide") / "wide", np.random.default_rng(0)
    for c, name in enumerate(("left", "right")):
        (root / name).mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(60, 120, (20, 44, 3), dtype=np.uint8)
            at = int(rng.integers(2, 12)) + 22 * c
            pixels[4:16, at : at + 8] = 230
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def wide(own_cache: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After training, without mirrored images, and predicting."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--recipe", "flip=no", "--epochs", "25"]
    assert run(["train", str(data), *TRAINING, *options, "--out", str(out)]) == 0
    assert run(["predict", str(out), "--subnets", "16"]) == 0
    return out


@pytest.fixture(scope="module")
def taken(wide: Path) -> Path:
    out = wide.parent / "net"
    options = ["--macs", "900k", "--export", ",".join(FORMATS), "--readers", "none", "--finalists", "1", "--finetune", "1"]
    assert run(["specialise", str(wide), *options, "--out", str(out)]) == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def test_a_run_of_rectangles(wide: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = Run.open(wide)
    assert opened.space.resolutions == ("12x24", 20, "16x32")
    assert (opened.require_images().size, opened.require_images().long) == (32, 4.0)
    assert opened.space.largest().resolution == "16x32"
    assert opened.splits().train.pixels(0).shape == (20, 44, 3)
    out, _ = said(capfd, "evaluate", wide, "--arch", "largest", "--json")
    (found,) = json.loads(out)
    assert found["top1"] > 0.7
    out, _ = said(capfd, "evaluate", wide, "--arch", "largest")
    assert "largest: 16×32 px, depths" in out
    out, _ = said(capfd, "search", wide, "--macs", "300k", "--finalists", "1", "--json")
    said(capfd, "status", wide)
    said(capfd, "report", wide)
    page = (wide / "report.html").read_text()
    assert "16×32" in page
    assert "12×24" in page


def test_latency_of_rectangles(wide: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "profile", wide, "--quick")
    out, _ = said(capfd, "search", wide, "--latency", "10ms", "--finalists", "1")
    assert "px, depths" in out


def test_a_network_at_home(taken: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = read_json(taken / "config.json")
    steps = config["preprocessing"]
    arch = read_json(taken / "arch.json")
    assert steps["resolution"] == arch["resolution"]
    card = (taken / "README.md").read_text()
    height, width = preprocess_sides(arch["resolution"])
    assert f"at {height}×{width} pixels" in card
    assert f"float32 (batch, 3, {height}, {width})" in card
    assert "RGB, to just cover ceil(height / 1) × ceil(width / 1), bilinear with antialias, then centre crop" in card
    for found in evaluated(capfd, taken, data):
        assert (found["images"], found["top1"] > 0.7) == (120, True)
    photos = sorted(data.glob("*/0*.png"))
    first, *_ = answers(taken, photos)
    x = torch.from_numpy(preprocess.prepare(photos[0], steps))
    assert x.shape == (1, 3, height, width)
    with torch.no_grad():
        probabilities = onceforall.load(taken)(x).softmax(1)[0].tolist()
    assert first == pytest.approx(dict(zip(config["classes"], probabilities, strict=True)), abs=1e-5)


def preprocess_sides(resolution: int | str) -> tuple[int, int]:
    """Written anew, so that a wrong order of the sides does not agree with itself."""
    if isinstance(resolution, int):
        return resolution, resolution
    return {"12x24": (12, 24), "16x32": (16, 32)}[resolution]


def test_a_bundle_of_rectangles(wide: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "bundle", wide, "--arch", "smallest,largest")
    bundle = onceforall.load_bundle(wide / "bundle")
    assert bundle(torch.zeros(2, 3, 16, 32), "largest").shape == bundle(torch.zeros(2, 3, 12, 24), "smallest").shape == (2, 2)
    with pytest.raises(DataError, match=r"largest takes \(n, 3, 16, 32\)"):
        bundle(torch.zeros(2, 3, 32, 16), "largest")
    said(capfd, "classify", wide / "bundle", data / "left/00.png", "--network", "largest")
    assert "| largest | 16×32 |" in (wide / "bundle/README.md").read_text()


def test_networks_of_ones_own(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    named = source(tmp_path)
    options = ["--from", named, "--resolutions", "16x32,24", "--epochs", "0", "--batch-size", "16"]
    said(capfd, "train", data, *options, "--out", tmp_path / "run")
    assert Run.open(tmp_path / "run").space.resolutions == ("16x32", 24)
    out, _ = said(capfd, "elastic", named, "--resolutions", "16x32,24")
    assert "resolutions: 16×32, 24 pixels" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--resolutions", "0x5"], "resolution '0x5': give a number of pixels such as 224, or HEIGHTxWIDTH such as 160x224"),
        (["--resolutions", "160x"], "resolution '160x': give a number of pixels such as 224"),
        (["--resolutions", "16x16,16"], "resolutions is (16, 16): a value is repeated"),
        (
            ["--resolutions", "16,large"],
            "--resolutions '16,large': numbers of pixels such as 160,192,224 are needed, or HEIGHTxWIDTH",
        ),
        (["--space", "resolutions=16x/20"], "resolution '16x': give a number of pixels such as 224"),
        (["--resolutions", "4x40"], "resolutions holds 4x40: each must have sides from 8 to 999999 pixels"),
    ],
)
def test_what_is_refused(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    _, err = said(capfd, "train", data, "--preset", "digits", *words, "--out", tmp_path / "new", code=1)
    assert text in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_measuring_every_so_many_pixels_is_for_squares(wide: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, err = said(capfd, "accuracy", "measure", wide, "--subnets", "16", "--every", "8", code=1)
    assert "steps in pixels need square resolutions, and this space has others: leave the option out" in err
