"""PyTorch eager on the CPU, float32, channels-last, inference mode.

torch has one thread count per process. It is set before each call and put back after it, so functions loaded with different
counts can be timed in turns; calls from several Python threads at once would disturb each other.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from ...plan import Plan

__all__ = ["PyTorch"]

Images = np.ndarray[Any, np.dtype[np.float32]]


class PyTorch:
    """The network as it is, batch norms not folded."""

    package = "torch"

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> Callable[[Images], Images]:
        own = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)
        shape = (batch, *plan.input_shape)

        def run(images: Images) -> Images:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.inference_mode():
                    logits: Images = own(torch.from_numpy(images).view(shape)).numpy()
            finally:
                torch.set_num_threads(before)
            return logits

        return run
