"""Trained weights by name on the command line: what is fetched, said and written down."""

import hashlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from failing import fails
from safetensors.torch import save

from file_server import FileServer, stored
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.errors import FileError
from onceforall.models import bring
from onceforall.pipeline import Run
from tiny_original import NAME
from tiny_own import TRAINING_TEXT

NET, ENTRY = "torchvision:squeezenet1_1", torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
TERMS = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file of weights."""
    buffer = io.BytesIO()
    torch.save(bring(NET, "random", seed=1).model.state_dict(), buffer)
    return buffer.getvalue()


def test_a_training_starts_from_them(
    own_cache: None, capsys: pytest.CaptureFixture[str], mirror: FileServer, content: bytes, tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    with stored(ENTRY, content, mirror, license=TERMS) as url:
        given = ["--from", NET, "--resolutions", "48", "--space", "widths=0.5/1"]
        assert run(["train", "digits", "--out", out, *given, *TRAINING_TEXT]) == 0
    printed, err = capsys.readouterr()
    assert printed.startswith(f"trained: {out}; next: ")
    size, digest = f"{len(content) / 1e6:,.1f}", hashlib.sha256(content).hexdigest()
    assert f"downloaded: {url.rpartition('/')[2]}, {size} MB" in err.splitlines()
    assert err.count("forbids commercial use") == 1
    words = f"starts from {NET}, weights {url} (sha256 {digest}), with a new classifier; license of the weights: {TERMS}; whether"
    assert words in err
    brought = {"source": NET, "weights": url.rpartition("/")[2], "sha256": digest, "license": TERMS, "classifier": False}
    assert read_json(tmp_path / "run" / "run.json")["brought"] == {**brought, "address": url}
    opened = Run.open(tmp_path / "run")
    assert url in opened.info.notes[0]  # which every card has
    start = opened.start()
    state = torch.load(io.BytesIO(content), weights_only=True)
    name = "features.0.weight"  # the channels are sorted
    torch.testing.assert_close(start[name].flatten().sort().values, state[name].flatten().sort().values, rtol=0, atol=0)
    assert run(["status", out]) == 0
    assert url in capsys.readouterr().out


def test_import_and_elastic(capsys: pytest.CaptureFixture[str], mirror: FileServer, content: bytes, tmp_path: Path) -> None:
    assert run(["elastic", NET, "--resolutions", "48", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"]["sha256"] is None
    assert not mirror.asked  # the graph needs no weights
    out = str(tmp_path / "run")
    assert "random weights, and importing does not train" in fails(capsys, ["import", NET, "--out", out, "--weights", "random"], 1)
    with stored(ENTRY, content, mirror) as url:
        assert run(["import", NET, "--out", out, "--resolutions", "48"]) == 0
    assert "weights: torchvision:squeezenet1_1, 1,000 classes" in capsys.readouterr().err
    (tmp_path / "run" / "supernet.safetensors").unlink()
    with pytest.raises(FileError, match=f"ofa import {NET} --out NEW"):
        Run.open(tmp_path / "run").supernet()
    assert url in str(Run.open(tmp_path / "run").info.source)


def test_a_supernet_of_the_authors(
    own_cache: None, capsys: pytest.CaptureFixture[str], checkpoint: Path, photos: Path, mirror: FileServer, tmp_path: Path
) -> None:
    named, given = f"ofa:{NAME.replace('w1_2', 'w1.2')}", ["--weights", str(checkpoint)]
    assert run(["import", named, *given, "--out", str(tmp_path / "imported")]) == 0
    assert f"weights: ofa:{NAME}, 4 classes" in capsys.readouterr().err
    imported = Run.open(tmp_path / "imported")
    assert (imported.space.family, len(imported.space.resolutions), imported.family) == ("mobilenet_v3", 25, f"ofa:{NAME}")
    more = ["--resolutions", "32", "--epochs", "1", "--batch-size", "16", "--out", str(tmp_path / "run")]
    assert run(["train", str(photos), "--from", named, *given, *more]) == 0
    trained = Run.open(tmp_path / "run")
    assert trained.space.resolutions == (32,)
    weights = imported.supernet().state_dict()
    torch.testing.assert_close(trained.start(), weights, rtol=0, atol=0, equal_nan=True)  # of as many classes: with its classifier
    assert not mirror.asked


def test_what_cannot_be_fetched(capsys: pytest.CaptureFixture[str], mirror: FileServer, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    for arguments, message in (
        (["import", NET, *out], "MB): the server answers 404 Not Found: get the file elsewhere and give it with --weights FILE"),
        (
            ["train", "digits", "--from", "ofa:ofa_supernet_proxyless", *out],
            "ofa_proxyless_d234_e346_k357_w1.3: the server answers 404",
        ),
        (["train", "digits", "--from", "ofa:ofa_resnet51", *out], "did you mean ofa_resnet50"),
        (["elastic", "ofa:ofa_mbv3_d234_e346_k357_w1.0"], "is elastic already"),
    ):
        assert message in fails(capsys, arguments, 1)
    assert not (tmp_path / "run").exists()


PROGRAM = """
import os, signal, sys
from onceforall.common import fetch
from onceforall.cli import main

written = fetch._written
def stopping(answer, part, done):
    for done in written(answer, part, done):
        yield done
        os.kill(os.getpid(), signal.SIGINT)
fetch.CHUNK, fetch._written = 100_000, stopping
sys.argv = ["ofa", *sys.argv[1:]]
main()
"""


def test_ctrl_c_in_a_download(hub_of_files: FileServer, tmp_path: Path) -> None:
    content = save(bring("timm:test_byobnet", "random", seed=1).model.state_dict())
    hub_of_files.publish("timm/test_byobnet.r160_in1k", model__safetensors=content)
    words = ["import", "timm:test_byobnet", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    blobs = tmp_path / "hf" / "hub" / "models--timm--test_byobnet.r160_in1k" / "blobs"
    (left,) = blobs.iterdir()
    assert (left.suffix, left.stat().st_size) == (".incomplete", 100_000)
    done = subprocess.run([sys.executable, "-m", "onceforall", *words], capture_output=True, text=True, check=True)
    assert "downloaded: " in done.stderr
    assert hub_of_files.asked[-2] == ("GET", "/timm/test_byobnet.r160_in1k/resolve/main/model.safetensors", 100_000)
    brought = read_json(tmp_path / "run" / "run.json")["brought"]
    assert (brought["sha256"], brought["license"]) == (hashlib.sha256(content).hexdigest(), "apache-2.0")
