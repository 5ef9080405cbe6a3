"""model.int8.xml and model.int8.bin: OpenVINO's files, quantised after training with nncf."""

from functools import partial
from pathlib import Path

from ...errors import VerificationError
from ...nn.quantise import quantise_openvino
from .common import Format, Job
from .openvino import TAKES, compiled, compiled_to_time, model_of, save, usage

__all__ = ["OPENVINO_INT8"]

NAME = "model.int8.xml"


def _write(folder: Path, job: Job) -> None:
    if job.calibration is None:
        raise VerificationError(f"{NAME}: int8 needs training images to calibrate with: give some")
    save(quantise_openvino(model_of(job), job.calibration.numpy(), batch=job.onnx.batch), folder / NAME, job)


OPENVINO_INT8 = Format(
    (NAME, "model.int8.bin"),
    _write,
    lambda folder, threads: compiled(folder / NAME, threads),
    usage(NAME),
    TAKES,
    int8=True,
    needs=("onnx", "openvino", "nncf"),
    extra="openvino",
    load_to_time=lambda folder, threads, images: compiled_to_time(folder / NAME, threads, images),
    runtime="openvino-int8",
    usage_of=partial(usage, NAME),
)
