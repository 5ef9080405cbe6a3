"""`ofa import` and `ofa export-original` as a person meets them: what is printed, one line when it fails, real interruptions."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from failing import fails

from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.pipeline import Run
from tiny_original import NAME
from warm import Ofa


def bring(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return ["import", str(checkpoint), "--name", NAME, "--out", str(out), *more]


def test_with_images(capsys: pytest.CaptureFixture[str], checkpoint: Path, predictor: Path, photos: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "run", ["--data", str(photos), "--limit", "16", "--holdout", "0.2", "--seed", "3"]
    assert run(bring(checkpoint, out, *arguments, "--predictor", str(predictor))) == 0
    printed, err = capsys.readouterr()
    assert printed == f"imported: {out}; next: ofa evaluate {out}, ofa profile {out}, ofa search {out}\n"
    assert err.splitlines() == [
        f"weights: {NAME}, 4 classes",
        f"the predictor predicts accuracy on ImageNet's 1,000 classes: to fit one for yours, ofa predict {out}",
        "images: 12 train, 4 held-out, 4 test, 4 classes",
    ]
    info = read_json(out / "run.json")
    assert (info["data"]["limit"], info["data"]["holdout"], info["seed"]) == (16, 0.2, 3)
    assert run(["evaluate", str(out), "--arch", "smallest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images"] == 4


def test_without_images_and_out_again(capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "run", tmp_path / "again.pth"
    assert run(bring(checkpoint, out)) == 0
    assert capsys.readouterr().out == f"imported without images: {out}; next: ofa profile {out}\n"
    for command in ("evaluate", "predict", "search", "specialise"):
        assert fails(capsys, [command, str(out)], 1).startswith(
            f"{out} was imported without images, which this command needs: ofa import"
        )
    assert run(["export-original", str(out), "--out", str(again)]) == 0
    assert capsys.readouterr() == (f"{again}\n", "")
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert "already there, and not overwritten" in fails(capsys, ["export-original", str(out), "--out", str(again)], 1)
    assert "to train from them, ofa train digits --from" in fails(capsys, ["train", "digits", "--out", str(out), "--resume"], 1)
    assert run(["report", str(out)]) == 0


def test_export_of_a_trained_run_says_what_was_measured(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    images = Run.open(trained).info.images["train"]
    assert run(["export-original", str(trained), "--out", str(tmp_path / "net.pth")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'net.pth'}\n"
    assert err == f"BatchNorm statistics were measured on {images} training images: they are right for the largest network only\n"


def test_one_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str], checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "garbage.pth").write_bytes(b"\x80\x02 no pickle")
    assert "no such file" in fails(capsys, bring(tmp_path / "missing.pth", out), 1)
    assert "not a checkpoint" in fails(capsys, bring(tmp_path / "garbage.pth", out), 1)
    assert "a file is needed" in fails(capsys, bring(tmp_path, out), 1)
    message = fails(capsys, ["import", str(checkpoint), "--name", "ofa_resnet50", "--out", str(out)], 1)
    assert "it is not of ofa_resnet50 (resnet50d)" in message
    message = fails(capsys, ["import", str(checkpoint), "--name", "ofa", "--out", str(out)], 1)
    assert message.endswith(
        "choose one of ofa_mbv3_d234_e346_k357_w1_0, ofa_mbv3_d234_e346_k357_w1_2, ofa_proxyless_d234_e346_k357_w1_3, ofa_resnet50"
    )
    assert "digits has 10 classes, the weights in" in fails(capsys, bring(checkpoint, out, "--data", "digits"), 1)
    assert "already there and not empty: choose another --out" in fails(capsys, bring(checkpoint, photos), 1)
    assert "cannot" in fails(capsys, bring(checkpoint, Path("/proc/ofa/run")), 1) or os.getuid() == 0
    assert "Missing option '--name'" in fails(capsys, ["import", str(checkpoint), "--out", str(out)], 2)
    assert not out.exists()


@pytest.mark.parametrize("name", ["supernet.safetensors", "run.json"])
def test_a_full_disk(capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / f".{name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    assert "the disk is full: free some space and run the command again" in fails(capsys, bring(checkpoint, out), 1)
    assert "not a run directory" in fails(capsys, ["evaluate", str(out)], 1)
    assert run(bring(checkpoint, out)) == 0


def test_a_full_disk_while_exporting(capsys: pytest.CaptureFixture[str], imported: Path, tmp_path: Path) -> None:
    (tmp_path / f".net.pth.{os.getpid()}.tmp").symlink_to("/dev/full")
    assert "the disk is full" in fails(capsys, ["export-original", str(imported), "--out", str(tmp_path / "net.pth")], 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_in_the_middle(checkpoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = Ofa(bring(checkpoint, out))
    while process.poll() is None and not out.exists():
        time.sleep(0.001)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:  # it was quicker
        assert Run.open(out).supernet().num_classes == 4
        return
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith("ofa: interrupted")
        assert "Traceback" not in err
    if not (out / "run.json").exists():
        assert run(bring(checkpoint, out)) == 0
    assert Run.open(out).supernet().num_classes == 4
    assert not list(out.glob(".*.tmp"))
