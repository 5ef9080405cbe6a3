"""ONNX Runtime on the CPU, float32."""

from ...errors import DeviceError
from ...nn.onnx import to_onnx
from ...plan import Plan
from .common import FLOAT, Hardware, Images, OnHost, Weights, import_package, one_line, processor, require

__all__ = ["OnnxRuntime", "load_model"]


class OnnxRuntime:
    """Sessions with all graph optimisations, nodes in sequence."""

    package = "onnxruntime"
    tolerance = FLOAT

    def hardware(self) -> Hardware:
        for package in ("onnx", "onnxruntime"):
            require(package, "onnx")
        return processor()

    def load(self, plan: Plan, weights: Weights, *, threads: int, batch: int) -> OnHost:
        return load_model(to_onnx(plan, weights), threads=threads, batch=batch)


def load_model(model: bytes, *, threads: int, batch: int) -> OnHost:
    """A function that runs an ONNX model of one input and gives its first output.

    A batch dimension that `nn.onnx.to_onnx` left open is fixed, which lets more be optimised.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        DeviceError: onnxruntime cannot run the model.
    """
    onnxruntime = import_package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only
    options.add_free_dimension_override_by_name("batch", batch)
    # Helper threads that spin between calls would slow down whatever is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise DeviceError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error

    source, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]

    def run(images: Images) -> Images:
        logits: Images = session.run(outputs, {source: images})[0]
        return logits

    return OnHost(run)
