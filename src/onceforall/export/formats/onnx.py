"""model.onnx: batch norms folded, any batch size; run by ONNX Runtime."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...backends import onnxruntime
from ...errors import VerificationError
from ...files import write_bytes
from ...nn.onnx import INPUT, require_known, smallest, to_onnx
from ...packages import import_package, one_line
from ..config import OnnxOptions
from .common import Format, Images, Job, Run

__all__ = ["ONNX", "TAKES", "given", "remark", "require_readable", "session", "session_to_time", "usage", "with_facts"]

TAKES = f"`{INPUT}`; metadata `arch`, `config`"


def with_facts(job: Job) -> bytes:
    """The model, with the architecture and the config of its folder inside."""
    return to_onnx(job.plan, job.network, **asdict(job.onnx), metadata=job.facts)


def require_readable(options: OnnxOptions) -> None:
    """Do nothing if files of this opset can be written and run here.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        DeviceError: onnx does not know the opset.
        VerificationError: ONNX Runtime does not.
    """
    require_known(options.opset)
    library = import_package("onnxruntime", "onnx")
    try:
        onnxruntime.load(smallest(options.opset), threads=1)
    except Exception as error:  # see `_loaded`
        raise VerificationError(
            f"opset {options.opset}: the installed ONNX Runtime {library.__version__} does not read it ({one_line(error)[:200]}): "
            "choose a lower one, or update it"
        ) from error


def session(path: Path, threads: int) -> Run:
    """An ONNX file in ONNX Runtime."""
    compute = _loaded(path, threads)

    def run(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(compute(np.ascontiguousarray(x.numpy())))
        except Exception as error:
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: ONNX Runtime cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run


def session_to_time(path: Path, threads: int, images: Images) -> Callable[[], object]:
    """See `Format.ready`."""
    return partial(_loaded(path, threads, images.shape), images)


def _loaded(path: Path, threads: int, shape: Sequence[int] | None = None) -> Callable[[Images], Images]:
    import_package("onnxruntime", "onnx")
    try:
        return onnxruntime.load(str(path), threads=threads, shape=shape)
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise VerificationError(f"{path}: ONNX Runtime cannot load it: {one_line(error)}") from error


def usage(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    """For the card."""
    session = f'session = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])'
    return f'import onnxruntime\n\n{session}\nlogits = session.run(None, {{"{INPUT}": {given(options)}}})[0]{remark(options)}'


def given(options: OnnxOptions) -> str:
    """As many images as the file takes, for the card."""
    return "x" if options.batch in (None, 1) else f"x.repeat({options.batch}, 0)"


def remark(options: OnnxOptions) -> str:
    """What the file gives, if not logits, for the card."""
    return "  # probabilities: the file ends with a softmax" if options.softmax else ""


ONNX = Format(
    ("model.onnx",),
    lambda folder, job: write_bytes(folder / "model.onnx", with_facts(job)),
    lambda folder, threads: session(folder / "model.onnx", threads),
    usage("model.onnx"),
    TAKES,
    needs=("onnx", "onnxruntime"),
    extra="onnx",
    load_to_time=lambda folder, threads, images: session_to_time(folder / "model.onnx", threads, images),
    runtime="onnxruntime",
    usage_of=partial(usage, "model.onnx"),
)
