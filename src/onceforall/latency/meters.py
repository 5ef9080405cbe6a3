"""Timing of networks on this machine or another one; `meter_of` returns the meter of a device."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..backends import RUNTIMES
from ..backends.common import Function
from ..backends.cuda import GpuReference
from ..backends.kept import Weights
from ..errors import DeviceError
from ..ops import Shape
from ..plan import Plan
from .device import Device, Host, available
from .measure import ReferenceKernel, Timing, least_disturbed_ms, time_calls
from .networks import all_ready, require_threads
from .remote import RemoteMeter, RemoteModel


class _LocalMeter:
    """Times networks on this machine; its attributes are those of `RemoteMeter`."""

    def __init__(self, device: Device) -> None:
        self._device = device
        here = available(device.runtime)
        self.processor, self.version = here.processor, here.version or ""
        if here.lacks is not None:  # a package, a compiler, a GPU: report it before anything is measured
            RUNTIMES[device.runtime].hardware()
        self._reference = _reference(device)
        self.baseline_ms = least_disturbed_ms(self._reference)

    def time(self, plans: Sequence[Plan], **arguments: Any) -> list[Timing]:
        """Time networks with random weights in turns; the arguments are those of `time_calls`."""
        return time_calls(all_ready([(plan, None) for plan in plans], self._device), reference=self._reference, **arguments)


def meter_of(device: Device, say: Callable[[str], None] = lambda text: None) -> _LocalMeter | RemoteMeter:
    """The meter that times networks on a device.

    Args:
        device: on this machine or another one.
        say: called with a message when a lost connection is retried.

    Raises:
        DeviceError: a host that cannot be reached or lacks something, or a device whose times were imported.
    """
    if device.imported:
        raise DeviceError(f"the times of {device} were imported: nothing can be measured on it, import new times instead")
    return _LocalMeter(device) if device.host is None else _remote(device, say)


def measure_networks(
    networks: Sequence[tuple[Plan, nn.Module | Weights | None]],
    device: Device,
    *,
    rounds: int = 40,
    limit: float = 0.25,
    patience_s: float = 20.0,
    anchor: tuple[Plan, float] | None = None,
) -> list[Timing]:
    """Measure the latency of whole networks, timed in turns; on another machine with random weights.

    Args:
        networks: plans with their networks or state dicts; None for random weights, since latency does not depend on weights.
        rounds: see `time_calls`, also for limit and patience_s.
        anchor: a `LatencyTable.anchor`; it is timed too, which makes the times comparable with the table's estimates.

    Raises:
        DeviceError: the machine is too noisy, has fewer threads, or cannot be reached.
        MissingExtraError: the runtime's package is not installed.
    """
    if device.host is None:
        return measure_functions(
            all_ready(networks, device),
            device,
            rounds=rounds,
            max_rounds=4 * rounds,
            limit=limit,
            patience_s=patience_s,
            anchor=anchor,
        )
    plans = [plan for plan, _ in networks] + ([] if anchor is None else [anchor[0]])
    timings = meter_of(device).time(plans, rounds=rounds, max_rounds=4 * rounds, limit=limit, patience_s=patience_s)
    return _scaled(timings, anchor)


def measure_onnx(
    model: bytes, input_shape: Shape, device: Device, *, rounds: int = 40, anchor: tuple[Plan, float] | None = None
) -> Timing:
    """Measure the latency of an ONNX file in ONNX Runtime or OpenVINO, with the device's threads and batch size.

    Args:
        model: content of a file with one input.
        input_shape: shape of one image, (channels, height, width).

    Raises:
        DeviceError: another runtime, one that cannot run the model, more threads than processors, or a machine that is too noisy.
        MissingExtraError: the runtime is not installed.
    """
    if device.host is None:
        images = np.random.default_rng(0).standard_normal((device.batch, *input_shape), np.float32)
        function = load_onnx(model, input_shape, device).bind(images)
        (timing,) = measure_functions([function], device, rounds=rounds, max_rounds=4 * rounds, anchor=anchor)
        return timing
    models = [RemoteModel(model, input_shape)] + ([] if anchor is None else [RemoteModel.stand_in(anchor[0], device.runtime)])
    return _scaled(_remote(device).time_models(models, rounds=rounds, max_rounds=4 * rounds), anchor)[0]


def measure_functions(
    functions: Sequence[Callable[[], object]],
    device: Device,
    *,
    rounds: int,
    max_rounds: int,
    limit: float = 0.25,
    patience_s: float = 20.0,
    anchor: tuple[Plan, float] | None = None,
) -> list[Timing]:
    """Time functions on this machine in turns. Times that are to be compared must come from one call.

    Args:
        functions: called without arguments.
        device: a device on this machine; it determines where the reference kernel runs and how the anchor is loaded.
        rounds: see `time_calls`, also for max_rounds, limit and patience_s.
        anchor: see `measure_networks`; all times are scaled to its level.

    Raises:
        DeviceError: the machine is too noisy.
    """
    anchors = [] if anchor is None else all_ready([(anchor[0], None)], device)
    timings = time_calls(
        [*functions, *anchors],
        rounds=rounds,
        max_rounds=max_rounds,
        limit=limit,
        patience_s=patience_s,
        reference=_reference(device),
    )
    return _scaled(timings, anchor)


def _scaled(timings: list[Timing], anchor: tuple[Plan, float] | None) -> list[Timing]:
    """The timings; with an anchor, whose timing is the last: the others, scaled to the anchor's level."""
    if anchor is None:
        return timings
    factor = anchor[1] / timings[-1].ms
    return [Timing(factor * t.ms, factor * t.low, factor * t.high, t.repeats) for t in timings[:-1]]


def load_onnx(model: bytes, input_shape: Shape, device: Device) -> Function:
    """Load an ONNX model with one input into the device's runtime on this machine.

    Raises:
        DeviceError: another runtime, one that cannot load the model, or more threads than processors.
        MissingExtraError: the runtime is not installed.
    """
    runtime = None if device.imported else RUNTIMES[device.runtime]
    if runtime is None or runtime.from_onnx is None or runtime.quantise is not None:
        raise DeviceError(f"{device.runtime} does not run ONNX files here: use onnxruntime or openvino")
    require_threads(device)
    return runtime.load_onnx(model, threads=device.threads, shape=(device.batch, *input_shape))


def _reference(device: Device) -> Callable[[], object]:
    """The reference kernel for the hardware that the networks run on."""
    return GpuReference() if RUNTIMES[device.runtime].gpu else ReferenceKernel()


def _remote(device: Device, say: Callable[[str], None] = lambda text: None) -> RemoteMeter:
    assert device.host is not None
    return RemoteMeter(Host.parse(device.host), device.runtime, threads=device.threads, batch=device.batch, say=say)
