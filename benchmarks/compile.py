"""What torch.compile would cost and bring for elastic networks: graphs to compile, seconds for one, its speed.

    python benchmarks/compile.py [--preset imagenette-60m] [--draws 3000] [--segment stages.2.1] [--batch 64] [--rounds 20]

Every distinct segment of the sub-networks drawn would be a graph of its own. One segment, that of the largest network, is compiled
with its backward pass and timed against eager, in turns, in train mode on one thread of the CPU, in processor time; needs a C++
compiler.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import torch._inductor.config as inductor

from onceforall.nn.static import build
from onceforall.options.presets import PRESETS
from onceforall.plan import Plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="imagenette-60m", choices=PRESETS)
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--segment", default="stages.2.1")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    space, rng = PRESETS[arguments.preset].space({}), np.random.default_rng(0)
    distinct = {segment for _ in range(arguments.draws) for segment in space.lower(space.sample(rng), 10).segments}
    print(f"{arguments.draws:,} random networks of {arguments.preset} have {len(distinct)} different segments")

    segments = {segment.name: segment for segment in space.lower(space.largest(), 10).segments}
    plan = Plan((segments[arguments.segment],))
    eager = build(plan).to(memory_format=torch.channels_last).train()
    images = torch.randn(arguments.batch, *plan.segments[0].in_shape).contiguous(memory_format=torch.channels_last)

    def seconds(network: torch.nn.Module) -> float:
        started = time.process_time()
        network(images).square().mean().backward()
        return time.process_time() - started

    seconds(eager)
    inductor.force_disable_caches = True  # what an earlier run compiled
    compiled = torch.compile(eager)
    started = time.perf_counter()
    seconds(compiled)
    first = time.perf_counter() - started
    print(f"{arguments.segment} of the largest, batch {arguments.batch}: {first:.1f} s for the first step, with compiling")
    pairs = [(seconds(eager), seconds(compiled)) for _ in range(arguments.rounds + 1)][1:]
    plain, other = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"a step: {plain:.1f} ms eager, {other:.1f} ms compiled (median of {arguments.rounds})")


if __name__ == "__main__":
    main()
