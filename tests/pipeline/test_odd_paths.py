"""Paths that are not valid Unicode, as old archives and other systems leave them: all works, and what is kept is read back."""

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from onceforall import space
from onceforall.accuracy import AccuracyRow, append_rows, read_rows
from onceforall.common.advice import ofa
from onceforall.data import open_source
from onceforall.errors import Note
from onceforall.nn.tensor_files import read_tensors
from onceforall.pipeline import Run, bundle, evaluate, report, status
from onceforall.train.checkpoint import load_tensors, save_tensors
from tiny_run import SPACE, on_pictures, pictures

ODD = os.fsdecode(b"caf\xe9")


def test_run_data_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures(tmp_path / ODD / "data")
    (data / "class 0").rename(data / ODD)
    Image.new("RGB", (20, 20), "red").save(data / ODD / f"{ODD}.png")
    (data / ODD / f"bad {ODD}.png").write_bytes(b"no")
    monkeypatch.setattr("sys.argv", ["ofa", "train", str(data)])
    with pytest.warns(Note, match="no TensorBoard log"):
        run = on_pictures(str(data), tmp_path / ODD / "run")
    there = Run.open(run.folder)
    assert (there.info.data, there.info.classes) == (run.info.data, run.info.classes)
    assert there.require_images().source == str(data)
    assert there.info.environment["command"] == ofa("train", data)
    (whole,) = evaluate(run.folder)
    made = bundle(run.folder, archs=["smallest", "largest"])
    assert {member.test_images for member in made.bundle.members.values()} == {there.info.images["test"]}
    assert whole.accuracy.images == there.info.images["held-out"]
    assert ODD.encode("utf-8", "replace").decode() not in (made.folder / "README.md").read_text(encoding="utf-8")
    report(run.folder).read_text(encoding="utf-8")
    found = status(run.folder)
    assert not [part for part in found.parts if part.state == "damaged"]
    json.loads(json.dumps([part.text for part in found.parts]))


def test_single_files(tmp_path: Path) -> None:
    """Each library that opens files of ours."""
    place = tmp_path / ODD
    weights, tensors = place / "a.safetensors", {"a": torch.ones(3)}
    place.mkdir()
    save_tensors(weights, tensors, {"where": ODD})
    assert load_tensors(weights)[1] == {"where": ODD}
    assert read_tensors(weights)["a"].equal(tensors["a"])
    made = space(**{"family": "mobilenet_v3", **SPACE})
    row = AccuracyRow(made.largest(), 0.5, 1.0, 10, 0.1)
    append_rows(place, made, [row], weights_hash="x")
    assert read_rows(place, made, weights_hash="x") == [row]
    images = io.BytesIO()
    Image.new("RGB", (9, 9)).save(images, "PNG")
    table = pa.table({"image": [images.getvalue()] * 3, "label": [0, 1, 0]})
    with open(place / "train-0.parquet", "wb") as file:
        pq.write_table(table, file)
    assert len(open_source(str(place)).train) == 3
