"""ONNX Runtime on the CPU, int8: static post-training quantisation with onnxruntime's own tool.

Weights are int8 per output channel, activations uint8 per tensor, ranges from the smallest and largest values seen. On x86
without VNNI, sums of two products would saturate at 16 bits, so weights get 7 bits there, as onnxruntime advises
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from ...errors import DeviceError
from ...nn.onnx import INPUT, to_onnx
from ...plan import Plan
from .common import INT8, Hardware, Images, OnHost, import_package, noise, one_line, quiet
from .onnxruntime import OnnxRuntime, load_model

__all__ = ["OnnxRuntimeInt8", "quantise_onnx"]


@dataclass(frozen=True, eq=False)
class OnnxRuntimeInt8:
    """As `OnnxRuntime`, with a quantised model.

    Args:
        calibration: images (n, *plan.input_shape) whose ranges are used. Default: noise, which serves for latency.
    """

    calibration: Images | None = None
    package = "onnxruntime"
    tolerance = INT8

    def hardware(self) -> Hardware:
        return OnnxRuntime().hardware()

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> OnHost:
        calibration = noise(plan.input_shape) if self.calibration is None else self.calibration
        return load_model(quantise_onnx(to_onnx(plan, network), calibration), threads=threads, batch=batch)


def quantise_onnx(model: bytes, calibration: Images) -> bytes:
    """An ONNX model of `nn.onnx.to_onnx`, quantised with images (n, channels, height, width).

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        DeviceError: onnxruntime cannot quantise the model.
    """
    onnx = import_package("onnx", "onnx")
    tool = import_package("onnxruntime.quantization", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            with quiet():
                tool.quantize_static(
                    onnx.load_from_string(model),
                    path,
                    _Reader(calibration),
                    quant_format=tool.QuantFormat.QDQ,
                    activation_type=tool.QuantType.QUInt8,
                    weight_type=tool.QuantType.QInt8,
                    per_channel=True,
                    reduce_range=_saturates(),
                )
        except Exception as error:  # onnxruntime's exceptions have no common public class
            raise DeviceError(f"ONNX Runtime cannot quantise the model: {one_line(error)}") from error
        return path.read_bytes()


class _Reader:
    """Images one by one, as onnxruntime's tool asks for them."""

    def __init__(self, images: Images) -> None:
        self._images: Iterator[Images] = (images[i : i + 1] for i in range(len(images)))

    def get_next(self) -> dict[str, Images] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image}


def _saturates() -> bool:
    """Whether int8 products are summed in 16 bits."""
    info = Path("/proc/cpuinfo")
    return platform.machine().lower() in ("x86_64", "amd64") and not (info.exists() and "vnni" in info.read_text(errors="replace"))
