"""What the tests of runtimes share: which are here, a small network trained on real images, and the counting of busy threads."""

import os
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import fx, nn

from onceforall import Plan
from onceforall.backends import RUNTIMES
from onceforall.backends.common import FLOAT, Function, Images, Runtime
from onceforall.errors import OnceForAllError
from onceforall.export.proof import reference_of
from onceforall.nn.static import build
from onceforall.ops import Flatten, GlobalPool, Linear
from onceforall.plan import Segment
from onceforall.spaces.blocks import conv_norm_act, mobile_block

SLOW = ("aotinductor", "executorch", "litert", "openvino-int8")  # loading takes seconds, so they pass what loads once or twice
CLASSES, PIXELS, STEPS = 10, 24, 200


class Trained(NamedTuple):
    """A network in eval mode, its plan, real images to calibrate with, other real images, and their logits in float64."""

    plan: Plan
    network: fx.GraphModule
    calibration: Images
    images: Images
    logits: Images


def runtime_here(name: str) -> Runtime:
    """A runtime; skips the test where this machine lacks something for it."""
    try:
        RUNTIMES[name].hardware()
    except OnceForAllError as error:
        pytest.skip(str(error))
    return RUNTIMES[name]


def small_plan() -> Plan:
    """Stem, a strided block with squeeze-excite, one with a shortcut, head: every kind of operation of MobileNetV3."""
    image = (3, PIXELS, PIXELS)
    stem = Segment("stem", image, tuple(conv_norm_act("first", "in", image, 16, kernel=3, stride=2, activation="h_swish")))
    first = mobile_block("stages.0.0", stem.out_shape, 24, middle=48, kernel=5, stride=2, activation="h_swish", squeeze_excite=True)
    second = mobile_block("stages.0.1", first.out_shape, 24, middle=48, kernel=3, stride=1, activation="relu")
    channels = second.out_shape[0]
    head = (
        GlobalPool("pool", ("in",), (channels, 1, 1)),
        Flatten("flatten", ("pool",), (channels,)),
        Linear("classifier", ("flatten",), (CLASSES,), channels),
    )
    return Plan((stem, first, second, Segment("head", second.out_shape, head)))


def heavy_plan() -> Plan:
    """One convolution of 38 million MACs. Idle threads of some runtimes take 0.1 ms to wake and get no part of what is shorter."""
    shape = (32, 64, 64)
    return Plan((Segment("stem", shape, tuple(conv_norm_act("first", "in", shape, 32, kernel=3, activation="relu"))),))


@cache
def trained() -> Trained:
    """Trained for some 2 s on the handwritten digits, enlarged; nine in ten of the others are then recognised."""
    digits = load_digits()
    gray = torch.from_numpy(digits.images.astype(np.float32) / 8 - 1)[:, None].expand(-1, 3, -1, -1)
    images = nn.functional.interpolate(gray, size=PIXELS, mode="bilinear").contiguous()
    labels = torch.from_numpy(digits.target)
    plan = small_plan()
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(plan)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(0, 1500, (64,), generator=generator)
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    exact = reference_of(network, images[1500:])
    accuracy = float((exact.logits.argmax(1) == labels[1500:]).float().mean())
    assert accuracy > 0.85, accuracy
    spread = float((exact.logits - exact.logits.mean(0)).square().mean().sqrt())
    assert exact.rounding < FLOAT * spread, "the tolerance of float32 runtimes is wider than what rounding alone can do"
    return Trained(plan, network, images[:64].numpy(), images[1500:1788].numpy(), exact.logits[:288].float().numpy())


def difference(actual: Images, expected: Images) -> float:
    """Root mean square difference of logits (images, classes), as a fraction of the expected logits' spread."""
    return float(np.sqrt(((actual - expected) ** 2).mean() / ((expected - expected.mean(0)) ** 2).mean()))


def busy_threads(function: Function, images: Images, wanted: int) -> int:
    """Threads of this process that do at least a twentieth of the work of calling a function for a quarter of a second.

    On a busy machine a thread may come too late to get any, so up to 20 tries are made to see as many as are wanted.
    """
    function(images)
    most = 0
    for _ in range(20):
        before = _cpu_times()
        end = time.perf_counter() + 0.25
        while time.perf_counter() < end:
            function(images)
        spent = [after - before.get(thread, 0) for thread, after in _cpu_times().items()]
        most = max(most, sum(used > 0.05 * sum(spent) for used in spent))
        if most >= wanted:
            break
    return most


def _cpu_times() -> dict[str, int]:
    """Nanoseconds that each thread has computed, as Linux tells them."""
    times = {}
    for thread in os.listdir("/proc/self/task"):
        path = Path("/proc/self/task", thread, "schedstat")
        if path.exists():
            times[thread] = int(path.read_text().split()[0])
    return times
