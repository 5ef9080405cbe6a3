"""PyTorch AOTInductor on the CPU, float32: the network compiled to C++, weights frozen.

The compiled code has its number of threads built in; what it calls in torch uses torch's, which is set for each call as in
`backends/pytorch.py`. Compiling takes seconds for a block and needs a C++ compiler.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CheckpointError, DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, one_line, own_network, processor, quiet
from .converted import Converted

if TYPE_CHECKING:
    from torch import nn

__all__ = ["AotInductor"]


class AotInductor:
    """`torch.export`, then `aoti_compile_and_package`."""

    package = "torch"
    tolerance = FLOAT

    def __init__(self) -> None:
        self._converted = Converted()

    def hardware(self) -> Hardware:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise DeviceError(
                f"AOTInductor needs a C++ compiler and there is no {compiler!r}: install one (apt install g++), or name one in CXX"
            )
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...backends.pytorch import with_threads

        self.hardware()
        shape = (batch, *plan.input_shape)
        try:
            with quiet(), tempfile.TemporaryDirectory() as folder:
                from torch._inductor import aoti_load_package  # documented as public

                path = Path(folder) / "network.pt2"
                made = self._converted.get(
                    plan, weights, (batch, threads), lambda: _compiled(own_network(plan, weights), shape, threads, path)
                )
                if not path.exists():  # it was compiled before
                    path.write_bytes(made)
                model = aoti_load_package(str(path))
        except CheckpointError:
            raise
        except Exception as error:  # of the compiler, of torch.export: no common class
            raise DeviceError(f"AOTInductor cannot compile the network: {one_line(error)}") from error
        return OnHost(with_threads(model, threads=threads, shape=shape))


def _compiled(network: nn.Module, shape: tuple[int, ...], threads: int, path: Path) -> bytes:
    """The network's package for images of this shape, written to the path on the way."""
    import torch
    from torch._inductor import aoti_compile_and_package  # documented as public

    settings = {"freezing": True, "cpp.threads": threads}
    with torch.no_grad():
        exported = torch.export.export(network, (torch.zeros(shape),))
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=settings)
    return path.read_bytes()
