"""PyTorch eager on the CPU, float32, channels-last, inference mode.

torch has one thread count per process. It is set before each call and put back after it, so functions loaded with different
counts can be timed in turns; calls from several Python threads at once would disturb each other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...plan import Plan
from .common import FLOAT, Hardware, Images, OnHost, Weights, own_network, processor

__all__ = ["PyTorch", "with_threads"]


class PyTorch:
    """The network as it is, batch norms not folded."""

    package = "torch"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        own = own_network(plan, weights)
        return with_threads(own, threads, (batch, *plan.input_shape))


def with_threads(model: Callable[[Tensor], Tensor], threads: int, shape: tuple[int, ...]) -> OnHost:
    """A function that runs a model of torch with so many of torch's threads, on images of this shape."""

    def run(images: Images) -> Images:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                logits: Images = model(torch.from_numpy(images).view(shape)).numpy()
        finally:
            torch.set_num_threads(before)
        return logits

    return OnHost(run)
