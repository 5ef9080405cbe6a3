"""model.pte: ExecuTorch through XNNPACK, for one image per call."""

from pathlib import Path

import torch
from torch import Tensor

from ...errors import DeviceError, VerificationError
from ...files import reading_or_writing, write_bytes
from ...nn.executorch import Program, lower
from ...packages import one_line
from .common import Format, Job, Run

__all__ = ["EXECUTORCH"]

NAME = "model.pte"

USAGE = f"""import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("{NAME}")
logits = program.load_method("forward").execute([torch.from_numpy(x)])[0].numpy()"""


def _write(folder: Path, job: Job) -> None:
    try:
        content = lower(job.network, (1, *job.plan.input_shape))
    except DeviceError as error:
        raise VerificationError(f"{NAME}: {error}") from error
    write_bytes(folder / NAME, content)


def _load(folder: Path, threads: int) -> Run:
    path = folder / NAME
    with reading_or_writing(path):
        content = path.read_bytes()
    try:
        program = Program.load(content, threads)
    except DeviceError as error:
        raise VerificationError(f"{path}: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            return torch.cat([program(image[None].contiguous()) for image in x])
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: ExecuTorch cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run


EXECUTORCH = Format(
    (NAME,),
    _write,
    _load,
    USAGE,
    "the first argument of `forward`",
    batches=(1,),
    needs=("executorch",),
    extra="executorch",
)
