"""model.pt2: the graph that `torch.export` makes, any batch size; needs torch only."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...backends import pytorch
from ...errors import VerificationError
from ...files import write_bytes
from ...packages import one_line, quiet
from .common import Format, Images, Job, Run

__all__ = ["TORCH_EXPORT"]

NAME = "model.pt2"

USAGE = f"""import torch

network = torch.export.load("{NAME}").module()
with torch.no_grad():
    logits = network(torch.from_numpy(x)).numpy()"""


def _write(folder: Path, job: Job) -> None:
    images = torch.zeros(2, *job.plan.input_shape)  # two, since torch.export takes a batch of one for fixed
    content = io.BytesIO()  # torch's own writer has no clear words for a full disk
    try:
        with quiet(), torch.no_grad():
            exported = torch.export.export(job.network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            torch.export.save(exported, content, extra_files=job.facts)
    except Exception as error:  # of torch.export: no common class
        raise VerificationError(f"{NAME}: torch.export cannot write the network: {one_line(error)}") from error
    write_bytes(folder / NAME, content.getvalue())


def _load(folder: Path, threads: int) -> Run:
    """The number of threads is torch's."""
    path, module = folder / NAME, _module(folder / NAME)

    def run(x: Tensor) -> Tensor:
        try:
            with torch.no_grad():
                logits: Tensor = module(x)
        except Exception as error:
            raise VerificationError(
                f"{path}: torch cannot run it on images of shape {tuple(x.shape)}: {one_line(error)}"
            ) from error
        return logits

    return run


def _load_to_time(folder: Path, threads: int, images: Images) -> Callable[[], object]:
    return partial(pytorch.load(_module(folder / NAME), threads=threads, shape=images.shape), images)


def _module(path: Path) -> nn.Module:
    try:
        with quiet():
            return torch.export.load(path).module()
    except Exception as error:
        raise VerificationError(f"{path}: torch cannot load it: {one_line(error)}") from error


TORCH_EXPORT = Format(
    (NAME,),
    _write,
    _load,
    USAGE,
    "the first argument of the module; `arch`, `config` are `extra_files` of `torch.export.load`",
    load_to_time=_load_to_time,
)
