"""ONNX Runtime on the processor. It needs the standard library and the runtime only: the agent on other machines uses it too."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["load", "settings"]


def settings(threads: int, batch: int | None) -> Any:
    """Session options: all graph optimisations, nodes in sequence, errors only in the log.

    Args:
        threads: that compute one network.
        batch: images of every call, which lets more be optimised where `nn.onnx.to_onnx` left it open; None leaves it open.
    """
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    # Helper threads that spin between calls would slow down whatever comes next. Within a call they may: woken for each operation,
    # they would be too late for short ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def load(model: bytes | str, *, threads: int, shape: Sequence[int] | None = None) -> Callable[[Any], Any]:
    """A function that gives the first output of a model for its one input, a numpy array.

    Args:
        model: an ONNX file's content or path.
        threads: that compute one network.
        shape: of the input (batch, …), if it is always the same.

    Raises:
        Exception: ImportError, or what ONNX Runtime raises, which has no common class.
    """
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = settings(threads, None if shape is None else shape[0])
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]

    def run(images: Any) -> Any:
        return session.run(outputs, {source: images})[0]

    return run
