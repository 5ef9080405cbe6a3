"""`ofa measure`: the latency of any ONNX file on a device."""

from pathlib import Path

from ..errors import DeviceError
from ..files import reading_or_writing, regular_file
from ..latency import Device, Timing, measure_onnx
from ..latency.model_file import input_shape

__all__ = ["measure"]


def measure(model: Path, *, device: str = "cpu", shape: tuple[int, ...] | None = None, rounds: int = 60) -> Timing:
    """Time one call of a model with random input.

    Args:
        model: an ONNX file, complete in itself, with one float32 input whose first dimension is the batch.
        device: "cpu" or "onnxruntime:threads=2,batch=4", "openvino", or either "@ssh://user@board".
        shape: of one input without the batch; needed where the file leaves it open.
        rounds: bursts of calls, at least; see `onceforall.latency.measure`.

    Raises:
        FileError: no such file.
        DeviceError: no model that can be measured, another runtime, or a machine that is too noisy.
        MissingExtraError: a package is not installed.
    """
    chosen = Device.parse(device)
    if chosen.imported:
        raise DeviceError(f"{device}: nothing can be measured on it from here")
    regular_file(model)
    with reading_or_writing(model):
        content = model.read_bytes()
    found = input_shape(content, str(model), shape, chosen.batch)
    return measure_onnx(content, found, chosen, rounds=rounds)
