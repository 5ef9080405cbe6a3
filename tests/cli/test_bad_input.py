"""Every failure is one line on standard error that begins with "ofa: ", and an exit code; what was finished is still there."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from failing import fails
from PIL import Image

import onceforall
from onceforall.cli import run
from onceforall.train.checkpoint import digest_of
from tiny_run import TRAINING_TEXT

TINY = ["--preset", "digits", "--space", "width=0.1,resolutions=16,depths=1,kernels=3,expand_ratios=2", "--batch-size", "4"]


def pictures(root: Path, counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / name / f"{i:02}.jpg")
    return root


def train_on(data: Path | str, out: Path) -> list[str]:
    return ["train", str(data), "--out", str(out), *TINY, "--epochs", "1"]


# -- data ------------------------------------------------------------------------------------------------------------------


def test_data_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = fails(capsys, train_on(tmp_path / "missing", tmp_path / "run"), 1)
    assert "no such folder: check the path" in message
    (tmp_path / "file").write_text("")
    assert "files of this kind hold no labeled images" in fails(capsys, train_on(tmp_path / "file", tmp_path / "run"), 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "expected one folder per class"),
        ({"a": 0, "b": 0}, "expected one folder per class"),
        ({"cat": 20}, "has one class (cat), and at least 2 are needed"),
        ({"cat": 1, "dog": 1}, "too few usable train images"),
        ({"cat": 30, "dog": 2}, "too few usable train images in 1 of 2 classes: dog (2)"),
    ],
)
def test_folders_that_are_no_data(capsys: pytest.CaptureFixture[str], tmp_path: Path, counts: dict[str, int], message: str) -> None:
    (tmp_path / "data").mkdir()
    assert message in fails(capsys, train_on(pictures(tmp_path / "data", counts), tmp_path / "run"), 1)
    assert not (tmp_path / "run").exists()


def test_a_corrupt_image_is_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"cat": 12, "dog": 12})
    (data / "dog" / "06.jpg").write_bytes(b"\xff\xd8 not really")
    assert run(train_on(data, tmp_path / "run")) == 0
    out, err = capsys.readouterr()
    assert out.startswith("trained: ")
    assert "1 unreadable images left out (problems.jsonl)" in err
    assert "06.jpg" in (tmp_path / "run" / "problems.jsonl").read_text()


# -- where it goes ---------------------------------------------------------------------------------------------------------


def test_out_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path, trained: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "this is a file, a folder is needed" in fails(capsys, train_on("digits", tmp_path / "file"), 1)
    fails(capsys, train_on("digits", tmp_path / "file" / "below"), 1)
    assert "cannot" in fails(capsys, train_on("digits", Path("/proc/ofa/run")), 1) or os.getuid() == 0
    assert "already there and not empty" in fails(capsys, train_on("digits", trained), 1)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_before_the_first_step(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    temporary = out / f".run.json.{os.getpid()}.tmp"
    temporary.symlink_to("/dev/full")
    message = fails(capsys, train_on("digits", out), 1)
    assert "the disk is full: free some space and run the command again" in message
    assert run([*train_on("digits", out), "--limit", "60", "--resume"]) == 0


def test_a_full_disk_in_the_middle(capsys: pytest.CaptureFixture[str], tmp_path: Path, trained: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    (out / "supernet.safetensors").unlink()
    last = sorted((out / "checkpoints").iterdir())[-1]
    last.rename(tmp_path / last.name)
    before = sorted(path.name for path in (out / "checkpoints").iterdir())
    (out / "checkpoints" / f".{last.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    again = ["train", "digits", "--out", str(out), "--resume"]
    assert "the disk is full" in fails(capsys, again, 1)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == before
    assert run(again) == 0
    assert (out / "checkpoints" / last.name).read_bytes() != b""
    assert digest_of(out / "supernet.safetensors") == digest_of(trained / "supernet.safetensors")


# -- a run -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "profile", "predict", "search", "specialise", "report"])
def test_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    message = fails(capsys, [command, str(tmp_path)], 1)
    assert message.startswith(f"{tmp_path}: not a run directory")
    assert "not a run directory" in fails(capsys, [command, str(tmp_path / "missing")], 1)


def test_weights_that_do_not_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path, trained: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "run"))
    text = (out / "run.json").read_text()
    (out / "run.json").write_text(text.replace('"0",', '"0", "00",', 1))
    assert "the weights do not fit this space and class count" in fails(capsys, ["evaluate", str(out)], 1)
    (out / "run.json").write_text(text[:-10])
    assert "not JSON" in fails(capsys, ["evaluate", str(out)], 1)
    (out / "run.json").write_text(text)
    (out / "supernet.safetensors").write_bytes(b"damaged")
    for command in ("evaluate", "predict"):
        assert "damaged or not a file of onceforall" in fails(capsys, [command, str(out)], 1)


def test_an_arch_of_another_space(capsys: pytest.CaptureFixture[str], tmp_path: Path, trained: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(onceforall.space("mobilenet_v3").largest().to_json())
    assert "this mobilenet_v3 space allows" in fails(capsys, ["evaluate", str(trained), "--arch", str(path)], 1)
    path.write_bytes(b"\xff\xfe")
    assert "not a text file" in fails(capsys, ["evaluate", str(trained), "--arch", str(path)], 1)
    fails(capsys, ["evaluate", str(trained), "--arch", "x" * 5000], 1)


def test_in_the_wrong_order(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    assert "ofa profile" in fails(capsys, ["search", str(trained), "--latency", "5ms"], 1)


def test_limits_that_nothing_keeps(capsys: pytest.CaptureFixture[str], measured: Path) -> None:
    message = fails(capsys, ["search", str(measured), "--macs", "5"], 1)
    assert "no network of the space meets the limits: 5 MACs (smallest " in message


def test_report_into_a_folder(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    assert "folder" in fails(capsys, ["report", str(trained), "--out", str(tmp_path)], 1)


# -- the command line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'DATA'"),
        (["train", "digits"], "Missing option '--out'"),
        (["train", "digits", "--out", "RUN", "--epochs", "-1"], "--epochs"),
        (["train", "digits", "--out", "RUN", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train", "digits", "--out", "RUN", "--epochs", "nan"], "--epochs"),
        (["train", "digits", "--out", "RUN", "--batch-size", "0"], "--batch-size"),
        (["train", "digits", "--out", "RUN", "--seed", "-1"], "--seed"),
        (["train", "digits", "--out", "RUN", "--budget", "5 parsecs"], "'5 parsecs': a time such as 90s, 30m, 1.5h, 1h30m or 2d"),
        (["train", "digits", "--out", "RUN", "--budget", ""], "a time such as"),
        (["train", "digits", "--out", "RUN", "--space", "width=wide"], "'wide' in 'width=wide' is not a number"),
        (["train", "digits", "--out", "RUN", "--sapce", "width=1"], "No such option: --sapce"),
        (["search", "RUN", "--latency", "5parsecs"], "'5parsecs': a latency such as 5ms or 800us is needed"),
        (["search", "RUN", "--latency", ""], "a latency such as"),
        (["search", "RUN", "--latency", "1e-300ms"], "a latency such as"),
        (["search", "RUN", "--macs", "5e-324"], "a number such as 300M"),
        (["search", "RUN", "--caution", "nan"], "Invalid value for '--caution'"),
        (["evaluate", ""], "Invalid value for 'RUN': an empty path: give one, or . for this folder"),
        (["profile", ""], "Invalid value for 'RUN': an empty path"),
        (["classify", "EXPORT", ""], "Invalid value for 'PHOTO': an empty path"),
        (["train", "digits", "--out", ""], "Invalid value for '--out': an empty path"),
        (["train", "digits", "--out", "RUN", "--from", ""], "Invalid value for '--from': an empty path"),
        (["specialise", "RUN", "--no-limit", "--out", " "], "Invalid value for '--out': an empty path"),
        (["search", "RUN", "--macs", "300 million"], "a number such as 300M"),
        (["search", "RUN", "--memory", "4 bananas"], "a size such as 4MB"),
        (["search", "RUN", "--flash", "-1MB"], "a size such as 4MB"),
        (["profile", "mobilenet_v3:width", "--out", "RUN"], "'width' is not of the form name=value"),
        (["profile", "RUN", "--host", "ssh://pi", "--export-kit", "KIT"], "exclude each other"),
        (["specialise", "RUN", "--latency", "2ms,,5ms"], "a latency such as"),
        (["search", "RUN", "--finalists", "0"], "--finalists"),
        (["search", "RUN", "--finalists", "0"], "(see ofa search --help)"),
        (["accuracy"], "Missing command. (see ofa accuracy --help)"),
        (["accuracy", "fit"], "Missing argument 'RUN'. (see ofa accuracy fit --help)"),
    ],
)
def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [str(tmp_path / "run") if argument == "RUN" else argument for argument in arguments]
    assert message in fails(capsys, given, 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--out", "NEW", "--preset", "best"], "unknown preset 'best': choose one of digits"),
        (["train", "digits", "--out", "NEW", "--preset", ""], "unknown preset '': choose one of digits"),
        (["train", "digits", "--out", "NEW", "--space", "width=1e308"], "width is 1e+308: it must be a number above 0"),
        (["search", "RUN", "--device", "cpu@"], "host '' is malformed: give ssh://"),
        (["profile", "RUN", "--host", ""], "host '' is malformed: give ssh://"),
        (["train", "digits", "--out", "NEW", "--space", "widht=1"], "no argument 'widht': choose from width"),
        (["train", "digits", "--out", "NEW", "--space", "resnet0:width=1"], "unknown family 'resnet0'"),
        (["train", "digits", "--out", "NEW", "--rate", "0"], "rate is 0"),
        (["train", "digits", "--out", "NEW", "--epochs", "1", "--budget", "1h"], "give only one of them"),
        (["train", "digits", "--out", "NEW", "--limit", "5"], "the limit of 5 images"),
        (["train", "digits", "--out", "NEW", "--epochs", "0.01"], "0.01 epochs are less than one step (an epoch has"),
        (["evaluate", "RUN", "--split", "all"], "use held-out or test"),
        (["evaluate", "RUN", "--arch", "random:none"], "after random: a number"),
        (["evaluate", "RUN", "--arch", ""], "--arch '': give largest, smallest, random:N"),
        (["evaluate", "RUN", "--arch", "RUN"], "no arch.json in that folder; use largest, smallest"),
        (["train", "RUN", "--out", "NEW"], "a run directory, which holds no images: give the folder of the images"),
        (["train", "NEW", "--out", "NEW"], "run: no such folder: check the path"),
        (["train", "NEW", "--out", "NEW", "--from", "timm:resnet18"], "run: no such folder: check the path"),
        (["import", "timm:resnet18", "--out", "NEW", "--data", "NEW"], "run: no such folder: check the path"),
        (["profile", "RUN", "--device", "tpu"], "unknown runtime 'tpu': choose one of"),
        (["profile", "RUN", "--device", "cpu:threads=none"], "threads is 'none'"),
        (["profile", "mobilenet_v9:width=1", "--out", "NEW"], "unknown family 'mobilenet_v9'"),
        (["profile", "mobilenet_v3"], "a space has no folder of its own: give --out FOLDER"),
        (["search", "RUN", "--flash", "5B", "--ram", "5B"], "5 B of flash (smallest "),
        (["search", "RUN", "--device", "gpu"], "unknown runtime 'gpu'"),
        (["predict", "RUN", "--subnets", "3"], "--subnets 3: at least 16 are needed"),
        (["specialise", "RUN", "--params", "1M", "--export", "onnx,tflite"], "unknown export format 'tflite': choose from pytorch"),
    ],
)  # fmt: skip
def test_values_that_do_not_exist(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, measured: Path, arguments: list[str], message: str
) -> None:
    places = {"NEW": str(tmp_path / "run"), "RUN": str(measured)}
    assert message in fails(capsys, [places.get(argument, argument) for argument in arguments], 1)
    assert not (tmp_path / "run").exists()


def test_names_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "[bold]net"
    path.write_text(onceforall.space("mobilenet_v3", width=0.1, resolutions=(32,), depths=(1,)).largest().to_json())
    assert "[bold]net" in fails(capsys, ["evaluate", str(trained), "--arch", str(path)], 1)


def test_trained_again(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    assert run(["train", "digits", "--out", str(trained), *TRAINING_TEXT, "--resume"]) == 0
    assert capsys.readouterr().out.startswith(f"trained: {trained}")


def test_a_path_that_begins_with_a_dash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-dash").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "put ./ before a path that begins with a dash" in fails(capsys, ["status", "-dash"], 2)
    assert "ofa train DATA --out ./-dash" in fails(capsys, ["status", "./-dash"], 1)
