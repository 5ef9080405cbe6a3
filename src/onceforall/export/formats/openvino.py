"""model.xml and model.bin: OpenVINO's own files, float32, any batch size."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import FileError, VerificationError
from ...nn.onnx import to_onnx
from ...nn.quantise import read_openvino
from ...packages import import_package, one_line, quiet
from .common import Format, Run

__all__ = ["OPENVINO", "compiled", "save", "usage"]


def save(model: Any, path: Path) -> None:
    """Write an `openvino.Model` as path (.xml) and a .bin beside it."""
    openvino = import_package("openvino", "openvino")
    try:
        with quiet():
            openvino.save_model(model, path, compress_to_fp16=False)
    except Exception as error:  # openvino raises RuntimeError, also when the disk is full
        raise FileError(f"{path}: OpenVINO cannot write it: {one_line(error)}") from error


def compiled(path: Path, threads: int) -> Run:
    """OpenVINO's files on the processor, in float32 where the model is not int8."""
    openvino = import_package("openvino", "openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }
    try:
        with quiet():
            request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    except Exception as error:  # openvino raises RuntimeError and others
        raise VerificationError(f"{path}: OpenVINO cannot load it: {one_line(error)}") from error

    def run(x: Tensor) -> Tensor:
        try:
            logits = request.infer([np.ascontiguousarray(x.numpy())])[0]
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: OpenVINO cannot run it on images of shape {shape}: {one_line(error)}") from error
        return torch.from_numpy(logits)

    return run


def usage(name: str) -> str:
    """For the card."""
    settings = '{"INFERENCE_PRECISION_HINT": "f32"}'
    return f'import openvino\n\nlogits = openvino.Core().compile_model("{name}", "CPU", {settings})(x)[0]'


OPENVINO = Format(
    ("model.xml", "model.bin"),
    "openvino",
    lambda folder, job: save(read_openvino(to_onnx(job.plan, job.network)), folder / "model.xml"),
    lambda folder, threads: compiled(folder / "model.xml", threads),
    usage("model.xml"),
    needs=("onnx", "openvino"),
    extra="openvino",
)
