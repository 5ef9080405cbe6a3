"""ExecuTorch programs through XNNPACK: written with `torch.export`, run in this process.

ExecuTorch has one pool of threads per process, and a loaded program keeps a pointer to it. So the pool is only replaced while no
program is loaded.
"""

import copy
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ..errors import DeviceError
from ..packages import import_package, no_stderr, one_line, quiet, same_environment

__all__ = ["Program", "lower"]

EXTRA = "executorch"


@dataclass(eq=False)
class Program:
    """A loaded program: call it with images of the shape that it was lowered for."""

    held: tuple[Any, Any]  # the program and its method, which does not keep the program alive, and crashes without

    @classmethod
    def load(cls, content: bytes, threads: int) -> "Program":
        """A program, ready to run with so many threads.

        Raises:
            MissingExtraError: executorch is not installed.
            DeviceError: executorch cannot load it, or other programs are loaded that use another number of threads.
        """
        runtime = _runtime()
        with no_stderr():  # it tells how it looks for processors
            _use_threads(threads)
        try:
            with quiet(), no_stderr():
                program = runtime.Runtime.get().load_program(content)
                loaded = cls((program, program.load_method("forward")))
        except Exception as error:  # executorch raises RuntimeError and others
            raise DeviceError(f"ExecuTorch cannot load the program: {one_line(error)}") from error
        _LOADED.add(loaded)
        return loaded

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        logits: Tensor = self.held[1].execute([images])[0]
        return logits


_LOADED: WeakSet[Program] = WeakSet()


def lower(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A network in eval mode as a program for images of exactly this shape (batch, channels, height, width).

    Raises:
        MissingExtraError: executorch is not installed.
        DeviceError: the network cannot be lowered.
    """
    _runtime()
    exir = import_package("executorch.exir", EXTRA)
    xnnpack = import_package("executorch.backends.xnnpack.partition.xnnpack_partitioner", EXTRA)
    own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # XNNPACK's passes refuse channels-last weights
    try:
        with quiet(), torch.no_grad():
            exported = torch.export.export(own, (torch.zeros(shape),))
            lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
            return bytes(lowered.to_executorch().buffer)
    except Exception as error:  # of torch.export and the passes: no common class
        raise DeviceError(f"ExecuTorch cannot lower the network: {one_line(error)}") from error


def _runtime() -> Any:
    with same_environment():  # it sets OPENVINO_LIB_PATH, for a back end that is not used here
        return import_package("executorch.runtime", EXTRA)


def _use_threads(threads: int) -> None:
    """Give ExecuTorch's pool so many threads."""
    library: Any = import_package("executorch.extension.pybindings.portable_lib", EXTRA)
    have = library._threadpool_get_thread_count()
    if have == threads:
        return
    if _LOADED:
        raise DeviceError(
            f"threads is {threads}, and ExecuTorch has networks loaded that use {have}: it has one pool of threads per process, so "
            "release those first"
        )
    library._unsafe_reset_threadpool(threads)
    if (have := library._threadpool_get_thread_count()) != threads:
        raise DeviceError(f"threads is {threads}, and ExecuTorch uses {have}: ask for {have}")
