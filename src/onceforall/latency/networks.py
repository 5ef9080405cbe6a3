"""Networks with made-up weights, and networks ready to be timed on this machine."""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import fx

from ..arch import Arch, Block, Stage
from ..errors import DeviceError, StatisticsError
from ..nn.static import build
from ..plan import Plan
from ..space import Space
from .device import Device
from .runtimes import RUNTIMES

__all__ = ["middle", "ready", "stand_in"]

POOL = 1 << 18  # random weights, of which each layer takes as many as it needs


def middle(space: Space) -> Arch:
    """The network with the middle choice everywhere, the larger one of two."""
    stages = []
    for c in space.stages:
        block = Block(c.kernels[len(c.kernels) // 2], c.expand_ratios[len(c.expand_ratios) // 2])
        stages.append(Stage(c.widths[len(c.widths) // 2], (block,) * c.depths[len(c.depths) // 2]))
    return Arch(space.resolutions[len(space.resolutions) // 2], tuple(stages))


def stand_in(plan: Plan, seed: int = 0) -> fx.GraphModule:
    """A network of the plan with random weights and statistics, in eval mode. Latency does not depend on their values, except
    for denormal numbers, which these avoid."""
    with torch.device("meta"):  # leaves out the initialisation that is overwritten here
        network = build(plan)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    pool = torch.empty(POOL).uniform_(-1, 1, generator=generator).numpy()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim > 1:  # drawn anew, they would take a quarter of the time of making a network
                bound = (6 / value[0].numel()) ** 0.5
                torch.mul(torch.from_numpy(np.resize(pool, value.shape)), bound, out=value)
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
