"""int8 by static post-training quantisation, with the tools of ONNX Runtime and of OpenVINO (nncf).

On x86 without VNNI, sums of two products would saturate at 16 bits, so weights get 7 bits there, as onnxruntime advises
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html). nncf by itself does so in the first layer only.

ONNX: weights are int8 per output channel, activations uint8 per tensor, ranges from the smallest and largest values seen.

OpenVINO: quantising its own model takes a tenth of the time that quantising the torch module takes. Ranges are the smallest and
largest values seen; nncf's default, their mean over images, cuts off so much with a few dozen images that logits were off by a
fifth of their spread instead of a sixteenth (a small MobileNetV3 on the digits, 64 images).
"""

import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DeviceError
from ..packages import import_package, one_line, quiet
from .onnx import INPUT, PROBABILITIES

__all__ = ["quantise_onnx", "quantise_openvino", "read_openvino"]

Images = np.ndarray[Any, np.dtype[np.float32]]  # (n, channels, height, width)


def quantise_onnx(model: bytes, calibration: Images, *, batch: int | None = None) -> bytes:
    """An ONNX model of `nn.onnx.to_onnx`, made for `batch` images a call, quantised with images (n, channels, height, width).

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        DeviceError: onnxruntime cannot quantise the model.
    """
    onnx = import_package("onnx", "onnx")
    tool = import_package("onnxruntime.quantization", "onnx")
    calls = _calls(calibration, batch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            with quiet():
                tool.quantize_static(
                    onnx.load_from_string(model),
                    path,
                    _Reader(calls),
                    quant_format=tool.QuantFormat.QDQ,
                    activation_type=tool.QuantType.QUInt8,
                    weight_type=tool.QuantType.QInt8,
                    per_channel=True,
                    nodes_to_exclude=[PROBABILITIES],  # a softmax in 256 steps would round most classes to 0
                    reduce_range=_saturates(),
                )
        except Exception as error:  # onnxruntime's exceptions have no common public class
            raise DeviceError(f"ONNX Runtime cannot quantise the model: {one_line(error)}") from error
        return path.read_bytes()


def quantise_openvino(model: Any, calibration: Images, *, batch: int | None = None) -> Any:
    """An `openvino.Model`, made for `batch` images a call, quantised with images (n, channels, height, width).

    Raises:
        MissingExtraError: nncf is not installed.
        DeviceError: nncf cannot quantise the model.
    """
    nncf = import_package("nncf", "openvino")
    advanced = import_package("nncf.quantization.advanced_parameters", "openvino")
    ranges = import_package("nncf.quantization.range_estimator", "openvino")
    calls = _calls(calibration, batch)
    try:
        with quiet():
            return nncf.quantize(
                model,
                nncf.Dataset(calls),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calls),
                advanced_parameters=advanced.AdvancedQuantizationParameters(
                    overflow_fix=advanced.OverflowFix.ENABLE if _saturates() else None,
                    activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
                ),
            )
    except Exception as error:  # nncf and openvino raise RuntimeError and others
        raise DeviceError(f"nncf cannot quantise the model: {one_line(error)}") from error


def read_openvino(model: bytes) -> Any:
    """An ONNX model with one input as an `openvino.Model`.

    Raises:
        MissingExtraError: openvino is not installed.
        DeviceError: openvino cannot read the model.
    """
    openvino = import_package("openvino", "openvino")
    try:
        with quiet():
            return openvino.Core().read_model(model)
    except Exception as error:  # openvino raises RuntimeError and others
        raise DeviceError(f"OpenVINO cannot read the model: {one_line(error)}") from error


class _Reader:
    """Images call by call, as onnxruntime's tool asks for them."""

    def __init__(self, calls: Sequence[Images]) -> None:
        self._calls: Iterator[Images] = iter(calls)

    def get_next(self) -> dict[str, Images] | None:
        images = next(self._calls, None)
        return None if images is None else {INPUT: images}


def _calls(images: Images, batch: int | None) -> list[Images]:
    """The images of each call; the last one again where they are too few, which changes no range."""
    size = batch or 1
    whole = np.concatenate([images, images[-1:].repeat(-len(images) % size, 0)])
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def _saturates() -> bool:
    """Whether int8 products are summed in 16 bits."""
    info = Path("/proc/cpuinfo")
    return platform.machine().lower() in ("x86_64", "amd64") and not (info.exists() and "vnni" in info.read_text(errors="replace"))
