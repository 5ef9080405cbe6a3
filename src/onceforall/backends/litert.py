"""LiteRT through XNNPACK, float32: converted by litert-torch, run by ai-edge-litert in this process.

model.tflite is made for one image, and supports other batch sizes by resizing its input.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.packages import import_package, no_stderr, same_environment
from ..ops import Shape
from .common import Images, OnHost, Runtime, own_network
from .format import Format

if TYPE_CHECKING:
    from torch import nn

EXTRA, NAME = "litert", "model.tflite"
USAGE = f"""from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path="{NAME}")
network = interpreter.get_signature_runner()
logits = network(args_0=x)["output_0"]"""


@dataclass(eq=False)
class _Model:
    """A loaded model: call it with C-contiguous images (batch, channels, height, width), for any batch size."""

    interpreter: Any
    source: int  # index of the input tensor
    result: int  # index of the tensor of logits
    shape: Shape  # current shape of the input

    def run(self, images: Images) -> None:
        """Compute the logits without copying them out of the interpreter."""
        if images.shape != self.shape:
            self.interpreter.resize_tensor_input(self.source, images.shape)
            with no_stderr():
                self.interpreter.allocate_tensors()
            self.shape = images.shape
        self.interpreter.set_tensor(self.source, images)
        self.interpreter.invoke()

    def __call__(self, images: Images) -> Images:
        self.run(images)
        logits: Images = self.interpreter.get_tensor(self.result)  # a copy
        return logits


def _open(model: bytes | Path, *, threads: int, shape: Shape | None) -> OnHost:
    with no_stderr():  # it logs the delegate that it uses
        library = import_package("ai_edge_litert.interpreter", EXTRA)
        content = model.read_bytes() if isinstance(model, Path) else model
        found = library.Interpreter(model_content=content, num_threads=threads)
        found.allocate_tensors()
    (source,), (result,) = found.get_input_details(), found.get_output_details()
    made = _Model(found, source["index"], result["index"], tuple(int(size) for size in source["shape"]))
    return OnHost(made, timed=made.run)


def _converted(network: nn.Module, shape: Shape) -> bytes:
    """Convert a network in eval mode to a model for images of this shape (batch, channels, height, width)."""
    import torch

    own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    with no_stderr(), same_environment(), torch.no_grad():  # the converter logs to stderr and sets variables for TensorFlow
        library = import_package("litert_torch", EXTRA)
        return bytes(library.convert(own, (torch.zeros(shape),)).model_content())


LITERT = Runtime(
    "litert",
    "LiteRT",
    "ai-edge-litert",
    _open,
    convert=lambda plan, weights, threads, shape: _converted(own_network(plan, weights), shape),
    keeps=("batch",),
    needs=("litert_torch", "ai_edge_litert"),
    extra=EXTRA,
)
TFLITE = Format(
    (NAME,),
    lambda job: [_converted(job.network, (1, *job.plan.input_shape))],
    LITERT,
    USAGE,
    "`args_0` of the signature `serving_default`, gives `output_0`",
)
