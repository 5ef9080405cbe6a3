"""What `ofa profile` leaves, and what it does not leave when it fails."""

import sys
from pathlib import Path

import pytest

import onceforall
from onceforall.cli import run
from onceforall.common.files import read_json
from onceforall.errors import DeviceError, FileError, MissingExtraError, TrainingError
from onceforall.latency import LatencyTable
from onceforall.pipeline import demo, imported, kit, measure, profile
from tiny_run import SPACE, SPACE_TEXT

TINY = onceforall.space("mobilenet_v3", **SPACE)


@pytest.fixture(autouse=True, scope="module")
def _few_measurements() -> None:
    """Here as many as users do, in place of the fixture of `conftest.py`."""


def test_a_space_needs_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", f"mobilenet_v3:{SPACE_TEXT}", "--classes", "3", "--quick", "--out", str(tmp_path / "a/b")]) == 0
    out, err = capsys.readouterr()
    assert "networks not used to make the table" in out
    assert err.startswith("measuring: 0 of ")
    table = LatencyTable.load(tmp_path / "a/b/table.json", TINY, 3)
    assert (table.estimate([TINY.smallest()]) < table.estimate([TINY.largest()])).all()
    again = profile(TINY, out=tmp_path / "a/b", classes=3, quick=True)  # all is known
    assert again.costs.estimate([TINY.largest()]) == table.costs.estimate([TINY.largest()])
    with pytest.raises(DeviceError, match="holds the profile of another space or device"):
        profile(TINY, out=tmp_path / "a/b", classes=4, quick=True)


def test_a_kit_of_a_space(tmp_path: Path) -> None:
    assert kit(TINY, str(tmp_path / "kit"), classes=3, quick=True) > 20
    lines = ["file,ms", *(f"{m['file']},{1e-6 * m['macs'] + 0.01}" for m in read_json(tmp_path / "kit/manifest.json")["models"])]
    (tmp_path / "kit/results.csv").write_text("\n".join(lines))
    table = imported(TINY, str(tmp_path / "kit/results.csv"), "imported@phone", out=tmp_path / "table", classes=3)
    assert LatencyTable.load(tmp_path / "table/table.json", TINY, 3).errors == table.errors


def test_paths_may_be_text(trained: Path, tmp_path: Path) -> None:
    """As in the functions that begin with `Run.open`; those of a kit: above."""
    with pytest.raises(FileError, match=r"none\.onnx: no such file"):
        measure(str(tmp_path / "none.onnx"))
    with pytest.raises(TrainingError, match="which is not the demo's: choose another --out"):
        demo(str(trained))


def test_what_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it was not installed
    for device, message in (
        ("openvino", r"onceforall\[openvino\]"),
        ("onnxruntime@ssh://127.0.0.1:1", r"cannot be reached|no ssh"),
        ("cpu:threads=4096", "threads is 4096"),
    ):
        with pytest.raises((DeviceError, MissingExtraError), match=message):
            profile(TINY, out=tmp_path / "a/b", device=device, quick=True)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(DeviceError):
        profile(TINY, out=tmp_path / "mine", device="cpu:threads=4096", quick=True, again=True)
    assert (tmp_path / "mine").exists()


def test_measurements_are_not_forgotten_for_a_host_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "measurements.jsonl").write_text("mine")
    with pytest.raises(DeviceError, match=r"cannot be reached|no ssh"):
        profile(TINY, out=tmp_path, device="onnxruntime@ssh://127.0.0.1:1", again=True)
    assert (tmp_path / "measurements.jsonl").read_text() == "mine"


def test_what_cannot_be_asked(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="a space has no folder of its own: give --out FOLDER"):
        profile(TINY)
    with pytest.raises(DeviceError, match="has 10 classes: leave it out"):
        profile(trained, classes=3)
    with pytest.raises(DeviceError, match="--classes 0: give at least 1"):
        kit(TINY, tmp_path / "kit", classes=0)
