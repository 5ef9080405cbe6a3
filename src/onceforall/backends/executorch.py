"""ExecuTorch through XNNPACK, float32: written with `torch.export`, run in this process; model.pte, for one image per call.

ExecuTorch has one thread pool per process, and a loaded program holds a pointer to it, so the pool is only replaced while no
program is loaded.
"""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..common.packages import import_package, no_stderr, same_environment
from ..errors import DeviceError
from ..ops import Shape
from .common import Images, OnHost, Runtime, own_network
from .format import Format, Job

if TYPE_CHECKING:
    from torch import nn

EXTRA, NAME = "executorch", "model.pte"
USAGE = f"""import torch
from executorch.runtime import Runtime

program = Runtime.get().load_program("{NAME}")
method = program.load_method("forward")
logits = method.execute([torch.from_numpy(x)])[0].numpy()"""


@dataclass(eq=False)
class _Program:
    """A loaded program: call it with images of the shape that it was lowered for."""

    program: Any
    method: Any  # crashes if the program, to which it holds no reference, is deleted

    def __call__(self, images: Images) -> Images:
        import torch

        logits: Images = self.method.execute([torch.from_numpy(images)])[0].numpy()
        return logits


_LOADED: WeakSet[_Program] = WeakSet()


def _open(model: bytes | Path, *, threads: int, shape: Shape | None) -> OnHost:
    runtime = _runtime()
    with no_stderr():  # it logs how it searches for processors
        _use_threads(threads)
        program = runtime.Runtime.get().load_program(model.read_bytes() if isinstance(model, Path) else model)
        loaded = _Program(program, program.load_method("forward"))
    _LOADED.add(loaded)
    return OnHost(loaded)


def _lowered(network: nn.Module, shape: Shape) -> bytes:
    """A network in eval mode as a program for images of exactly this shape (batch, channels, height, width)."""
    import torch

    _runtime()
    exir = import_package("executorch.exir", EXTRA)
    xnnpack = import_package("executorch.backends.xnnpack.partition.xnnpack_partitioner", EXTRA)
    own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # XNNPACK's passes reject channels-last weights
    with torch.no_grad():
        exported = torch.export.export(own, (torch.zeros(shape),))
        lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


def _runtime() -> Any:
    with same_environment():  # it sets OPENVINO_LIB_PATH for a backend that is not used here
        return import_package("executorch.runtime", EXTRA)


def _use_threads(threads: int) -> None:
    """Set the number of threads of ExecuTorch's pool."""
    library: Any = import_package("executorch.extension.pybindings.portable_lib", EXTRA)
    have = library._threadpool_get_thread_count()
    if have == threads:
        return
    if _LOADED:
        gc.collect()  # reference cycles may keep some of them alive
    if _LOADED:
        raise DeviceError(
            f"threads is {threads}, but ExecuTorch has loaded networks with {have}, and it has a single thread pool per process: "
            "release those networks first"
        )
    library._unsafe_reset_threadpool(threads)
    if (have := library._threadpool_get_thread_count()) != threads:
        raise DeviceError(f"threads is {threads}, but ExecuTorch uses {have}: give threads={have}")


def _contents(job: Job) -> list[bytes]:
    return [_lowered(job.network, (1, *job.plan.input_shape))]


EXECUTORCH = Runtime(
    "executorch",
    "ExecuTorch",
    "executorch",
    _open,
    convert=lambda plan, weights, threads, shape: _lowered(own_network(plan, weights), shape),
    keeps=("batch",),
    needs=("executorch",),
    extra=EXTRA,
)
PTE = Format((NAME,), _contents, EXECUTORCH, USAGE, "the first argument of `forward`", batches=(1,))
