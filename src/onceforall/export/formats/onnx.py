"""model.onnx: batch norms folded, any batch size; run by ONNX Runtime."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import VerificationError
from ...files import write_bytes
from ...nn.onnx import INPUT, to_onnx
from ...packages import import_package, one_line
from ..config import OnnxOptions
from .common import Format, Job, Run

__all__ = ["ONNX", "TAKES", "given", "remark", "session", "usage", "with_facts"]

TAKES = f"`{INPUT}`; metadata `arch`, `config`"


def with_facts(job: Job) -> bytes:
    """The model, with the architecture and the config of its folder inside."""
    return to_onnx(job.plan, job.network, **asdict(job.onnx), metadata=job.facts)


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
            logits = found.run(None, {INPUT: np.ascontiguousarray(x.numpy())})[0]
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: ONNX Runtime cannot run it on images of shape {shape}: {one_line(error)}") from error
        return torch.from_numpy(logits)

    return run


def usage(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    """For the card."""
    run = f'run(None, {{"{INPUT}": {given(options)}}})[0]'
    return f'import onnxruntime\n\nlogits = onnxruntime.InferenceSession("{name}").{run}{remark(options)}'


def given(options: OnnxOptions) -> str:
    """As many images as the file takes, for the card."""
    return "x" if options.batch in (None, 1) else f"x.repeat({options.batch}, 0)"


def remark(options: OnnxOptions) -> str:
    """What the file gives, if not logits, for the card."""
    return "  # probabilities: the file ends with a softmax" if options.softmax else ""


ONNX = Format(
    ("model.onnx",),
    lambda folder, job: write_bytes(folder / "model.onnx", with_facts(job)),
    lambda folder, threads: session(folder / "model.onnx", threads),
    usage("model.onnx"),
    TAKES,
    needs=("onnx", "onnxruntime"),
    extra="onnx",
    usage_of=partial(usage, "model.onnx"),
)
