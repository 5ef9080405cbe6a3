"""OpenVINO on the CPU, float32.

Left alone, OpenVINO computes in bfloat16 on processors that have it (logits of a MobileNetV3 were off by 0.44), so the precision
is set. Threads are not pinned to cores, as in the other runtimes.
"""

from typing import Any

from ...errors import DeviceError
from ...nn.onnx import HARD_SWISH, to_onnx
from ...nn.quantise import read_openvino
from ...plan import Plan
from .common import FLOAT, Hardware, Images, OnHost, Weights, import_package, one_line, processor, quiet, require

__all__ = ["OpenVino", "compile_model"]


class OpenVino:
    """One stream, latency before throughput."""

    package = "openvino"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        for package in ("onnx", "openvino"):
            require(package, "openvino")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        self.hardware()
        return compile_model(read_openvino(to_onnx(plan, weights, opset=HARD_SWISH)), threads=threads, batch=batch)


def compile_model(model: Any, *, threads: int, batch: int) -> OnHost:
    """A function that runs an `openvino.Model` with one input, whose first dimension becomes the batch.

    Raises:
        DeviceError: openvino cannot run the model.
    """
    openvino = import_package("openvino", "openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }
    try:
        with quiet():
            shape = model.input(0).partial_shape
            shape[0] = batch
            model.reshape(shape)
            request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    except Exception as error:  # openvino raises RuntimeError and others
        raise DeviceError(f"OpenVINO cannot compile the model: {one_line(error)}") from error

    def run(images: Images) -> Images:
        logits: Images = request.infer([images], share_inputs=True)[0]
        return logits

    def timed(images: Images) -> object:
        return request.infer([images], share_inputs=True, share_outputs=True)

    return OnHost(run, timed)
