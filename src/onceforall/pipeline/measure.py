"""`ofa measure`: latency and memory of any ONNX file on a device, and its energy where the processor counts it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.arguments import takes
from ..common.files import reading_or_writing, regular_file
from ..errors import DeviceError
from ..latency import Device, Timing, load_onnx, measure_onnx
from ..latency.model_file import input_shape, tiny_model
from ..latency.resources import energy_mj, peak_memory_bytes
from ..options.measuring import MeasureOptions


@dataclass(frozen=True)
class Measurement:
    """The measurements of one model on one device.

    Args:
        latency: latency of one call.
        file_bytes: size of the model file.
        peak_memory_bytes: memory that loading and running it adds to a process with the runtime; None on another machine.
        energy_mj: millijoules per call; None if the processor does not count them, this user may not read them, or elsewhere.
    """

    latency: Timing
    file_bytes: int
    peak_memory_bytes: int | None
    energy_mj: float | None


@takes(MeasureOptions)
def measure(options: MeasureOptions, *, rounds: int = 60) -> Measurement:
    """Measure latency, memory and energy of a model with random input.

    Args:
        rounds: minimum number of bursts of calls; see `onceforall.latency.time_calls`.

    Raises:
        FileError: there is no such file.
        DeviceError: the model or the runtime cannot be measured, or the machine is too noisy.
        MissingExtraError: a required package is not installed.
    """
    chosen = Device.parse(options.device)
    if chosen.imported:
        raise DeviceError(
            f"{options.device}: its times are imported, so it cannot be measured from here: give a device of ofa devices"
        )
    model = Path(options.model)
    size = regular_file(model)
    with reading_or_writing(model):
        content = model.read_bytes()
    found = input_shape(content, str(model), options.shape, chosen.batch)
    latency = measure_onnx(content, found, chosen, rounds=rounds)
    if chosen.host is not None:
        return Measurement(latency, size, None, None)
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.onnx"
        tiny.write_bytes(tiny_model())
        memory = peak_memory_bytes(model, found, chosen, tiny)
    images = np.zeros((chosen.batch, *found), np.float32)
    return Measurement(latency, size, memory, energy_mj(load_onnx(content, found, chosen).bind(images)))
