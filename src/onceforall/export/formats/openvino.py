"""model.xml and model.bin: OpenVINO's own files, float32, any batch size."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import FileError, VerificationError
from ...files import reading_or_writing, write_bytes
from ...nn.onnx import HARD_SWISH, INPUT, to_onnx
from ...nn.quantise import read_openvino
from ...packages import import_package, one_line, quiet
from ..config import OnnxOptions
from .common import Format, Job, Run
from .onnx import given, remark

__all__ = ["OPENVINO", "TAKES", "compiled", "model_of", "save", "usage"]

TAKES = f"`{INPUT}`; `rt_info` has `onceforall` with `arch`, `config`"


def save(model: Any, path: Path, job: Job) -> None:
    """Write an `openvino.Model` as path (.xml) and a .bin beside it, with the architecture and the config inside.

    OpenVINO writes elsewhere first: on a full disk it says nothing of the disk, and leaves half a file.
    """
    openvino = import_package("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / path.name
        try:
            with quiet():
                for key, text in job.facts.items():
                    model.set_rt_info(text, ["onceforall", key])
                openvino.save_model(model, there, compress_to_fp16=False)
        except Exception as error:  # openvino raises RuntimeError and others
            raise FileError(f"{there}: OpenVINO cannot write it: {one_line(error)}") from error
        for end in (".bin", ".xml"):
            with reading_or_writing(there):
                content = there.with_suffix(end).read_bytes()
            write_bytes(path.with_suffix(end), content)


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


def model_of(job: Job) -> Any:
    """The network as an `openvino.Model`."""
    return read_openvino(to_onnx(job.plan, job.network, batch=job.onnx.batch, opset=HARD_SWISH, softmax=job.onnx.softmax))


def usage(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    """For the card."""
    settings = '{"INFERENCE_PRECISION_HINT": "f32"}'
    return f'import openvino\n\nlogits = openvino.Core().compile_model("{name}", "CPU", {settings})({given(options)})[0]' + remark(
        options
    )


OPENVINO = Format(
    ("model.xml", "model.bin"),
    lambda folder, job: save(model_of(job), folder / "model.xml", job),
    lambda folder, threads: compiled(folder / "model.xml", threads),
    usage("model.xml"),
    TAKES,
    needs=("onnx", "openvino"),
    extra="openvino",
    usage_of=partial(usage, "model.xml"),
)
