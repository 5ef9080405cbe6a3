"""Networks of one's own on the command line: all commands on one of them, and one line for what cannot be."""

import json
from pathlib import Path

import pytest
import torch
from failing import fails

from onceforall.cli import run
from onceforall.errors import ValueTextError
from onceforall.options.values import with_resolutions
from onceforall.pipeline import Run
from tiny_own import TRAINING_TEXT, source, trained_model


def test_elastic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named = source(tmp_path)
    assert run(["elastic", named, "--resolutions", "16,24", "--space", "widths=0.5/1,kernels=3"]) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert "resolutions: 16, 24 pixels" in printed
    assert "stem.0" in printed  # why it is not elastic
    assert run(["elastic", named, "--resolutions", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"]["source"] == "own.py:Net"
    assert found["largest"]["params"] == sum(p.numel() for p in trained_model(named).parameters())


def test_what_the_code_prints_is_no_result(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (
        "from torch import nn\ndef f():\n    print('hello')\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), "
    )
    text += "nn.Flatten(), nn.Linear(4, 2))"
    assert run(["elastic", source(tmp_path, text, "f"), "--resolutions", "16", "--json"]) == 0
    printed, err = capsys.readouterr()
    assert json.loads(printed)["classes"] == 2
    assert "hello" in err


def test_all_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named, out, device = source(tmp_path), str(tmp_path / "run"), ["--device", "pytorch"]
    torch.save({"model": trained_model(named, 7).state_dict()}, tmp_path / "w.pth")
    given = ["--from", named, "--weights", str(tmp_path / "w.pth"), "--resolutions", "16,24"]
    assert run(["train", "digits", "--out", out, *given, *TRAINING_TEXT]) == 0
    printed, err = capsys.readouterr()
    assert printed == f"trained: {out}; next: ofa evaluate {out}, ofa profile {out}, ofa predict {out}\n"
    assert "starts from own.py:Net, weights w.pth (sha256 " in err
    assert "with a new classifier; license of the weights: not known" in err
    Path(named.rpartition(":")[0]).unlink()
    for command in (
        ["evaluate", out, "--arch", "random:2"],
        ["profile", out, "--quick", *device],
        ["predict", out, "--subnets", "16"],
        ["predictor", "show", out],
        ["search", out, "--macs", "1M", "--finalists", "1", *device],
        ["report", out],
    ):
        assert run(command) == 0, (command, capsys.readouterr().err)
    capsys.readouterr()
    assert run(["status", out]) == 0
    printed = capsys.readouterr().out
    assert "own.py:Net, " in printed
    assert "started from own.py:Net, weights w.pth" in printed
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "own.py:Net(resolutions=16/24, widths=0.25/0.5/0.75/1" in page
    assert "heads=" not in page  # of which it has none
    assert "Call(" not in page
    assert "graph is not one of the original's families" in fails(capsys, ["export-original", out], 1)


def test_import(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named, out, weights = source(tmp_path), str(tmp_path / "run"), tmp_path / "w.pth"
    torch.save(trained_model(named).state_dict(), weights)
    given = ["--weights", str(weights), "--resolutions", "16,24", "--data", "digits", "--limit", "120"]
    assert run(["import", named, "--out", out, *given]) == 0
    printed, err = capsys.readouterr()
    assert printed == f"imported: {out}; next: ofa evaluate {out}, ofa profile {out}, ofa predict {out}\n"
    assert err.splitlines()[0] == "weights: own.py:Net, 10 classes"
    assert run(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images"] > 0
    other = str(tmp_path / "other")
    assert "--name applies only to files of the" in fails(capsys, ["import", named, "--name", "ofa_resnet50", "--out", other], 2)
    assert "--weights applies only to your own network" in fails(
        capsys, ["import", "w.pth", "--weights", "w.pth", "--out", other], 2
    )
    assert "Missing option '--name': which of the authors'" in fails(capsys, ["import", str(weights), "--out", other], 2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["elastic", "none.py:f"], 1, "none.py: no such file"),
        (["elastic", "OWN", "--weights", "none.pth"], 1, "none.pth: no such file"),
        (["elastic", "OWN", "--space", "widths=1.5"], 1, "widths holds 1.5"),
        (["elastic", "OWN", "--space", "widht=0.5"], 1, "has no 'widht'"),
        (["elastic", "OWN", "--space", "widths"], 2, "not of the form name=value"),
        (["elastic", "OWN", "--resolutions", "16;24"], 2, "numbers of pixels such as 160,192,224"),
        (["elastic", "torchvision:resnet19"], 1, "did you mean"),
        (["train", "digits", "--from", "OWN", "--preset", "nosuch", "--out", "NEW"], 1, "unknown preset"),
        (["train", "digits", "--weights", "w.pth", "--out", "NEW"], 1, "--weights FILE needs the network that it belongs to"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    places = {"OWN": source(tmp_path), "NEW": str(tmp_path / "new")}
    assert message in fails(capsys, [places.get(argument, argument) for argument in arguments], code)
    assert not (tmp_path / "new").exists()


def test_resolutions_beside_a_space() -> None:
    assert with_resolutions(None, None) is None
    assert with_resolutions("width=0.5", None) == {"width": 0.5}
    assert with_resolutions("width=0.5", "96, 112") == {"width": 0.5, "resolutions": (96, 112)}
    assert with_resolutions(None, "96/112") == {"resolutions": (96, 112)}
    with pytest.raises(ValueTextError, match="both give resolutions"):
        with_resolutions("resolutions=96", "112")


def test_no_epochs_give_a_classifier_on_the_features(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named, out = source(tmp_path), str(tmp_path / "run")
    torch.save(trained_model(named, 7).state_dict(), tmp_path / "w.pth")
    given = ["train", "digits", "--out", out, "--from", named, "--epochs", "0", "--resolutions", "16,24", "--limit", "200"]
    assert run([*given, "--weights", str(tmp_path / "w.pth")]) == 0
    err = capsys.readouterr().err
    assert "channels ranked by their contribution on" in err
    assert "fitting a classifier on the features of" in err
    assert "held-out top-1 largest" in err
    for command in (["evaluate", out], ["status", out], ["report", out], ["profile", out, "--quick", "--device", "pytorch"]):
        assert run(command) == 0, (command, capsys.readouterr().err)
    capsys.readouterr()
    assert run(["train", "digits", "--out", out, "--resume"]) == 0  # it is finished
    made = Run.open(Path(out))
    own = trained_model(named, 7).state_dict()
    kept = made.supernet().state_dict()
    torch.testing.assert_close(kept["stem.0.weight"], own["stem.0.weight"])
    assert kept["head.weight"].shape == (10, 8)
    assert "leave the weights random" in fails(capsys, ["train", "digits", "--out", str(tmp_path / "other"), "--epochs", "0"], 1)
