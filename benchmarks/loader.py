"""Images per second of `TrainBatches` and `eval_batches`, and how a pool of workers would have done.

    python benchmarks/loader.py [DATA] [--size 146]

DATA is whatever `ofa train` takes; without it, 512 random images of 195 × 146 pixels are made. Numbers: batches of 64, one
thread, the best of 5 passes over 10 batches (shared machines are noisy), images already cached and in memory. Then what the trainer
needs: steps of the preset imagenette-60m on all cores with the batch of each made in between, as `ofa train` does, and the loader's
share of the time (the aim is at most 10 %).
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from onceforall import Supernet
from onceforall.data import Augment, TrainBatches, eval_batches, open_data
from onceforall.options.presets import PRESETS
from onceforall.train import STRATEGIES, train_step

BATCH, BATCHES, PASSES = 64, 10, 5
STEPS, THREADS = 12, os.cpu_count() or 1


def rate(run: Callable[[], None]) -> float:
    run()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return BATCH * BATCHES / min(times)


def random_photographs(folder: Path) -> str:
    rng = np.random.default_rng(0)
    for i in range(1024):
        path = folder / "photographs" / f"class {i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (146, 195, 3), dtype=np.uint8)).save(path)
    return str(folder / "photographs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--size", type=int, default=146)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or random_photographs(Path(temporary))
        splits = open_data(data, size=arguments.size, cache=Path(temporary))
        plain = TrainBatches(splits.train, BATCH, 0, Augment())
        colour = TrainBatches(splits.train, BATCH, 0, Augment(colour=1.0))
        few = splits.train.subset(np.arange(BATCH * BATCHES))
        print(f"{data}, size {arguments.size}, {platform.processor() or platform.machine()}, torch {torch.__version__}")
        print(f"{'pixels':>6} {'train':>8} {'+colour':>8} {'eval':>8} {'train, 2 threads':>17}   images/s")
        for resolution in (96, 128, 160):

            def two_threads(resolution: int = resolution) -> None:
                with ThreadPoolExecutor(2) as pool:
                    list(pool.map(lambda step: plain.batch(step, resolution), range(BATCHES)))

            rates = (
                rate(lambda: [plain.batch(step, resolution) for step in range(BATCHES)] and None),  # noqa: B023
                rate(lambda: [colour.batch(step, resolution) for step in range(BATCHES)] and None),  # noqa: B023
                rate(lambda: list(eval_batches(few, resolution, BATCH)) and None),  # noqa: B023
                rate(two_threads),
            )
            print(f"{resolution:>6} {rates[0]:>8.0f} {rates[1]:>8.0f} {rates[2]:>8.0f} {rates[3]:>17.0f}")

        print(f"{'phase':>10} {'step, ms':>9} {'loader, ms':>11} {'share':>6}   {THREADS} threads, median of {STEPS} steps")
        torch.set_num_threads(THREADS)
        preset = PRESETS["imagenette-60m"]
        space = preset.space({})
        schedule = preset.schedule(space, 1000)
        supernet = Supernet(space, len(splits.classes)).train()
        optimizer = torch.optim.AdamW(supernet.parameters(), lr=0.0)
        teacher = supernet.extract(space.largest())
        for phase in schedule.phases:
            part = space.keep_largest(**phase.keep)
            loading, stepping = [], []
            for step in range(STEPS + 1):
                groups = STRATEGIES[phase.strategy](part, phase.subnets, np.random.default_rng(step))
                archs = [group[0] for group in groups]
                start = time.perf_counter()
                images, labels = plain.batch(step, archs[0].resolution)
                middle = time.perf_counter()
                train_step(supernet, archs, images, labels, optimizer, preset.recipe, phase, teacher if phase.distil else None)
                loading.append(middle - start)
                stepping.append(time.perf_counter() - middle)
            load, train = (1e3 * statistics.median(times[1:]) for times in (loading, stepping))
            print(f"{phase.name:>10} {train:>9.0f} {load:>11.1f} {load / (load + train):>6.1%}", flush=True)


if __name__ == "__main__":
    main()
