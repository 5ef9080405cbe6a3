"""What is left out of the data is told when a training begins, and stays in problems.jsonl; a run may lie inside its data."""

import re
from pathlib import Path
from typing import Any

import pytest

from onceforall.files import read_lines
from onceforall.pipeline import Run, evaluate, status
from tiny_run import on_pictures, pictures


def test_what_is_left_out_is_told_and_written_down(own_cache: None, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    (data / "class 0" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (data / "class 1" / "00.jpg").write_text("no")
    (data / "empty").mkdir()
    events: list[dict[str, Any]] = []
    on_pictures(str(data), tmp_path / "run", on_event=events.append)
    assert [event["problems"] for event in events if event["event"] == "data"] == [1]
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert "left out: 1 file of a kind that is not read here (.heic): class 0/x.heic; 1 folder without images: empty" in notes
    assert {line["name"]: re.split(": | \\(", line["reason"])[0] for line in read_lines(tmp_path / "run" / "problems.jsonl")} == {
        "class 1/00.jpg": "not an image, or of a kind that is not read here",
        "class 0/x.heic": "left out",
        "empty": "left out",
    }
    (part,) = [part for part in status(tmp_path / "run").parts if part.name == "run"]
    assert "problems.jsonl tells of 3 images and files that were left out or are doubtful" in part.text


def test_a_run_inside_its_data_is_no_class(own_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures(tmp_path / "data"))
    on_pictures(".", Path("run"))
    evaluate(Path("run"), arch="smallest")
    again = on_pictures(".", Path("runs/again"))
    assert again.num_classes == 2
    assert again.info.data is not None
    assert again.info.data.fingerprint == Run.open(Path("run")).splits().fingerprint
    names = [line["name"] for line in read_lines(Path("runs/again/problems.jsonl"))]
    assert names == ["run"]
