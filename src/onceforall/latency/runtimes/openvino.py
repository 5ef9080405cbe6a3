"""OpenVINO on the CPU, float32."""

from typing import Any

from ...backends import openvino
from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, import_package, one_line, processor, quiet, require

__all__ = ["OpenVino", "compile_model"]


class OpenVino:
    """Models compiled as `backends/openvino.py` says."""

    package = "openvino"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        for package in ("onnx", "openvino"):
            require(package, "openvino")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...nn.onnx import HARD_SWISH, to_onnx
        from ...nn.quantise import read_openvino

        self.hardware()
        model = read_openvino(to_onnx(plan, weights, opset=HARD_SWISH))
        return compile_model(model, threads=threads, shape=(batch, *plan.input_shape))


def compile_model(model: Any, *, threads: int, shape: tuple[int, ...]) -> OnHost:
    """A function that runs an `openvino.Model` with one input.

    Args:
        model: is given the shape.
        threads: that compute one network.
        shape: of the input, with the batch.

    Raises:
        DeviceError: openvino cannot run the model.
    """
    import_package("openvino", "openvino")
    try:
        with quiet():
            return OnHost(*openvino.load(model, threads=threads, shape=shape))
    except Exception as error:  # openvino raises RuntimeError and others
        raise DeviceError(f"OpenVINO cannot compile the model: {one_line(error)}") from error
