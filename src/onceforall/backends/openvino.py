"""OpenVINO on the processor, float32 and int8; its own files, model.xml and model.bin: any batch size.

By default, OpenVINO computes in bfloat16 on processors that support it (logits of a MobileNetV3 were off by 0.44), so the precision
is set. As in the other runtimes, threads are not pinned to cores.

int8 is static post-training quantization by nncf. Quantizing an `openvino.Model` takes a tenth of the time of quantizing the torch
module. Ranges are the smallest and largest values in the calibration images. nncf's default, their mean over images, clips so much
with a few dozen images that logits were off by a fifth of their spread instead of a sixteenth (small MobileNetV3, digits, 64
images).
"""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..common.onnx_options import HARD_SWISH, INPUT, OnnxOptions
from ..common.packages import import_package
from ..ops import Shape
from .common import INT8, Images, OnHost, Runtime, calls_of, int8_saturates
from .format import Format, Job
from .onnxruntime import input_text, remark


def compiled(model: Any, *, threads: int, shape: Sequence[int] | None) -> tuple[Callable[[Any], Any], Callable[[Any], object]]:
    """A function from the only input of a model (an `openvino.Model` or its path) to its first output, and one for timing, which
    leaves the output in OpenVINO's memory. One stream, optimized for latency.
    """
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    if isinstance(model, str):
        model = core.read_model(model)
    if shape is not None:
        model.reshape(list(shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(images: Any) -> Any:
        return request.infer([images], share_inputs=True)[0]

    def timed(images: Any) -> object:
        return request.infer([images], share_inputs=True, share_outputs=True)

    return run, timed


def _open(model: Any, *, threads: int, shape: Shape | None) -> OnHost:
    import_package("openvino", "openvino")
    return OnHost(*compiled(str(model) if isinstance(model, Path) else model, threads=threads, shape=shape))


def _read(content: bytes) -> Any:
    """An ONNX model with one input as an `openvino.Model`."""
    return import_package("openvino", "openvino").Core().read_model(content)


def _quantized(content: bytes, calibration: Images, batch: int | None) -> Any:
    """Like `_read`, quantized with images (n, channels, height, width)."""
    nncf = import_package("nncf", "openvino")
    advanced = import_package("nncf.quantization.advanced_parameters", "openvino")
    ranges = import_package("nncf.quantization.range_estimator", "openvino")
    calls = calls_of(calibration, batch)
    return nncf.quantize(
        _read(content),
        nncf.Dataset(calls),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calls),
        advanced_parameters=advanced.AdvancedQuantizationParameters(
            overflow_fix=advanced.OverflowFix.ENABLE if int8_saturates() else None,
            activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
        ),
    )


OPENVINO = Runtime(
    "openvino",
    "OpenVINO",
    "openvino",
    _open,
    from_onnx=_read,
    opset=HARD_SWISH,
    needs=("onnx", "openvino"),
    extra="openvino",
    in_threads=True,
    there=(compiled,),
)
OPENVINO_INT8 = replace(
    OPENVINO, name="openvino-int8", quantise=_quantized, needs=("nncf", *OPENVINO.needs), in_threads=False, there=(), tolerance=INT8
)


def _contents(runtime: Runtime, job: Job) -> list[bytes]:
    """Contents of the files, by way of a temporary folder, as OpenVINO leaves a partial file on a full disk without an error."""
    from ..nn.onnx import to_onnx

    graph = to_onnx(job.plan, job.network, **asdict(replace(job.onnx, opset=HARD_SWISH)))
    model = runtime.model_of(graph, None if job.calibration is None else job.calibration.numpy(), job.onnx.batch)
    for key, text in job.facts.items():
        model.set_rt_info(text, ["onceforall", key])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        import_package("openvino", "openvino").save_model(model, path, compress_to_fp16=False)
        return [path.read_bytes(), path.with_suffix(".bin").read_bytes()]


def _usage(name: str, options: OnnxOptions = OnnxOptions()) -> str:  # noqa: B008, frozen
    settings = '{"INFERENCE_PRECISION_HINT": "f32"}'
    network = f'network = openvino.Core().compile_model("{name}", "CPU", {settings})'
    return f"import openvino\n\n{network}\nlogits = network({input_text(options)})[0]{remark(options)}"


XML = Format(
    ("model.xml", "model.bin"),
    partial(_contents, OPENVINO),
    OPENVINO,
    _usage("model.xml"),
    f"`{INPUT}`; `rt_info` has `onceforall` with `arch`, `config`",
    usage_of=partial(_usage, "model.xml"),
)
XML_INT8 = replace(
    XML,
    files=("model.int8.xml", "model.int8.bin"),
    convert=partial(_contents, OPENVINO_INT8),
    runtime=OPENVINO_INT8,
    usage=_usage("model.int8.xml"),
    int8=True,
    usage_of=partial(_usage, "model.int8.xml"),
)
