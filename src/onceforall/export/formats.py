"""The files that an export can hold. Each writer writes one and proves it on real images, or raises.

A new format is one function here and one line in `FORMATS`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..arch import Arch
from ..files import write_bytes
from ..nn.onnx import to_onnx
from ..plan import Plan
from .config import ExportConfig
from .onnx import Verification, compare, logits_of, verify_onnx
from .weights import read_weights, write_weights

__all__ = ["FORMATS", "Job"]


@dataclass(frozen=True)
class Job:
    """What is to be written, and the images to prove it with."""

    arch: Arch
    plan: Plan
    network: nn.Module
    images: Tensor
    config: ExportConfig


def _pytorch(folder: Path, job: Job) -> Verification:
    """weights.safetensors, read back and run."""
    path = folder / "weights.safetensors"
    write_weights(path, job.network)
    expected, found = (logits_of(network, job.images) for network in (job.network, read_weights(path, job.plan)))
    return compare(path.name, expected, [found])


def _onnx(folder: Path, job: Job) -> Verification:
    """model.onnx, run by ONNX Runtime."""
    path = folder / "model.onnx"
    metadata = {"arch": job.arch.to_json(), "config": json.dumps(job.config.to_json(), ensure_ascii=False)}
    model = to_onnx(job.plan, job.network, metadata=metadata)
    write_bytes(path, model)
    return verify_onnx(path, job.network, job.images)


FORMATS: dict[str, Callable[[Path, Job], Verification]] = {
    "pytorch": _pytorch,
    "onnx": _onnx,
}
