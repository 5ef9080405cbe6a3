"""What can be checked before the images are read is: with images that are not there, the message is about the argument."""

import sys
from pathlib import Path

import pytest
from failing import fails

from onceforall.cli import run
from onceforall.pipeline import Budget, specialise
from onceforall.pipeline import bundle as make_bundle

TRAIN = ["train", "/not/there", "--out", "NEW", "--preset", "digits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "mnist"], "unknown preset 'mnist'"),
        (["--scheme", "best"], "unknown scheme 'best'"),
        (["--space", "width=0"], "width is 0"),
        (["--space", "width=100"], "this space is too large for this machine: its largest network has 46.1 G parameters"),
        (["--space", "resolutions=2048"], "give a smaller --space (width, resolutions, depths, kernels) or --batch-size"),
        (["--space", "depths=100000"], "networks of up to 500,000 blocks, 1,000 are the most: give smaller depths"),
        (["--batch-size", "1000000"], "with 1,000,000 images a step"),
        (["--rate", "0"], "rate is 0"),
        (["--rate", "-1"], "rate is -1"),
        (["--epochs", "1", "--budget", "1h"], "give only one of them"),
        (["--holdout", "0.9"], "the held-out share is 0.9"),
        (["--teacher", "keras:vgg:file"], "give LIBRARY:MODEL:FILE"),
        (["--teacher", "torchvision:resnet999:FILE"], "torchvision has no model 'resnet999'"),
        (["--teacher", "torchvision:resnet18:/no/file.pth"], "/no/file.pth: no such file"),
        (["--teacher", "torchvision:resnet18:FILE"], "FILE"),
        (["--from", "/no/run"], "/no/run: not a run directory"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cuda:99"], "GPUs here"),
        (["--precision", "float8"], "unknown precision 'float8'"),
    ],
)
def test_train(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str) -> None:
    file, new = tmp_path / "file.pth", tmp_path / "run"
    file.write_text("no weights")
    given = [a.replace("NEW", str(new)).replace("FILE", str(file)) for a in [*TRAIN, *arguments]]
    found = fails(capsys, given, 1)
    assert message.replace("FILE", str(file)) in found or (message == "give LIBRARY:MODEL:FILE" and "give LIBRARY" in found)
    assert not new.exists()


def test_an_out_that_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "already there and not empty" in fails(capsys, ["train", "/not/there", "--out", str(tmp_path)], 1)


@pytest.mark.parametrize("text", ["width=7", "depths=50", "kernels=31", "resolutions=512"])
def test_unusual_spaces_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    assert run([*TRAIN, "--space", text, "--batch-size", "2", "--out", str(tmp_path / "run")]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("this space is ")
    assert "times as large as the space of preset digits, and steps are as much slower: its largest network has" in first
    assert last.startswith("ofa: /not/there: no such folder")


def test_usual_spaces_are_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run([*TRAIN, "--space", "width=0.5", "--out", str(tmp_path / "run")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_images_are_looked_at_before_weights_are_fetched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(*given: object, **more: object) -> None:
        raise AssertionError("the weights were fetched")

    monkeypatch.setattr("onceforall.pipeline.training.beginning.bring_own", bring)
    (tmp_path / "empty" / "below").mkdir(parents=True)
    assert "expected one folder per class" in fails(capsys, ["train", str(tmp_path / "empty"), "--out", str(tmp_path / "run")], 1)


def test_a_forgotten_suffix(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("")
    found = fails(capsys, [*TRAIN, "--from", str(tmp_path / "net:make"), "--out", str(tmp_path / "run")], 1)
    assert f"not a run directory: did you mean {tmp_path / 'net.py'}:make?" in found


# -- networks to take home ---------------------------------------------------------------------------------------------------


@pytest.fixture
def without_images(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose images cannot be read: reading them is an error of its own."""

    def read(*given: object, **more: object) -> None:
        raise AssertionError("the images were read")

    monkeypatch.setattr("onceforall.pipeline.run_directory.run.open_data", read)
    return run_copy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export", "tflite"], "unknown export format 'tflite'"),
        (["--out", "FILE"], "a part of the path is a file"),
        (["--out", "TAKEN"], "best: holds 'mine', which is not part of an exported network"),
        (["--device", "gpu"], "unknown runtime 'gpu'"),
        (["--device", "cpu:threads=1000"], "threads is 1000, this machine has"),
        (["--device", "cpu", "--device", "onnxruntime"], "would share the folder onnxruntime-1M-params: leave one out"),
        (["--push-to-hub", "a b"], "not a repository name"),
    ],
)
def test_specialise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, without_images: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    taken = tmp_path / "taken" / "onnxruntime-1e06params"
    taken.mkdir(parents=True)
    (taken / "mine").write_text("")
    places = {"FILE": str(tmp_path / "file"), "TAKEN": str(tmp_path / "taken")}
    given = ["specialise", str(without_images), "--params", "1M", *(places.get(a, a) for a in arguments)]
    found = fails(capsys, given, 1)
    assert message.replace("best: ", "").replace("1e+06", "1e06") in found


def test_specialise_needs_a_limit(capsys: pytest.CaptureFixture[str], without_images: Path) -> None:
    found = fails(capsys, ["specialise", str(without_images)], 2)
    assert "without a limit this would export the most accurate network, whatever it costs: give one, such as --latency" in found
    assert " on cpu), or --no-limit if that is what you want" in found
    found = fails(capsys, ["specialise", str(without_images), "--device", "pytorch"], 2)
    assert "such as --macs " in found
    assert "exclude each other" in fails(capsys, ["specialise", str(without_images), "--no-limit", "--macs", "1M"], 2)
    assert "not a run directory" in fails(capsys, ["specialise", "/no/run"], 1)


def test_nothing_is_left_of_what_came_to_nothing(run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["onceforall.pipeline.specialise"], "confirmed", stop)
    with pytest.raises(KeyboardInterrupt):
        specialise(run_copy, [Budget(params=1e6)], finalists=1, out=tmp_path / "new" / "below")
    monkeypatch.setattr("onceforall.export.bundle_folder._prove", stop)
    with pytest.raises(KeyboardInterrupt):
        make_bundle(run_copy, archs=["smallest"], out=tmp_path / "other" / "below")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert not list(run_copy.glob("specialised*"))
