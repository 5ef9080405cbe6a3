"""Networks with random weights, and networks loaded for timing on this machine."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..backends import RUNTIMES
from ..backends.common import own_network
from ..backends.kept import Weights
from ..common.processors import processor_count_text, processors
from ..common.readable import plural
from ..errors import DeviceError, StatisticsError
from ..nn.shared import own_shapes, parts_of
from ..plan import Plan
from .device import Device

POOL = 1 << 18  # number of random weights, which are repeated to fill each layer


def random_weights(plan: Plan, seed: int = 0) -> dict[str, Tensor]:
    """Random weights and statistics for a plan's network, by the names of its state dict. Latency does not depend on their values,
    except for denormal numbers, which are avoided."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.empty(POOL).uniform_(-1, 1, generator=generator).numpy()
    weights, statistics = own_shapes(plan)
    made = {}
    fixed = {name: part.dtype for name, part in parts_of(plan).items() if not part.trained and "float" not in part.dtype}
    for name, shape in (weights | statistics).items():
        if name in fixed:  # positions and masks: index 0 is always valid, and nothing is masked
            made[name] = torch.full(shape, fixed[name] == "bool").to(vars(torch)[fixed[name]])
        elif len(shape) > 1:  # drawing new numbers would take a quarter of the time of loading a network
            bound = (6 / np.prod(shape[1:])) ** 0.5
            made[name] = torch.from_numpy(np.resize(pool, shape)) * bound
        elif name.endswith("running_mean") or name.endswith("bias"):
            made[name] = torch.empty(shape).uniform_(-0.1, 0.1, generator=generator)
        else:
            made[name] = torch.empty(shape).uniform_(0.8, 1.2, generator=generator)
    return made


def stand_in(plan: Plan, seed: int = 0) -> fx.GraphModule:
    """A network of the plan with random weights and statistics, in eval mode, for when only its speed matters."""
    return own_network(plan, random_weights(plan, seed))


def require_threads(device: Device) -> None:
    """Raise a `DeviceError` if this process may not use as many processors as the device has threads."""
    most = processors()
    if device.threads > most:
        raise DeviceError(f"threads is {device.threads}, {processor_count_text(most)}: use at most {plural(most, 'thread')}")


def ready(plan: Plan, network: nn.Module | Weights, device: Device) -> Callable[[], object]:
    """Load a network, or the plan's network with a state dict, on the device; return a function that runs it on a random input.

    Raises:
        DeviceError: more threads than this process may use, or than the runtime supports.
        MissingExtraError: the runtime's package is not installed.
        StatisticsError: BatchNorm statistics that are not finite.
        CheckpointError: weights that do not fit the plan's network.
    """
    weights = network.state_dict() if isinstance(network, nn.Module) else network
    for name, value in weights.items():
        if "running_" in name and not value.isfinite().all():
            raise StatisticsError(f"{name} holds values that are not finite: recalibrate the network first")
    require_threads(device)
    function = RUNTIMES[device.runtime].load(plan, weights, threads=device.threads, batch=device.batch)
    images = np.random.default_rng(0).standard_normal((device.batch, *plan.input_shape), np.float32)
    return function.bind(images)


def all_ready(networks: Sequence[tuple[Plan, nn.Module | Weights | None]], device: Device) -> list[Callable[[], object]]:
    """Like `ready`, for several networks; None for random weights."""

    def load(network: tuple[Plan, nn.Module | Weights | None]) -> Callable[[], object]:
        plan, weights = network
        return ready(plan, random_weights(plan) if weights is None else weights, device)

    if not RUNTIMES[device.runtime].in_threads:
        return list(map(load, networks))
    with ThreadPoolExecutor(processors()) as pool:
        return list(pool.map(load, networks))
