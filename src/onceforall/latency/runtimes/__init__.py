"""Ways to run a network. A new one is one file here and one line in `RUNTIMES`; all pass the same contract tests."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import fx

from ...plan import Plan
from .onnxruntime import OnnxRuntime
from .pytorch import PyTorch

__all__ = ["RUNTIMES", "Function", "Images", "Runtime"]

Images = np.ndarray[Any, np.dtype[np.float32]]  # (batch, channels, height, width), C-contiguous
Function = Callable[[Images], Images]


class Runtime(Protocol):
    """Turns a network into a function that computes it."""

    @property
    def package(self) -> str:
        """Name of the distribution that brings the runtime; it is imported by `load`, not before."""

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> Function:
        """The network in eval mode, ready to be timed: images (batch, *plan.input_shape) -> (batch, *plan.output_shape).

        The function computes with `threads` threads and leaves no setting of the process changed. The network is not written
        to; it may be in train mode, and its statistics are finite.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot use so many threads, or cannot run the network.
        """


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": OnnxRuntime(),
    "pytorch": PyTorch(),
}
