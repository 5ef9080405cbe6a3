"""model.onnx: batch norms folded, any batch size; run by ONNX Runtime."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import VerificationError
from ...files import write_bytes
from ...nn.onnx import INPUT, OUTPUT, to_onnx
from ...packages import import_package, one_line
from .common import Format, Job, Run

__all__ = ["ONNX", "TAKES", "session", "usage", "with_facts"]

TAKES = f"`{INPUT}`, gives `{OUTPUT}`; metadata `arch`, `config`"


def with_facts(job: Job) -> bytes:
    """The model, with the architecture and the config of its folder inside."""
    return to_onnx(job.plan, job.network, metadata=job.facts)


def session(path: Path, threads: int) -> Run:
    """An ONNX file in ONNX Runtime."""
    onnxruntime = import_package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads that spin after a run slow down what comes next
    try:
        found = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise VerificationError(f"{path}: ONNX Runtime cannot load it: {one_line(error)}") from error

    def run(x: Tensor) -> Tensor:
        try:
            logits = found.run([OUTPUT], {INPUT: np.ascontiguousarray(x.numpy())})[0]
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: ONNX Runtime cannot run it on images of shape {shape}: {one_line(error)}") from error
        return torch.from_numpy(logits)

    return run


def usage(name: str) -> str:
    """For the card."""
    session = f'session = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])'
    return f'import onnxruntime\n\n{session}\nlogits = session.run(["{OUTPUT}"], {{"{INPUT}": x}})[0]'


ONNX = Format(
    ("model.onnx",),
    lambda folder, job: write_bytes(folder / "model.onnx", with_facts(job)),
    lambda folder, threads: session(folder / "model.onnx", threads),
    usage("model.onnx"),
    TAKES,
    needs=("onnx", "onnxruntime"),
    extra="onnx",
)
