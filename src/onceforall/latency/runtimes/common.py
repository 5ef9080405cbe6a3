"""What every runtime is, and what several of them use."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import CheckpointError
from ...ops import Shape
from ...packages import import_package, one_line, quiet, require
from ...plan import Plan
from ...processors import processors

if TYPE_CHECKING:  # a list of the runtimes does without torch
    from torch import fx

__all__ = [
    "FLOAT",
    "INT8",
    "Function",
    "Hardware",
    "Images",
    "OnHost",
    "Runtime",
    "Weights",
    "import_package",
    "noise",
    "one_line",
    "own_network",
    "processor",
    "processor_name",
    "quiet",
    "require",
]

FLOAT, INT8 = 1e-4, 0.1  # see `Runtime.tolerance`
Weights = Mapping[str, Any]  # tensors of a state dict
Images = np.ndarray[Any, np.dtype[np.float32]]  # (batch, channels, height, width), C-contiguous


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a runtime computes on: its name, and the largest number of threads that compute one network."""

    name: str
    threads: int


class Function(Protocol):
    """A network in a runtime."""

    def __call__(self, images: Images) -> Images:
        """Logits (batch, *plan.output_shape) of images (batch, *plan.input_shape), which stay valid after the next call."""

    def bind(self, images: Images) -> Callable[[], object]:
        """To be timed, until the next call or `bind`: computes the logits of these images.

        Images are copied to a device before, and logits are not copied back.
        """


class Runtime(Protocol):
    """Turns a network into a function that computes it."""

    @property
    def package(self) -> str:
        """Name of the distribution that brings the runtime; it is imported by `load`, not before."""

    @property
    def tolerance(self) -> float:
        """Largest difference from PyTorch's logits: root mean square over many images, as a fraction of the logits' spread
        (root mean square distance from each class's mean). Tested with a network trained for a few seconds."""

    def hardware(self) -> Hardware:
        """What the runtime would compute on here. Cheap: looks for the package but does not import it.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: something else is missing, such as a GPU or a compiler.
        """

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> Function:
        """The network in eval mode, ready to be timed: images (batch, *plan.input_shape) -> (batch, *plan.output_shape).

        The function computes with `threads` threads and leaves no setting of the process changed. The weights are those of the
        network's state dict; they are not written to, and its statistics are finite.

        Raises:
            MissingExtraError: the package is not installed.
            DeviceError: the runtime cannot use so many threads, cannot run the network, or lacks something here.
            CheckpointError: the weights are not those of a network of the plan.
        """


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class OnHost:
    """A `Function` that reads the arrays where they are.

    Args:
        run: images to logits.
        timed: the same without copying the logits out of the runtime's memory, where that saves something.
    """

    run: Callable[[Images], Images]
    timed: Callable[[Images], object] | None = None

    def __call__(self, images: Images) -> Images:
        return self.run(images)

    def bind(self, images: Images) -> Callable[[], object]:
        return partial(self.timed or self.run, images)


def processor() -> Hardware:
    """This machine's processor, with as many threads as this process may use."""
    return Hardware(processor_name(), processors())


def processor_name() -> str:
    """The processor's model name, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def noise(shape: Shape, images: int = 8) -> Images:
    """Standard normal images (images, *shape), to quantise with where only time matters, which does not depend on values."""
    return np.random.default_rng(0).standard_normal((images, *shape), np.float32)


def own_network(plan: Plan, weights: Weights) -> fx.GraphModule:
    """The plan's network as a torch module on a copy of the weights: in eval mode, channels-last, without gradients.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the plan says.
    """
    import torch

    from ...nn.shared import network_on, own_shapes

    wanted, statistics = own_shapes(plan)
    own = {}
    for name, shape in (wanted | statistics).items():
        if name not in weights:
            raise CheckpointError(f"{name} is missing in the network: it was not built from this plan")
        if tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape)
            raise CheckpointError(f"{name} has shape {found}, the plan needs {shape}: it was not built from this plan")
        own[name] = weights[name].detach().cpu().clone()
    return network_on(plan, own, {}).to(memory_format=torch.channels_last)
