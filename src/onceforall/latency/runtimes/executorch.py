"""ExecuTorch on the CPU, float32, through XNNPACK.

ExecuTorch has one pool of threads per process, and a loaded network keeps a pointer to it. So the pool is only replaced while no
network is loaded.
"""

import os
from typing import Any
from weakref import WeakSet

import torch
from torch import fx

from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, Images, OnHost, check_runs, import_package, one_line, own_copy, processor, quiet, require

__all__ = ["ExecuTorch"]

_LOADED: WeakSet[OnHost] = WeakSet()


class ExecuTorch:
    """`torch.export`, then lowered to XNNPACK."""

    package = "executorch"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        require("executorch", "executorch")
        return processor()

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> OnHost:
        given = os.environ.get("OPENVINO_LIB_PATH")
        runtime = import_package("executorch.runtime", "executorch")
        if given is None:
            os.environ.pop("OPENVINO_LIB_PATH", None)  # set by the import, for a back end that is not used here
        exir = import_package("executorch.exir", "executorch")
        xnnpack = import_package("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
        own = own_copy(network).to(memory_format=torch.contiguous_format)  # XNNPACK's passes refuse channels-last weights
        check_runs("ExecuTorch", plan, batch, own)
        _use_threads(threads)
        try:
            with quiet(), torch.no_grad():
                exported = torch.export.export(own, (torch.zeros(batch, *plan.input_shape),))
                lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
                program = runtime.Runtime.get().load_program(lowered.to_executorch().buffer)
                held = (program, program.load_method("forward"))  # a method does not keep its program alive, and crashes without
        except Exception as error:  # of torch.export, of the passes, of the runtime: no common class
            raise DeviceError(f"ExecuTorch cannot lower the network: {one_line(error)}") from error

        def run(images: Images) -> Images:
            logits: Images = held[1].execute([torch.from_numpy(images)])[0].numpy()
            return logits

        function = OnHost(run)
        _LOADED.add(function)
        return function


def _use_threads(threads: int) -> None:
    """Give ExecuTorch's pool so many threads."""
    library: Any = import_package("executorch.extension.pybindings.portable_lib", "executorch")
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
