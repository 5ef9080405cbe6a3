"""ONNX Runtime on the CPU, float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from ...errors import DeviceError, MissingExtraError
from ...nn.onnx import INPUT, OUTPUT, to_onnx
from ...plan import Plan

__all__ = ["OnnxRuntime", "load_model"]

Images = np.ndarray[Any, np.dtype[np.float32]]


class OnnxRuntime:
    """Sessions with all graph optimisations, nodes in sequence."""

    package = "onnxruntime"

    def load(self, plan: Plan, network: fx.GraphModule, *, threads: int, batch: int) -> Callable[[Images], Images]:
        return load_model(to_onnx(plan, network), threads=threads, batch=batch)


def load_model(model: bytes, *, threads: int, batch: int) -> Callable[[Images], Images]:
    """A function that runs an ONNX model with the input, output and batch names of `nn.onnx.to_onnx`.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        DeviceError: onnxruntime cannot run the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
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
        raise DeviceError(f"ONNX Runtime cannot load the model: {error}") from error

    def run(images: Images) -> Images:
        logits: Images = session.run([OUTPUT], {INPUT: images})[0]
        return logits

    return run
