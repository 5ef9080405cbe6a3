"""What is asked of an export is done, or refused in one line before anything is searched."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from onceforall.calibrate import Accuracy
from onceforall.errors import VerificationError
from onceforall.export import FileRow, OnnxOptions
from onceforall.latency import Device
from onceforall.pipeline import Budget, specialise
from onceforall.pipeline.specialise import _of_latency
from onceforall.pipeline.specialising.through_files import FileResults


@dataclass
class Asked:
    onnx: OnnxOptions | None
    readers: list[str] | None
    message: str


@pytest.mark.parametrize(
    "asked",
    [
        Asked(OnnxOptions(17), None, "^--opset 17 is for ONNX files, but --export openvino makes none: add onnx, or leave it out$"),
        Asked(None, ["opencv"], "^--readers opencv read ONNX files, but --export openvino makes none: add onnx$"),
    ],
)
def test_options_of_onnx_files_without_one(tmp_path: Path, asked: Asked) -> None:
    with pytest.raises(VerificationError, match=asked.message):
        specialise(tmp_path / "no run", [Budget()], export=["openvino"], onnx=asked.onnx, readers=asked.readers)


def test_a_latency_that_no_file_has_is_told() -> None:
    rows = [FileRow("pytorch", 0.9), FileRow("onnx", 0.9)]
    found = FileResults(Accuracy(0.9, 1.0, 0.1, 200), rows, {}, None)
    (note,) = _of_latency(Device("onnxruntime-int8"), OnnxOptions(), found)
    assert note.startswith("No file in this folder runs in onnxruntime-int8: the latency at the top is of the network")
    first, second = _of_latency(Device("onnxruntime"), OnnxOptions(batch=4), found)
    assert first.endswith("with 1 images per call, as in --device. Not timed, because their batch size differs: model.onnx.")
    assert second.startswith("The latency at the top is of the same network")
    assert _of_latency(Device("imported", host="phone"), OnnxOptions(batch=4), found) == []
