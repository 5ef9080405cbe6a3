"""Every runtime that is here, on one network and its blocks: what loading takes, what a call takes, threads 1, batch 1.

    python benchmarks/runtimes.py [RUNTIME ...]

The network is drawn (seed 0) from the MobileNetV3 space of width 1.0, at 160 pixels. "block" is the median time of loading three
of its blocks, "network" that of loading the whole; ms with its 95 % interval is timed in turns with the other runtimes. Compare
times as ratios: what other programs do to the machine is shared, not absent.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

import onceforall
from onceforall.backends import RUNTIMES
from onceforall.latency import list_devices, time_calls
from onceforall.latency.networks import random_weights

SPACE = onceforall.space("mobilenet_v3", resolutions=(160,))
BLOCKS = ("stages.0.1", "stages.2.0", "stages.4.1")


def main(arguments: Sequence[str]) -> None:
    plan = SPACE.lower(SPACE.sample(np.random.default_rng(0)), 1000)
    network = random_weights(plan)
    images = np.random.default_rng(0).standard_normal((1, *plan.input_shape), np.float32)
    rows, functions = [], []
    for device in list_devices():
        if device.lacks is None and device.runtime in (arguments or RUNTIMES):
            blocks = [plan.piece(name) for name in BLOCKS]
            other = random_weights(blocks[0], seed=1)  # what was converted is kept, by its weights
            RUNTIMES[device.runtime].load(blocks[0], other, threads=1, batch=1)  # imports the package
            seconds = []
            for part, weights in [*((block, random_weights(block)) for block in blocks), (plan, network)]:
                started = time.perf_counter()
                function = RUNTIMES[device.runtime].load(part, weights, threads=1, batch=1)
                seconds.append(time.perf_counter() - started)
            functions.append(function.bind(images))
            rows.append((device, float(np.median(seconds[:-1])), seconds[-1]))
        elif device.lacks is not None:
            print(f"{device.runtime}: {device.lacks}")
    print(f"{plan.macs / 1e6:.0f} million MACs")
    for (device, block, whole), timing in zip(rows, time_calls(functions, rounds=60, max_rounds=240), strict=True):
        where = f"{device.runtime} {device.version}"
        print(f"{where:28} block {block:6.3f} s  network {whole:6.2f} s  {timing.ms:7.3f} ms [{timing.low:.3f}, {timing.high:.3f}]")


if __name__ == "__main__":
    main(sys.argv[1:])
