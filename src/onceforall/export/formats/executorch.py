"""model.pte: ExecuTorch through XNNPACK, for one image per call."""

from pathlib import Path

import torch

from ...nn.executorch import Program, lower
from .common import Format, Job, Run
from .converted import load_converted, write_converted

__all__ = ["EXECUTORCH"]

NAME = "model.pte"

USAGE = f"""import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("{NAME}")
method = program.load_method("forward")
logits = method.execute([torch.from_numpy(x)])[0].numpy()"""


def _write(folder: Path, job: Job) -> None:
    write_converted(folder / NAME, lambda: lower(job.network, (1, *job.plan.input_shape)))


def _load(folder: Path, threads: int) -> Run:
    def load(content: bytes) -> Run:
        program = Program.load(content, threads)
        return lambda x: torch.cat([program(image[None].contiguous()) for image in x])

    return load_converted(folder / NAME, "ExecuTorch", load)


EXECUTORCH = Format(
    (NAME,),
    _write,
    _load,
    USAGE,
    "the first argument of `forward`",
    batches=(1,),
    needs=("executorch",),
    extra="executorch",
    runtime="executorch",
)
