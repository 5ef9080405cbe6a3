"""OpenVINO on the CPU, int8: quantised as `nn/quantise.py` says."""

from dataclasses import dataclass

from ...plan import Plan
from .common import INT8, Hardware, Images, OnHost, Weights, noise, require
from .openvino import OpenVino, compile_model

__all__ = ["OpenVinoInt8"]


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

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...nn.onnx import HARD_SWISH, to_onnx
        from ...nn.quantise import quantise_openvino, read_openvino

        self.hardware()
        calibration = noise(plan.input_shape) if self.calibration is None else self.calibration
        model = quantise_openvino(read_openvino(to_onnx(plan, weights, opset=HARD_SWISH)), calibration)
        return compile_model(model, threads=threads, shape=(batch, *plan.input_shape))
