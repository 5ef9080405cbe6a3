"""PyTorch AOTInductor on the CPU, float32: the network compiled to C++, weights frozen.

The compiled code has its number of threads built in; what it calls in torch uses torch's, which is set for each call as in
`pytorch.py`. Compiling takes seconds for a block and needs a C++ compiler.
"""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, one_line, own_network, processor, quiet
from .pytorch import with_threads

__all__ = ["AotInductor"]


class AotInductor:
    """`torch.export`, then `aoti_compile_and_package`."""

    package = "torch"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise DeviceError(
                f"AOTInductor needs a C++ compiler and there is no {compiler!r}: install one (apt install g++), or name one in CXX"
            )
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        self.hardware()
        own = own_network(plan, weights)
        images = torch.zeros(batch, *plan.input_shape)
        settings = {"freezing": True, "cpp.threads": threads}
        try:
            with quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
                from torch._inductor import aoti_compile_and_package, aoti_load_package  # documented as public

                exported = torch.export.export(own, (images,))
                path = aoti_compile_and_package(exported, package_path=str(Path(folder) / "network.pt2"), inductor_configs=settings)
                model = aoti_load_package(path)
        except Exception as error:  # of the compiler, of torch.export: no common class
            raise DeviceError(f"AOTInductor cannot compile the network: {one_line(error)}") from error
        return with_threads(model, threads, (batch, *plan.input_shape))
