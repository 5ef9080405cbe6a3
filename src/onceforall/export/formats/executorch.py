"""model.pte: ExecuTorch through XNNPACK, for one image per call."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import VerificationError
from ...files import write_bytes
from ...packages import import_package, one_line, quiet
from .common import Format, Job, Run

__all__ = ["EXECUTORCH"]

NAME = "model.pte"

USAGE = f"""import torch
from executorch.runtime import Runtime

method = Runtime.get().load_program("{NAME}").load_method("forward")
logits = method.execute([torch.from_numpy(x)])[0].numpy()"""


def _write(folder: Path, job: Job) -> None:
    exir = import_package("executorch.exir", "executorch")
    xnnpack = import_package("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    own = copy.deepcopy(job.network).to(memory_format=torch.contiguous_format)  # XNNPACK's passes refuse channels-last weights
    try:
        with quiet(), torch.no_grad():
            exported = torch.export.export(own, (torch.zeros(1, *job.plan.input_shape),))
            program = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch()
    except Exception as error:  # of torch.export and the passes: no common class
        raise VerificationError(f"{NAME}: ExecuTorch cannot lower the network: {one_line(error)}") from error
    write_bytes(folder / NAME, bytes(program.buffer))


def _load(folder: Path, threads: int) -> Run:
    """The number of threads is that of ExecuTorch's pool."""
    given, path = os.environ.get("OPENVINO_LIB_PATH"), folder / NAME
    runtime: Any = import_package("executorch.runtime", "executorch")
    if given is None:
        os.environ.pop("OPENVINO_LIB_PATH", None)  # set by the import, for a back end that is not used here
    try:
        program = runtime.Runtime.get().load_program(path.read_bytes())
        held = (program, program.load_method("forward"))  # a method does not keep its program alive, and crashes without
    except Exception as error:
        raise VerificationError(f"{path}: ExecuTorch cannot load it: {one_line(error)}") from error

    def run(x: Tensor) -> Tensor:
        try:
            return torch.cat([held[1].execute([image[None].contiguous()])[0].clone() for image in x])
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: ExecuTorch cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run


EXECUTORCH = Format((NAME,), "executorch", _write, _load, USAGE, batches=(1,), needs=("executorch",), extra="executorch")
