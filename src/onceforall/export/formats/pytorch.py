"""weights.safetensors, and model.py, which needs torch only: a readable network that loads them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, channels_last, nn, no_grad

from ...backends import pytorch
from ...errors import VerificationError
from ...files import read_text, write_text
from ...nn.source import needs_of, to_source
from ...packages import one_line
from ..weights import write_weights
from .common import Format, Images, Job, Run

__all__ = ["PYTORCH", "from_source"]

USAGE = """import torch
from model import load  # model.py of this folder

network = load("weights.safetensors")
with torch.no_grad():
    logits = network(torch.from_numpy(x)).numpy()"""


def _write(folder: Path, job: Job) -> None:
    write_weights(folder / "weights.safetensors", job.network)
    steps = job.config.preprocessing
    about = "A network written by onceforall. `load(path)` reads weights.safetensors.\n\n"
    about += f"Needs {needs_of(job.plan)}.\n"
    about += f"Images: preprocess.py of this folder prepares them: RGB, {steps.resize},\nthen "
    about += f"(pixel / 255 - mean) / std with mean {list(steps.mean)}, std {list(steps.std)}.\n"
    about += "config.json has the names of the classes, in the order of the logits.\n"
    write_text(folder / "model.py", to_source(job.plan, about=about))


def from_source(folder: Path, name: str) -> Any:
    """What a function or class of the folder's model.py makes of weights.safetensors; executes the file, as a user would.

    Raises:
        VerificationError: the file cannot be executed, has no such name, or does not load the weights.
    """
    path = folder / "model.py"
    scope: dict[str, Any] = {"__name__": "model"}
    try:
        exec(compile(read_text(path), str(path), "exec"), scope)
        return scope[name](folder / "weights.safetensors")
    except Exception as error:  # whatever a wrong file does
        raise VerificationError(f"{path}: cannot be loaded: {one_line(error)}") from error


def _load(folder: Path, threads: int) -> Run:
    """The number of threads is torch's."""
    return _runs(from_source(folder, "load"))


def _load_for_many(folder: Path, threads: int) -> Run:
    """Batch norms folded into the convolutions, as other runtimes do on their own: a quarter less time an image."""
    from torch.fx.experimental.optimization import fuse

    return _runs(fuse(from_source(folder, "load")).to(memory_format=channels_last))


def _load_to_time(folder: Path, threads: int, images: Images) -> Callable[[], object]:
    return partial(pytorch.load(from_source(folder, "load"), threads=threads, shape=images.shape), images)


def _runs(network: nn.Module) -> Run:
    def run(x: Tensor) -> Tensor:
        with no_grad():
            logits: Tensor = network(x)
        return logits

    return run


PYTORCH = Format(
    ("weights.safetensors", "model.py"),
    _write,
    _load,
    USAGE,
    "the argument of `load(path)`'s network; `model.py` describes it too",
    load_for_many=_load_for_many,
    load_to_time=_load_to_time,
    runtime="pytorch",
)
