"""ONNX Runtime on the processor, float32 and int8; model.onnx and model.int8.onnx: batch norms folded, any batch size.

int8 is static post-training quantization: weights are int8 per output channel, activations uint8 per tensor; ranges are the
smallest and largest values in the calibration images. On x86 without VNNI, sums of two products would saturate at 16 bits, so
weights get 7 bits there, as onnxruntime recommends
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..common.onnx_options import INPUT, PROBABILITIES, OnnxOptions
from ..common.packages import import_package, one_line
from ..errors import VerificationError
from ..ops import Shape
from .common import INT8, Images, OnHost, Runtime, calls_of, int8_saturates
from .format import Format, Job

INT8_OPSET = 13  # the first opset with a scale per channel


def session_options(threads: int, batch: int | None) -> Any:
    """Session options: all graph optimizations, sequential execution, only errors in the log.

    Args:
        threads: number of threads per network.
        batch: batch size of every call, for more optimization if `nn.onnx.to_onnx` left it free; None for any.
    """
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    # Helper threads that spin between calls would slow down what runs next. Within a call they may spin: waking them for every
    # operation would take longer than a short operation.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def session(model: bytes | str, *, threads: int, shape: Sequence[int] | None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A function from a model's only input to its first output, twice (see `Runtime.there`); `model` is its content or path."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = session_options(threads, None if shape is None else shape[0])
    found = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source, outputs = found.get_inputs()[0].name, [found.get_outputs()[0].name]

    def run(images: Any) -> Any:
        return found.run(outputs, {source: images})[0]

    return run, run


def _open(model: bytes | Path, *, threads: int, shape: Shape | None) -> OnHost:
    import_package("onnxruntime", "onnx")
    return OnHost(*session(str(model) if isinstance(model, Path) else model, threads=threads, shape=shape))


def _quantized(model: bytes, calibration: Images, batch: int | None = None) -> bytes:
    """Quantize an ONNX model of `nn.onnx.to_onnx` for `batch` images per call with images (n, channels, height, width)."""
    onnx = import_package("onnx", "onnx")
    tool = import_package("onnxruntime.quantization", "onnx")
    calls = iter([{INPUT: images} for images in calls_of(calibration, batch)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        tool.quantize_static(
            onnx.load_from_string(model),
            path,
            SimpleNamespace(get_next=lambda: next(calls, None)),
            quant_format=tool.QuantFormat.QDQ,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[PROBABILITIES],  # a softmax in 256 steps would round most classes to 0
            reduce_range=int8_saturates(),
        )
        return path.read_bytes()


ONNXRUNTIME = Runtime(
    "onnxruntime",
    "ONNX Runtime",
    "onnxruntime",
    _open,
    from_onnx=lambda content: content,
    needs=("onnx", "onnxruntime"),
    extra="onnx",
    there=(session_options, session),
)
ONNXRUNTIME_INT8 = replace(ONNXRUNTIME, name="onnxruntime-int8", quantise=_quantized, keeps=(), tolerance=INT8)


def require_readable(options: OnnxOptions) -> None:
    """Check that files with this opset can be written and run here.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        DeviceError: onnx does not support the opset.
        VerificationError: ONNX Runtime does not support it.
    """
    from ..nn.onnx import require_known, smallest_model

    require_known(options.opset)
    library = import_package("onnxruntime", "onnx")
    try:
        session(smallest_model(options.opset), threads=1, shape=None)
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise VerificationError(
            f"opset {options.opset}: the installed ONNX Runtime {library.__version__} cannot read it ({one_line(error)[:200]}): "
            "choose a lower one, or update onnxruntime"
        ) from error


def require_opset(options: OnnxOptions) -> None:
    """Check that int8 can be written with this opset.

    Raises:
        VerificationError: it cannot.
    """
    if options.opset < INT8_OPSET:
        raise VerificationError(
            f"{ONNX_INT8.files[0]}: int8 with a scale per channel needs opset {INT8_OPSET} or later, not {options.opset}: "
            "choose a later opset, or omit onnx-int8"
        )


def onnx_of(job: Job) -> bytes:
    """The ONNX model, with the architecture and the config as metadata."""
    from ..nn.onnx import to_onnx

    return to_onnx(job.plan, job.network, **asdict(job.onnx), metadata=job.facts)


def _int8_of(job: Job) -> list[bytes]:
    require_opset(job.onnx)
    assert job.calibration is not None
    return [ONNXRUNTIME_INT8.model_of(onnx_of(job), job.calibration.numpy(), job.onnx.batch)]


def usage_of_onnx(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    """Usage code for the card."""
    session = f'session = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])'
    return f'import onnxruntime\n\n{session}\nlogits = session.run(None, {{"{INPUT}": {input_text(options)}}})[0]{remark(options)}'


def input_text(options: OnnxOptions) -> str:
    """The input in the card's code, with the batch size of the file."""
    return "x" if options.batch in (None, 1) else f"x.repeat({options.batch}, 0)"


def remark(options: OnnxOptions) -> str:
    """A comment for the card if the file does not return logits."""
    return f"  # probabilities: the file ends with a {options.activation}" if options.softmax else ""


ONNX = Format(
    ("model.onnx",),
    lambda job: [onnx_of(job)],
    ONNXRUNTIME,
    usage_of_onnx("model.onnx"),
    f"`{INPUT}`; metadata `arch`, `config`",
    usage_of=partial(usage_of_onnx, "model.onnx"),
)
ONNX_INT8 = replace(
    ONNX,
    files=("model.int8.onnx",),
    convert=_int8_of,
    runtime=ONNXRUNTIME_INT8,
    usage=usage_of_onnx("model.int8.onnx"),
    int8=True,
    usage_of=partial(usage_of_onnx, "model.int8.onnx"),
)
