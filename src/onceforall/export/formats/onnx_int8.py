"""model.int8.onnx: the ONNX model, quantised after training; run by ONNX Runtime."""

from pathlib import Path

from ...errors import VerificationError
from ...files import write_bytes
from ...nn.quantise import quantise_onnx
from .common import Format, Job
from .onnx import TAKES, session, session_to_time, usage, with_facts

__all__ = ["ONNX_INT8"]

NAME = "model.int8.onnx"


def _write(folder: Path, job: Job) -> None:
    if job.calibration is None:
        raise VerificationError(f"{NAME}: int8 needs training images to calibrate with: give some")
    write_bytes(folder / NAME, quantise_onnx(with_facts(job), job.calibration.numpy()))


ONNX_INT8 = Format(
    (NAME,),
    _write,
    lambda folder, threads: session(folder / NAME, threads),
    usage(NAME),
    TAKES,
    int8=True,
    needs=("onnx", "onnxruntime"),
    extra="onnx",
    load_to_time=lambda folder, threads, images: session_to_time(folder / NAME, threads, images),
    runtime="onnxruntime-int8",
)
