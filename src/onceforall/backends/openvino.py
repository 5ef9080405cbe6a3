"""OpenVINO on the processor. It needs the standard library and the runtime only: the agent on other machines uses it too.

Left alone, OpenVINO computes in bfloat16 on processors that have it (logits of a MobileNetV3 were off by 0.44), so the precision
is set. Threads are not pinned to cores, as in the other runtimes.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["load", "settings"]


def settings(threads: int) -> dict[str, str]:
    """Of a compiled model: one stream, latency before throughput.

    Args:
        threads: that compute one network.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }


def load(model: Any, *, threads: int, shape: Sequence[int] | None = None) -> tuple[Callable[[Any], Any], Callable[[Any], object]]:
    """A function that gives the first output of a model for its one input, a numpy array; and one to be timed, which leaves the
    output in OpenVINO's memory.

    Args:
        model: an `openvino.Model`, or the path of a file that OpenVINO reads.
        threads: that compute one network.
        shape: of the input (batch, …), if it is always the same.

    Raises:
        Exception: ImportError, or what OpenVINO raises, which has no common class.
    """
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    if isinstance(model, str):
        model = core.read_model(model)
    if shape is not None:
        model.reshape(list(shape))
    request = core.compile_model(model, "CPU", settings(threads)).create_infer_request()

    def run(images: Any) -> Any:
        return request.infer([images], share_inputs=True)[0]

    def timed(images: Any) -> object:
        return request.infer([images], share_inputs=True, share_outputs=True)

    return run, timed
