"""ONNX Runtime on the CPU, float32."""

from ...backends import onnxruntime
from ...errors import DeviceError
from ...plan import Plan
from .common import FLOAT, Hardware, OnHost, Weights, import_package, one_line, processor, require

__all__ = ["OnnxRuntime", "load_model"]


class OnnxRuntime:
    """Sessions as `backends/onnxruntime.py` sets them up."""

    package = "onnxruntime"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        for package in ("onnx", "onnxruntime"):
            require(package, "onnx")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        from ...nn.onnx import to_onnx

        return load_model(to_onnx(plan, weights), threads=threads, shape=(batch, *plan.input_shape))


def load_model(model: bytes, *, threads: int, shape: tuple[int, ...]) -> OnHost:
    """A function that runs an ONNX model of one input and gives its first output.

    Args:
        model: the file's content.
        threads: that compute one network.
        shape: of the input, with the batch.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        DeviceError: onnxruntime cannot run the model.
    """
    import_package("onnxruntime", "onnx")
    try:
        return OnHost(onnxruntime.load(model, threads=threads, shape=shape))
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise DeviceError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error
