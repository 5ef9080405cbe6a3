"""What is left out of the data is told when a training begins, and stays in problems.jsonl; a run may lie inside its data."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from onceforall.common.files import read_json, read_lines, write_json
from onceforall.common.progress import Progress
from onceforall.errors import DataError
from onceforall.pipeline import Run, evaluate, status, train
from tiny_run import on_pictures, pictures


def test_what_is_left_out_is_told_and_written_down(own_cache: None, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    (data / "class 0" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (data / "class 1" / "00.jpg").write_text("no")
    (data / "empty").mkdir()
    events: list[dict[str, Any]] = []
    on_pictures(str(data), tmp_path / "run", progress=Progress(event=events.append))
    assert [event["problems"] for event in events if event["event"] == "data"] == [1]
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert "left out: 1 file of an unsupported kind (.heic): class 0/x.heic; 1 folder without images: empty" in notes
    assert {line["name"]: re.split(": | \\(", line["reason"])[0] for line in read_lines(tmp_path / "run" / "problems.jsonl")} == {
        "class 1/00.jpg": "not an image of a supported kind",
        "class 0/x.heic": "left out",
        "empty": "left out",
    }
    (part,) = [part for part in status(tmp_path / "run").parts if part.name == "run"]
    assert "problems.jsonl: 3 images and files left out" in part.text
    assert part.facts["left_out"] == 3


def test_all_that_is_left_out_is_counted_and_what_is_doubtful_apart(
    own_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onceforall.data.splits.MOST_LISTED", 3)
    data = pictures(tmp_path / "data")
    for i in range(10):
        (data / "class 0" / f"{i}.txt").touch()
    for name in ("class 0", "class 1"):
        shutil.copy(data / "class 0" / "00.jpg", data / name / "twin.jpg")
    run = on_pictures(str(data), tmp_path / "run").folder
    (part,) = [part for part in status(run).parts if part.name == "run"]
    assert (part.facts["left_out"], part.facts["doubtful"]) == (10, 3)
    assert "problems.jsonl: 10 images and files left out, 3 images with a doubtful label" in part.text
    with open(run / "problems.jsonl", "a") as file:  # as every version wrote it
        file.write(
            '{"name": "x", "reason": "kept: a test image nearly the same as the training image y", "doubtful": true, "count": 1}\n'
        )
    (part,) = [part for part in status(run).parts if part.name == "run"]
    assert (part.facts["doubtful"], part.facts["nearly_same"]) == (3, 1)
    assert "3 images with a doubtful label, 1 image nearly the same as a training image" in part.text


def test_runs_of_earlier_versions_say_what_is_read_now(own_cache: None, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    run = on_pictures(str(data), tmp_path / "run").folder
    (data / "class 0" / "00.jpg").rename(data / "class 0" / "00.jfif")
    shutil.copy(data / "class 0" / "00.jfif", data / "class 0" / "more")
    shutil.copy(data / "class 1" / "01.jpg", data / "class 0" / "another")
    with pytest.raises(DataError, match="not those that") as caught:
        evaluate(run, arch="smallest")
    assert "this version of onceforall" not in str(caught.value)
    told = read_json(run / "run.json")
    del told["data"]["max_pixels"], told["data"]["by_suffix"]
    write_json(run / "run.json", told)
    with pytest.raises(
        DataError, match=r"\(.* where it had .*this version of onceforall reads images that the one that made the run"
    ):
        evaluate(run, arch="smallest")


def test_the_limit_of_the_cache_can_be_raised_later(own_cache: None, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    run = on_pictures(str(data), tmp_path / "run")
    assert run.require_images().cache_gb == 8
    train(str(data), out=run.folder, resume=True, cache_gb=9)
    assert Run.open(run.folder).require_images().cache_gb == 9
    (run.folder / "supernet.safetensors").unlink()
    with pytest.raises(DataError, match="over the limit of 1e-06 GB: raise it with --cache-gb"):
        train(str(data), out=run.folder, resume=True, cache_gb=1e-6)
    train(str(data), out=run.folder, resume=True, cache_gb=10)
    assert Run.open(run.folder).require_images().cache_gb == 10


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
