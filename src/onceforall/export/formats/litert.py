"""model.tflite: LiteRT, float32, made for one image, and any batch size by resizing the input."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import DeviceError, VerificationError
from ...files import reading_or_writing, write_bytes
from ...nn.litert import PACKAGES, LiteModel, convert
from ...packages import one_line
from .common import Format, Job, Run

__all__ = ["LITERT"]

NAME = "model.tflite"

USAGE = f"""from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path="{NAME}")
logits = interpreter.get_signature_runner()(args_0=x)["output_0"]"""


def _write(folder: Path, job: Job) -> None:
    try:
        content = convert(job.network, (1, *job.plan.input_shape))
    except DeviceError as error:
        raise VerificationError(f"{NAME}: {error}") from error
    write_bytes(folder / NAME, content)


def _load(folder: Path, threads: int) -> Run:
    path = folder / NAME
    with reading_or_writing(path):
        content = path.read_bytes()
    try:
        model = LiteModel.load(content, threads)
    except DeviceError as error:
        raise VerificationError(f"{path}: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(model(np.ascontiguousarray(x.numpy())))
        except Exception as error:  # LiteRT raises RuntimeError and ValueError
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: LiteRT cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run


LITERT = Format(
    (NAME,),
    _write,
    _load,
    USAGE,
    "`args_0` of the signature `serving_default`, gives `output_0`",
    needs=PACKAGES,
    extra="litert",
)
