"""Exchanges between the processes that train together (torch.distributed's default group), as they can fail."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor

from ..errors import TrainingError


@contextmanager
def exchanging() -> Iterator[None]:
    """Inside, what torch says when another process is gone becomes one line.

    Raises:
        TrainingError: the exchange failed.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError("another process ended: see its message") from error


def add_up(values: Tensor) -> Tensor:
    """The sum over all processes, in place.

    Raises:
        TrainingError: another process has ended.
    """
    with exchanging():
        dist.all_reduce(values)
    return values
