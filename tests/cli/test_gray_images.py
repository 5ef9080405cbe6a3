"""Gray images of 12 bits in 16-bit files, from training to networks at home, by the commands; and images with alpha."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import onceforall
from onceforall import preprocess
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.common.progress import Progress
from onceforall.errors import DataError
from onceforall.pipeline import Run, train
from onceforall.pipeline.run_directory.info import DataInfo
from taken_home import FORMATS, answers, evaluated, said
from tiny_own import OWN, source

SPACE_TEXT = "width=0.1,resolutions=16,depths=1/2,kernels=3/5,expand_ratios=2"
TRAINING = ["--preset", "digits", "--space", SPACE_TEXT, "--scheme", "single_path", "--batch-size", "16", "--holdout", "0.25"]


def tiles(root: Path, kind: str = "12 bits", each: int = 60, size: int = 20, seed: int = 0) -> Path:
    """Two kinds of stripes, in one channel of low values, or in an alpha channel alone."""
    rng = np.random.default_rng(seed)
    for c, name in enumerate(("across", "down")):
        (root / name).mkdir(parents=True)
        for i in range(each):
            wave = np.sin(np.arange(size) * rng.uniform(0.8, 1.6) + rng.uniform(0, 6))
            stripes = np.broadcast_to(wave[:, None] if c else wave, (size, size)) * 0.4 + 0.5 + rng.normal(0, 0.05, (size, size))
            if kind == "12 bits":
                image = Image.fromarray((stripes.clip(0, 1) * 4000).astype(np.uint16))
            else:
                image = Image.fromarray(rng.integers(100, 140, (size, size, 4), dtype=np.uint8))
                image.putalpha(Image.fromarray((stripes.clip(0, 1) * 255).astype(np.uint8)))
            image.save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("tiles") / "tiles")


@pytest.fixture(scope="module")
def gray(own_cache: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After training and predicting."""
    out = tmp_path_factory.mktemp("gray") / "run"
    assert run(["train", str(data), "--channels", "1", "--range", "0,4095", *TRAINING, "--epochs", "12", "--out", str(out)]) == 0
    assert run(["predict", str(out), "--subnets", "16"]) == 0
    return out


