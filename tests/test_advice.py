"""Commands in messages can be pasted into a shell, and what is not what was asked for is called by its name."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall.common.advice import not_a_bundle, not_a_run, not_an_export, ofa
from onceforall.errors import FileError
from onceforall.pipeline import Run, status

ROOT = Path(onceforall.__file__).parent


def test_commands_are_quoted() -> None:
    assert ofa("evaluate", Path("run"), "--arch", "random:16") == "ofa evaluate run --arch random:16"
    assert ofa("status", Path("my run")) == "ofa status 'my run'"
    assert ofa("status", Path("-dash/r")) == "ofa status ./-dash/r"
    assert ofa("status", Path("--help")) == "ofa status ./--help"
    assert ofa("train", "-images", "--out", Path("-r"), "--resume") == "ofa train ./-images --out ./-r --resume"
    assert ofa("report", Path("it's; rm -r $HOME")) == """ofa report 'it'"'"'s; rm -r $HOME'"""


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda text: text != "."))
def test_a_shell_gets_back_the_path(text: str) -> None:
    path = Path(text)
    first, second, found = shlex.split(ofa("status", path))
    assert (first, second) == ("ofa", "status")
    assert Path(found) == path
    assert not found.startswith("-")


def test_every_message_quotes_its_commands() -> None:
    """No f-string has a command of `ofa` with a value in it, but for what `ofa()` gives."""
    bare = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for text, value in zip(node.values, node.values[1:], strict=False):
                if not (isinstance(text, ast.Constant) and isinstance(value, ast.FormattedValue)):
                    continue
                if re.search(r"\bofa [a-z-]+( [^:;,.(]*)?$", str(text.value)):
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text.value}{{{ast.unparse(value.value)}}}")
    assert bare == [], "write the command with onceforall.common.advice.ofa"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty files in the places where commands leave them: enough to tell what a path is."""
    for name in (
        "runs/a/run.json", "runs/a/metrics.jsonl", "runs/a/latency/cpu/table.json",
        "runs/a/specialised/best/config.json", "runs/a/specialised/best/arch.json", "runs/a/specialised/best/model.onnx",
        "runs/a/bundle/bundle.json", "runs/a/bundle/weights.safetensors", "runs/b/run.json",
        "taken home/config.json", "taken home/arch.json", "taken home/weights.safetensors", "pair/bundle.json",
        "photos/cat/1.JPG", "photos/dog/2.png", "begun/schedule.json", "kit/manifest.json", "kit/models/1.onnx",
        "other/notes.txt", "net.onnx", "ofa_net.pth", "cat.jpg", "notes.txt",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "runs/a/specialised/best",
            "an exported network: give the run that it was made from, runs/a; ofa classify runs/a/specialised/best PHOTO",
        ),
        ("runs/a/specialised/best", "classifies photographs, ofa evaluate runs/a --arch best measures this network"),
        ("runs/a/specialised/best/model.onnx", "a file of an exported network, runs/a/specialised/best: give the run"),
        ("runs/a/bundle", "a bundle of networks: give the run that it was made from, runs/a"),
        ("runs/a/specialised", "a part of one: give runs/a"),
        ("runs/a/latency/cpu", "a part of one: give runs/a"),
        ("runs/a/run.json", "a part of one: give runs/a"),
        ("runs", "a folder with runs in it: give one of them, such as runs/a and 1 more"),
        ("taken home", "an exported network: ofa classify 'taken home' PHOTO uses it; this command needs the run"),
        ("pair", "a bundle of networks: onceforall.load_bundle reads it; this command needs the run"),
        ("photos", "(it has no run.json), but a folder of images: make a run of them with ofa train photos --out RUN"),
        ("begun", "stopped too early: run the same ofa train or ofa import again"),
        ("kit", "a kit of models to time: ofa profile RUN --import-results kit/results.csv --device imported@NAME"),
        ("net.onnx", "an ONNX file: ofa measure net.onnx times it"),
        ("ofa_net.pth", "a file of weights: ofa import ofa_net.pth --name NAME --out RUN"),
        ("cat.jpg", "a photograph: ofa classify takes an exported network and photographs: ofa classify EXPORT cat.jpg"),
        ("notes.txt", "a file: a folder is needed"),
        ("/dev/null", "a pipe or device: a folder is needed"),
        ("other", "(it has no run.json): make one with ofa train DATA --out other"),
        ("not there", "(it does not exist): check the path, or make one with ofa train DATA --out 'not there'"),
    ],
)
def test_no_run(places: Path, path: str, words: str) -> None:
    message = not_a_run(Path(path))
    assert message.startswith(f"{path}: not a run directory")
    assert words in message
    with pytest.raises(FileError) as opened:
        Run.open(Path(path))
    assert str(opened.value) == message
    if path != "begun":  # which `ofa status` tells about
        with pytest.raises(FileError) as asked:
            status(Path(path))
        assert str(asked.value) == message


def test_paths_stay_as_they_were_written(places: Path) -> None:
    assert f"made from, {places / 'runs/a'};" in not_a_run(places / "runs/a/specialised/best")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/a", "but a run directory: give one in it: runs/a/specialised/best"),
        ("runs/b", "but a run directory, with none in it: make one with ofa specialise runs/b --macs N"),
        ("runs/a/latency", "but a part of a run directory: give one in it: runs/a/specialised/best"),
        ("runs/a/specialised/best/model.onnx", "but a file of one: give its folder, runs/a/specialised/best"),
        ("taken home/weights.safetensors", "but a file of one: give its folder, taken home"),
        ("pair", "but a bundle of several networks: onceforall.load_bundle('pair') reads it"),
        (
            "runs/a/bundle/weights.safetensors",
            "of several networks, runs/a/bundle: onceforall.load_bundle('runs/a/bundle')",
        ),
        ("photos", "but a folder of images: give a folder made by ofa specialise"),
        ("net.onnx", "but an ONNX file: ofa measure net.onnx times it"),
        ("cat.jpg", "but a photograph: ofa classify takes an exported network"),
        ("other", "not an exported network: give a folder made by ofa specialise"),
        ("not there", "no such file or folder: check the path"),
    ],
)
def test_no_export(places: Path, path: str, words: str) -> None:
    assert words in str(not_an_export(Path(path)))
    with pytest.raises(FileError) as loaded:
        onceforall.load(path)
    assert str(loaded.value) == not_an_export(Path(path))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/a", "but a run directory: give one in it: runs/a/bundle"),
        ("runs/b", "but a run directory, with none in it: make one with ofa bundle runs/b --macs N"),
        ("runs/a/bundle/bundle.json", "but a file of one: give its folder, runs/a/bundle"),
        ("taken home", "but one exported network: onceforall.load('taken home') reads it"),
        ("photos", "but a folder of images: give a folder made by ofa bundle"),
        ("not there", "no such file or folder: check the path"),
    ],
)
def test_no_bundle(places: Path, path: str, words: str) -> None:
    assert words in str(not_a_bundle(Path(path)))
    with pytest.raises(FileError) as loaded:
        onceforall.load_bundle(path)
    assert str(loaded.value) == not_a_bundle(Path(path))


def test_what_is_damaged_is_read_and_named(places: Path) -> None:
    (places / "taken home" / "config.json").unlink()
    with pytest.raises(FileError, match=r"config\.json: no such file"):
        onceforall.load("taken home")
