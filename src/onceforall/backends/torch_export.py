"""model.pt2, the graph of `torch.export` for any batch size, which needs only torch; and AOTInductor, which compiles it to C++.

The compiled code has a fixed number of threads; its calls into torch use torch's number of threads, which is set for each call as
in `pytorch.py`. Compilation takes seconds per block and needs a C++ compiler.
"""

import io
import os
import shutil
import tempfile
from pathlib import Path

from ..errors import DeviceError
from ..ops import Shape
from ..plan import Plan
from .common import Hardware, OnHost, Runtime, own_network, processor
from .format import Format, Job
from .kept import Weights
from .pytorch import with_threads

NAME = "model.pt2"
USAGE = f"""import torch

network = torch.export.load("{NAME}").module()
with torch.no_grad():
    logits = network(torch.from_numpy(x)).numpy()"""


def _contents(job: Job) -> list[bytes]:
    import torch

    images = torch.zeros(2, *job.plan.input_shape)  # two, since torch.export treats a batch of one as fixed
    content = io.BytesIO()  # torch's own writer reports a full disk unclearly
    with torch.no_grad():
        exported = torch.export.export(job.network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(exported, content, extra_files=dict(job.facts))
    return [content.getvalue()]


def _open(model: Path, *, threads: int, shape: Shape | None) -> OnHost:
    import torch

    return with_threads(torch.export.load(model).module(), threads=threads, shape=shape)


def _compiler() -> Hardware:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise DeviceError(
            f"AOTInductor needs a C++ compiler, and {compiler!r} was not found: install one (apt install g++), or name one in CXX"
        )
    return processor()


def _compiled(plan: Plan, weights: Weights, threads: int, shape: Shape) -> bytes:
    import torch
    from torch._inductor import aoti_compile_and_package  # documented as public

    settings = {"freezing": True, "cpp.threads": threads}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt2"
        exported = torch.export.export(own_network(plan, weights), (torch.zeros(shape),))
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=settings)
        return path.read_bytes()


def _open_compiled(model: bytes, *, threads: int, shape: Shape | None) -> OnHost:
    from torch._inductor import aoti_load_package  # documented as public

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt2"
        path.write_bytes(model)
        return with_threads(aoti_load_package(str(path)), threads=threads, shape=shape)


AOTINDUCTOR = Runtime(
    "aotinductor", "AOTInductor", "torch", _open_compiled, convert=_compiled, keeps=("batch", "threads"), find=_compiler
)
PT2 = Format(
    (NAME,),
    _contents,
    Runtime("torch-export", "torch", "torch", _open),
    USAGE,
    "the first argument of the module; `arch`, `config` are `extra_files` of `torch.export.load`",
)
