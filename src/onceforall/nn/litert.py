"""LiteRT models (.tflite): converted by litert-torch, run by ai-edge-litert in this process, through XNNPACK."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import DeviceError
from ..packages import import_package, no_stderr, one_line, quiet, same_environment

__all__ = ["PACKAGES", "LiteModel", "convert"]

PACKAGES = "litert_torch", "ai_edge_litert"
EXTRA = "litert"
Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(eq=False)
class LiteModel:
    """A loaded model: call it with images (batch, channels, height, width), C-contiguous, in any batch size."""

    interpreter: Any
    source: int  # number of the tensor of images
    result: int  # number of the tensor of logits
    shape: tuple[int, ...]  # of the images that it is ready for

    @classmethod
    def load(cls, content: bytes, threads: int) -> "LiteModel":
        """A model, ready to run with so many threads.

        Raises:
            MissingExtraError: ai-edge-litert is not installed.
            DeviceError: LiteRT cannot load it.
        """
        with no_stderr():  # it tells which delegate it uses
            library = import_package("ai_edge_litert.interpreter", EXTRA)
            try:
                with quiet():
                    found = library.Interpreter(model_content=content, num_threads=threads)
                    found.allocate_tensors()
                    (source,), (result,) = found.get_input_details(), found.get_output_details()
            except Exception as error:  # of its own and others, with no common class
                raise DeviceError(f"LiteRT cannot load the model: {one_line(error)}") from error
        return cls(found, source["index"], result["index"], tuple(int(size) for size in source["shape"]))

    def run(self, images: Array) -> None:
        """Compute the logits, and leave them inside."""
        if images.shape != self.shape:
            self.interpreter.resize_tensor_input(self.source, images.shape)
            with no_stderr():
                self.interpreter.allocate_tensors()
            self.shape = images.shape
        self.interpreter.set_tensor(self.source, images)
        self.interpreter.invoke()

    def __call__(self, images: Array) -> Array:
        """Logits (batch, classes)."""
        self.run(images)
        logits: Array = self.interpreter.get_tensor(self.result)  # a copy
        return logits


def convert(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A network in eval mode as a model, for images of this shape (batch, channels, height, width).

    Raises:
        MissingExtraError: litert-torch is not installed.
        DeviceError: the network cannot be converted.
    """
    own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    with no_stderr(), same_environment():  # the converter logs there, and sets variables for TensorFlow
        library = import_package("litert_torch", EXTRA)
        try:
            with quiet(), torch.no_grad():
                return bytes(library.convert(own, (torch.zeros(shape),)).model_content())
        except Exception as error:  # of torch.export, jax and the converter: no common class
            raise DeviceError(f"LiteRT cannot convert the network: {one_line(error)}") from error
