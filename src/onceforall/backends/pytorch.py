"""PyTorch eager on the processor: float32, channels-last, inference mode.

torch has one number of threads per process. It is set before each call and put back after it, so functions loaded with different
numbers can be timed in turns; calls from several Python threads at once would disturb each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["load", "with_threads"]

Images = np.ndarray[Any, np.dtype[np.float32]]


def load(network: nn.Module, *, threads: int, shape: Sequence[int]) -> Callable[[Images], Images]:
    """A function that computes the logits of images (batch, channels, height, width) of this shape.

    Args:
        network: in eval mode; its weights are laid out channels-last, in place.
        threads: of torch.
        shape: of the images.
    """
    return with_threads(network.to(memory_format=torch.channels_last), threads=threads, shape=shape)


def with_threads(model: Callable[[Tensor], Tensor], *, threads: int, shape: Sequence[int]) -> Callable[[Images], Images]:
    """As `load`, for any function of torch."""

    def run(images: Images) -> Images:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                logits: Images = model(torch.from_numpy(images).view(tuple(shape))).numpy()
        finally:
            torch.set_num_threads(before)
        return logits

    return run
