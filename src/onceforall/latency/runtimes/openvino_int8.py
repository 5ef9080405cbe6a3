"""OpenVINO on the CPU, int8: static post-training quantisation of the OpenVINO model with nncf.

Quantising the OpenVINO model takes a tenth of the time that quantising the torch module takes. Ranges are the smallest and largest
values seen; nncf's default, their mean over images, cuts off so much with a few dozen images that logits were off by a fifth
of their spread instead of a sixteenth (a small MobileNetV3 on the digits, 64 images).
"""

from dataclasses import dataclass
from typing import Any

from torch import fx

from ...errors import DeviceError
from ...nn.onnx import to_onnx
from ...plan import Plan
from .common import INT8, Hardware, Images, OnHost, import_package, noise, one_line, quiet, require
from .openvino import OpenVino, compile_model, read_model

__all__ = ["OpenVinoInt8", "quantise_openvino"]


@dataclass(frozen=True, eq=False)
class OpenVinoInt8:
    """As `OpenVino`, with a quantised model; what stays float computes in float32.

    Args:
        calibration: images (n, *plan.input_shape) whose ranges are used. Default: noise, which serves for latency.
    """

    calibration: Images | None = None
    package = "openvino"
    tolerance = INT8

    def hardware(self) -> Hardware:
        require("nncf", "openvino")
        return OpenVino().hardware()

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> OnHost:
        self.hardware()
        calibration = noise(plan.input_shape) if self.calibration is None else self.calibration
        model = quantise_openvino(read_model(to_onnx(plan, network)), calibration)
        return compile_model(model, threads=threads, batch=batch)


def quantise_openvino(model: Any, calibration: Images) -> Any:
    """An `openvino.Model` quantised with images (n, channels, height, width).

    Raises:
        MissingExtraError: nncf is not installed.
        DeviceError: nncf cannot quantise the model.
    """
    nncf = import_package("nncf", "openvino")
    advanced = import_package("nncf.quantization.advanced_parameters", "openvino")
    ranges = import_package("nncf.quantization.range_estimator", "openvino")
    try:
        with quiet():
            return nncf.quantize(
                model,
                nncf.Dataset([calibration[i : i + 1] for i in range(len(calibration))]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                advanced_parameters=advanced.AdvancedQuantizationParameters(
                    activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
                ),
            )
    except Exception as error:  # nncf and openvino raise RuntimeError and others
        raise DeviceError(f"nncf cannot quantise the model: {one_line(error)}") from error
