"""Networks with made-up weights for timing, and the timing of whole networks."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import fx

from ..errors import DeviceError, StatisticsError
from ..nn.static import build
from ..ops import Shape
from ..plan import Plan
from .device import Device
from .measure import Timing, measure
from .runtimes import RUNTIMES
from .runtimes.onnxruntime import load_model

__all__ = ["measure_networks", "measure_onnx", "ready", "stand_in"]


def stand_in(plan: Plan, seed: int = 0) -> fx.GraphModule:
    """A network of the plan with random weights and statistics, in eval mode. Latency does not depend on their values, except
    for denormal numbers, which these avoid."""
    with torch.device("meta"):  # leaves out the initialisation that is overwritten here
        network = build(plan)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim > 1:
                bound = (6 / value[0].numel()) ** 0.5
                value.uniform_(-bound, bound, generator=generator)
            elif name.endswith("num_batches_tracked"):
                value.fill_(1)
            elif name.endswith("running_mean") or name.endswith("bias"):
                value.uniform_(-0.1, 0.1, generator=generator)
            else:
                value.uniform_(0.8, 1.2, generator=generator)
    return network.eval()


def ready(plan: Plan, network: fx.GraphModule, device: Device) -> Callable[[], object]:
    """The network on the device, as a function of no arguments that computes it for a fixed random input.

    Raises:
        DeviceError: more threads than this machine has, or than the runtime can use.
        MissingExtraError: the runtime's package is not installed.
        StatisticsError: BatchNorm statistics that are not finite.
    """
    for name, value in network.named_buffers():
        if not value.isfinite().all():
            raise StatisticsError(f"{name} holds values that are not finite: recalibrate the network first")
    have = os.cpu_count() or 1
    if device.threads > have:
        raise DeviceError(f"threads is {device.threads}, this machine has {have} processors: ask for at most {have} threads")
    function = RUNTIMES[device.runtime].load(plan, network, threads=device.threads, batch=device.batch)
    images = np.random.default_rng(0).standard_normal((device.batch, *plan.input_shape), np.float32)
    return function.bind(images)


def measure_networks(
    networks: Sequence[tuple[Plan, fx.GraphModule]],
    device: Device,
    *,
    rounds: int = 40,
    limit: float = 0.25,
    baseline_ms: float | None = None,
) -> list[Timing]:
    """Latency of whole networks, timed in turns.

    Args:
        networks: plans with their networks (`stand_in` serves when weights do not matter).
        device: to measure on.
        rounds: see `measure`, as for limit.
        baseline_ms: pass a `LatencyTable.baseline_ms` for times that compare with its estimates.

    Raises:
        DeviceError: the machine is too noisy, or has fewer threads.
        MissingExtraError: the runtime's package is not installed.
    """
    functions = [ready(plan, network, device) for plan, network in networks]
    return measure(functions, rounds=rounds, max_rounds=4 * rounds, limit=limit, baseline_ms=baseline_ms)


def measure_onnx(model: bytes, input_shape: Shape, device: Device, *, rounds: int = 40, baseline_ms: float | None = None) -> Timing:
    """Latency of an ONNX file in ONNX Runtime, with the threads and batch size of the device.

    Args:
        model: the file's content; its input is named as `nn.onnx.to_onnx` does.
        input_shape: of one image, (channels, height, width).
        device: to measure on.
        rounds: see `measure`.
        baseline_ms: see `measure_networks`.

    Raises:
        DeviceError: ONNX Runtime cannot run the model, or the machine is too noisy.
        MissingExtraError: onnxruntime is not installed.
    """
    function = load_model(model, threads=device.threads, batch=device.batch)
    images = np.random.default_rng(0).standard_normal((device.batch, *input_shape), np.float32)
    (timing,) = measure([function.bind(images)], rounds=rounds, max_rounds=4 * rounds, baseline_ms=baseline_ms)
    return timing
