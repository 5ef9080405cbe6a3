"""model.tflite: LiteRT, float32, made for one image, and any batch size by resizing the input."""

from pathlib import Path

import numpy as np
import torch

from ...nn.litert import PACKAGES, LiteModel, convert
from .common import Format, Job, Run
from .converted import load_converted, write_converted

__all__ = ["LITERT"]

NAME = "model.tflite"

USAGE = f"""from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path="{NAME}")
network = interpreter.get_signature_runner()
logits = network(args_0=x)["output_0"]"""


def _write(folder: Path, job: Job) -> None:
    write_converted(folder / NAME, lambda: convert(job.network, (1, *job.plan.input_shape)))


def _load(folder: Path, threads: int) -> Run:
    def load(content: bytes) -> Run:
        model = LiteModel.load(content, threads)
        return lambda x: torch.from_numpy(model(np.ascontiguousarray(x.numpy())))

    return load_converted(folder / NAME, "LiteRT", load)


LITERT = Format(
    (NAME,),
    _write,
    _load,
    USAGE,
    "`args_0` of the signature `serving_default`, gives `output_0`",
    needs=PACKAGES,
    extra="litert",
    runtime="litert",
)
