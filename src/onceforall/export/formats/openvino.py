"""model.xml and model.bin: OpenVINO's own files, float32, any batch size."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...backends import openvino
from ...errors import FileError, VerificationError
from ...files import reading_or_writing, write_bytes
from ...nn.onnx import HARD_SWISH, INPUT, to_onnx
from ...nn.quantise import read_openvino
from ...packages import import_package, one_line, quiet
from ..config import OnnxOptions
from .common import Format, Images, Job, Run
from .onnx import given, remark

__all__ = ["OPENVINO", "TAKES", "compiled", "compiled_to_time", "model_of", "save", "usage"]

TAKES = f"`{INPUT}`; `rt_info` has `onceforall` with `arch`, `config`"


def save(model: Any, path: Path, job: Job) -> None:
    """Write an `openvino.Model` as path (.xml) and a .bin beside it, with the architecture and the config inside.

    OpenVINO writes elsewhere first: on a full disk it says nothing of the disk, and leaves half a file.
    """
    library = import_package("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / path.name
        try:
            with quiet():
                for key, text in job.facts.items():
                    model.set_rt_info(text, ["onceforall", key])
                library.save_model(model, there, compress_to_fp16=False)
        except Exception as error:  # openvino raises RuntimeError and others
            raise FileError(f"{there}: OpenVINO cannot write it: {one_line(error)}") from error
        for end in (".bin", ".xml"):
            with reading_or_writing(there):
                content = there.with_suffix(end).read_bytes()
            write_bytes(path.with_suffix(end), content)


def compiled(path: Path, threads: int) -> Run:
    """OpenVINO's files on the processor, in float32 where the model is not int8."""
    compute, _ = _loaded(path, threads)

    def run(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(compute(np.ascontiguousarray(x.numpy())))
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: OpenVINO cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run


def compiled_to_time(path: Path, threads: int, images: Images) -> Callable[[], object]:
    """See `Format.ready`."""
    return partial(_loaded(path, threads, images.shape)[1], images)


def _loaded(
    path: Path, threads: int, shape: Sequence[int] | None = None
) -> tuple[Callable[[Images], Images], Callable[[Images], object]]:
    import_package("openvino", "openvino")
    try:
        with quiet():
            return openvino.load(str(path), threads=threads, shape=shape)
    except Exception as error:  # openvino raises RuntimeError and others
        raise VerificationError(f"{path}: OpenVINO cannot load it: {one_line(error)}") from error


def model_of(job: Job) -> Any:
    """The network as an `openvino.Model`."""
    return read_openvino(to_onnx(job.plan, job.network, batch=job.onnx.batch, opset=HARD_SWISH, softmax=job.onnx.softmax))


def usage(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    """For the card."""
    settings = '{"INFERENCE_PRECISION_HINT": "f32"}'
    network = f'network = openvino.Core().compile_model("{name}", "CPU", {settings})'
    return f"import openvino\n\n{network}\nlogits = network({given(options)})[0]{remark(options)}"


OPENVINO = Format(
    ("model.xml", "model.bin"),
    lambda folder, job: save(model_of(job), folder / "model.xml", job),
    lambda folder, threads: compiled(folder / "model.xml", threads),
    usage("model.xml"),
    TAKES,
    needs=("onnx", "openvino"),
    extra="openvino",
    load_to_time=lambda folder, threads, images: compiled_to_time(folder / "model.xml", threads, images),
    runtime="openvino",
    usage_of=partial(usage, "model.xml"),
)