@pytest.fixture(scope="module")
def taken(gray: Path) -> Path:
    """A network that was taken home, proven in each format."""
    out = gray.parent / "net"
    options = ["--macs", "200k", "--export", ",".join(FORMATS), "--readers", "none", "--finalists", "1"]
    assert run(["specialise", str(gray), *options, "--out", str(out)]) == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def test_a_run_keeps_how_images_are_read(gray: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = Run.open(gray)
    assert (opened.space.channels, opened.require_images().channels, opened.require_images().range) == (1, 1, (0.0, 4095.0))
    assert (opened.info.mean, opened.info.std) == ((pytest.approx(0.449),), (pytest.approx(0.226),))
    out, _ = said(capfd, "evaluate", gray, "--arch", "largest", "--json")
    assert json.loads(out)[0]["top1"] > 0.7
    words = "gray, one channel, values of more than 8 bits from 0 to 4095"
    assert f"24 test images: {words})" in said(capfd, "status", gray)[0]
    said(capfd, "report", gray)
    assert words in (gray / "report.html").read_text()


def test_a_network_at_home(taken: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = read_json(taken / "config.json")
    steps = config["preprocessing"]
    assert (len(steps["mean"]), len(steps["std"]), steps["range"]) == (1, 1, [0.0, 4095.0])
    card = (taken / "README.md").read_text()
    assert "gray, one channel, values of more than 8 bits from 0 to 4095, short side to" in card
    assert "float32 (batch, 1, 16, 16)" in card
    for found in evaluated(capfd, taken, data):
        assert (found["images"], found["top1"] > 0.7) == (120, True)
    photos = sorted(data.glob("*/0*.png"))
    first, *_ = answers(taken, photos)
    network = onceforall.load(taken)
    x = torch.from_numpy(preprocess.prepare(photos[0], steps))
    with torch.no_grad():
        probabilities = network(x).softmax(1)[0].tolist()
    assert first == pytest.approx(dict(zip(config["classes"], probabilities, strict=True)), abs=1e-5)


def test_photographs_unlike_those_of_the_training_are_told(
    taken: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A network for gray images of 12 bits, given colours and 8 bits."""
    shown = "1 of 3 photographs show colors: the network takes gray images, so it was given their luminance"
    pages = "1 of 3 photographs have several frames or pages: only the first of each is used"
    few = "2 of 3 photographs are not gray images of more than 8 bits: the network's --range 0,4095 does not apply to them"
    for name, image in (("across", Image.new("RGB", (20, 20), "red")), ("down", Image.new("L", (20, 20), 9))):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png", save_all=True, append_images=[Image.new("L", (20, 20), 1)] * (name == "down"))
    shutil.copy(data / "down/00.png", tmp_path / "down")
    out, err = said(capfd, "classify", taken, tmp_path)
    assert (out.count("\n"), err.splitlines()) == (3, [pages, shown, few])
    _, err = said(capfd, "evaluate", taken, tmp_path)
    assert {f"{taken}: {shown}", f"{taken}: {few}"} <= set(err.splitlines())
    _, err = said(capfd, "classify", taken, data / "down/00.png")
    assert err == ""


def test_a_bundle_of_gray_images(gray: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "bundle", gray, "--arch", "smallest,largest")
    bundle = onceforall.load_bundle(gray / "bundle")
    assert bundle(torch.zeros(2, 1, 16, 16), "smallest").shape == (2, 2)
    with pytest.raises(DataError, match=r"smallest takes \(n, 1, 16, 16\)"):
        bundle(torch.zeros(2, 3, 16, 16), "smallest")
    out, _ = said(capfd, "classify", gray / "bundle", data / "down/00.png", "--network", "largest", "--json")
    assert json.loads(out)[0]["classes"][0]["name"] == "down"


def test_what_is_said_of_gray_and_dark_images(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, err = said(capfd, "train", data, *TRAINING, "--epochs", "1", "--out", tmp_path / "run")
    assert "no training image shows a color: --channels 1 would make networks for gray images" in err
    assert "give --range 0,4095" in err
    opened = Run.open(tmp_path / "run")
    assert (opened.space.channels, opened.info.mean, opened.require_images().range) == (3, (0.485, 0.456, 0.406), None)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--channels", "2"], "images of 2 channels: use 1 (gray), 3 (RGB) or 4 (RGB and alpha)"),
        (["--channels", "0"], "images of 0 channels: use 1"),
        (["--range", "4095,0"], "the range is 4095 to 0: two numbers are needed, the lower one first"),
        (["--range", "4095"], "--range '4095': the values that become black and white are needed, such as 0,4095"),
        (["--range", "a,b"], "'a,b': one number, or several separated by commas"),
        (
            ["--channels", "1", "--mean", "0.5,0.4"],
            "--mean has 2 numbers for images of 1 channel: give one per channel, or a single one",
        ),
        (["--mean", "0.5,0.4"], "--mean has 2 numbers for images of 3 channels: give one per channel, or a single one"),
        (["--std", "0"], "--std [0.0]: use numbers from 1e-06 to 1, since"),
        (["--mean", "127"], "--mean [127.0]: use numbers from 0 to 1, since pixels are scaled to [0, 1]"),
        (["--channels", "4", "--recipe", "policy=trivial_augment"], "the policy trivial_augment takes images of 1 or 3 channels"),
        (["--space", "channels=1/3"], "channels is (1, 3): it must be a whole number from 1 to 1024"),
        (["--channels", "3", "--from", "RUN"], "take images of 1 channel: leave it out, or start from another"),
    ],
)
def test_what_is_refused(
    gray: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    training = [] if "--from" in words else TRAINING
    if "--space" in words:
        training = [word for word in TRAINING if word not in ("--space", SPACE_TEXT)]
    words = [str(gray) if word == "RUN" else word for word in words]
    _, err = said(capfd, "train", data, *training, *words, "--out", tmp_path / "new", code=1)
    assert text in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_resume_has_the_values_of_the_first_start(gray: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "train", data, "--out", gray, "--resume", "--channels", "1", "--range", "0,4095")
    for words, text in ((["--channels", "3"], "channels 1, not 3"), (["--mean", "0.5"], "mean None, not [0.5]")):
        _, err = said(capfd, "train", data, "--out", gray, "--resume", *words, code=1)
        assert f"was started with {text}" in err


def test_from_a_run_and_from_a_network_of_ones_own(
    gray: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Channels and range of a run's weights; of a network what it takes, or what is made of it, weights before any training."""
    other = tiles(tmp_path / "other", each=20, seed=1)
    given = {"epochs": 0, "batch_size": 8, "space": {"resolutions": (16,), "depths": (1, 2)}}
    found = train(str(other), out=tmp_path / "again", from_run=str(gray), epochs=0, batch_size=8, range=(0, 4095))
    assert (found.space.channels, found.info.mean) == (1, Run.open(gray).info.mean)
    named = source(tmp_path, OWN.replace("nn.Conv2d(3, 8", "nn.Conv2d(1, 8"), file="gray.py")
    found = train(str(other), out=tmp_path / "own", from_run=named, mean=(0.25,), std=(0.5,), **given)  # type: ignore[arg-type]
    assert (found.space.channels, found.info.mean, found.info.std) == (1, (0.25,), (0.5,))
    notes: list[str] = []
    found = train(
        str(other), out=tmp_path / "made", from_run=source(tmp_path), channels=4,
        progress=Progress(event=lambda event: notes.append(event.get("text", ""))), **given,  # type: ignore[arg-type]
    )  # fmt: skip
    assert (found.space.channels, len(found.info.mean)) == (4, 4)
    assert "the first convolution (stem.0) is made for 4 channels: its channels repeated, times 3 / 4" in notes
    assert any(text.startswith("no image has an alpha channel") for text in notes)
    out, _ = said(capfd, "elastic", named)
    assert "images of 1 channel" in out
    out, _ = said(capfd, "elastic", source(tmp_path), "--channels", "4")
    assert "images of 4 channels" in out


def test_importing_a_network_for_gray_images(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    named = source(
        tmp_path, OWN.replace("nn.Conv2d(3, 8", "nn.Conv2d(1, 8").replace("num_classes: int = 10", "num_classes: int = 2")
    )
    options = ["--data", data, "--range", "0,4095", "--space", "resolutions=16", "--mean", "0.5"]
    said(capfd, "import", named, *options, "--out", tmp_path / "run")
    opened = Run.open(tmp_path / "run")
    assert (opened.space.channels, opened.info.mean, opened.require_images().range) == (1, (0.5,), (0.0, 4095.0))
    _, err = said(capfd, "import", named, "--range", "0,4095", "--out", tmp_path / "new", code=1)
    assert "--range (0.0, 4095.0) applies to images, but there are none: give --data, too" in err


def test_stripes_that_are_in_the_alpha_channel_alone(tmp_path: Path) -> None:
    """Flattened over white, networks see them too; kept as a channel, they are the fourth, and nothing else tells the classes."""
    found = train(
        str(tiles(tmp_path / "tiles", "alpha", each=30)), out=tmp_path / "run", channels=4, preset="digits", scheme="single_path",
        space={"width": 0.1, "resolutions": (16,), "depths": (1,), "kernels": (3,), "expand_ratios": (2,)}, epochs=20,
        batch_size=16,
    )  # fmt: skip
    images = found.splits().train
    assert images.pixels(0).shape == (16, 16, 4)
    from onceforall.pipeline import evaluate

    (result,) = evaluate(found.folder, arch="largest")
    assert result.accuracy.top1 > 0.7


def test_runs_of_before_have_three_channels() -> None:
    before = DataInfo("digits", 16, 0.1, 0, None, "")
    assert (before.channels, before.range, before.how.channels) == (3, None, 3)
