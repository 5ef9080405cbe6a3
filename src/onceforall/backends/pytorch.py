"""PyTorch eager on the processor: float32, channels-last, inference mode; weights.safetensors with a model.py.

torch has one number of threads per process. It is set before each call and restored afterwards, so functions loaded with different
numbers can be timed in turns; simultaneous calls from several Python threads would interfere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.files import UNICODE, read_text
from ..common.packages import one_line
from ..errors import VerificationError
from ..ops import Shape
from .common import Images, OnHost, Runtime, own_network
from .format import Format, Job, Run

if TYPE_CHECKING:
    from torch import Tensor, nn

USAGE = """import torch
from model import load  # model.py of this folder

network = load("weights.safetensors")
with torch.no_grad():
    logits = network(torch.from_numpy(x)).numpy()"""


def with_threads(model: Callable[[Tensor], Tensor], *, threads: int, shape: Shape | None) -> OnHost:
    """Wrap any torch function as a runtime's function."""
    import torch

    def run(images: Images) -> Images:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                x = torch.from_numpy(images)
                logits: Images = model(x if shape is None else x.view(shape)).numpy()
        finally:
            torch.set_num_threads(before)
        return logits

    return OnHost(run)


def open_network(model: nn.Module | Path, *, threads: int, shape: Shape | None) -> OnHost:
    """Open a network in eval mode, or a file of weights next to a model.py.

    The network is converted to channels-last in place, unless it is opened for any batch size.
    """
    import torch

    network = from_source(model.parent, "load") if isinstance(model, Path) else model
    return with_threads(network if shape is None else network.to(memory_format=torch.channels_last), threads=threads, shape=shape)


def from_source(folder: Path, name: str) -> Any:
    """Apply a function or class of the folder's model.py to weights.safetensors; executes the file, as a user would.

    Raises:
        VerificationError: the file cannot be executed, has no such name, or does not load the weights.
    """
    path = folder / "model.py"
    scope: dict[str, Any] = {"__name__": "model"}
    try:
        exec(compile(read_text(path), str(path), "exec"), scope)
        return scope[name](folder / "weights.safetensors")
    except Exception as error:  # the file may contain any code
        raise VerificationError(f"{path}: cannot be loaded: {one_line(error)}") from error


def safetensors_of(network: nn.Module) -> bytes:
    """The content of a safetensors file with the state dict."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def _contents(job: Job) -> tuple[bytes, bytes]:
    from ..nn.source import needs_of, to_source

    about = "A network written by onceforall. `load(path)` reads weights.safetensors.\n\n"
    about += f"Needs {needs_of(job.plan)}.\n"
    about += f"Images: preprocess.py of this folder prepares them: {job.images}.\n"
    about += "config.json has the names of the classes, in the order of the logits.\n"
    return safetensors_of(job.network), to_source(job.plan, about=about).encode("utf-8", UNICODE)


def _load_for_many(folder: Path, threads: int) -> Run:
    """Load with batch norms folded into the convolutions, as other runtimes do by default; this takes 25 % less time per image."""
    import torch
    from torch.fx.experimental.optimization import fuse

    network = fuse(from_source(folder, "load")).to(memory_format=torch.channels_last)

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network(x)
        return logits

    return run


PYTORCH = Runtime(
    "pytorch", "PyTorch", "torch", open_network, convert=lambda plan, weights, threads, shape: own_network(plan, weights)
)
MODEL_PY = Format(
    ("weights.safetensors", "model.py"),
    _contents,
    PYTORCH,
    USAGE,
    "the argument of `load(path)`'s network; `model.py` describes it too",
    load_for_many=_load_for_many,
)
