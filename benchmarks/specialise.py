"""Seconds of `ofa specialise` on a run with profile and predictor (the aim is 30 on two cores), and what makes evaluation fast.

    python benchmarks/specialise.py RUN [--device cpu] [--export onnx] [--repeats 3]

The command is run as users run it, a process of its own each time, for latency budgets spread between the smallest and the
largest network of the run: search, finalists measured, export, proof, test accuracy and latency through the files. Then the
largest network is recalibrated on 1,000 training images and evaluated on the held-out images, by processes in turns: as it is
done, with other batches, and with memory that is given back to the system. Their times, medians of all turns, as multiples of the
first one's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from onceforall.calibrate import evaluate_network, recalibrate
from onceforall.common.memory import keep_freed_memory
from onceforall.data import calibration_batches, eval_batches
from onceforall.latency import Device, LatencyTable
from onceforall.pipeline import Run
from onceforall.pipeline.run_directory.run import CALIBRATION_BATCH, EVALUATION_BATCH

TURNS = 3
WAYS = {  # whether freed memory is kept; images of a batch for statistics, and of one for evaluation
    "as it is done": (1, CALIBRATION_BATCH, EVALUATION_BATCH),
    "memory given back": (0, CALIBRATION_BATCH, EVALUATION_BATCH),
    "statistics of batches of 50": (1, 50, EVALUATION_BATCH),
    "evaluation in batches of 256": (1, CALIBRATION_BATCH, 256),
}


def evaluation(folder: Path, keep: int, calibration: int, batch: int) -> tuple[float, float]:
    """Seconds of recalibrating and of evaluating the largest network, once both have been done in small."""
    if keep:
        keep_freed_memory()
    run = Run.open(folder)
    splits, largest = run.splits(), run.space.largest()
    network, r = run.supernet().extract(largest), largest.resolution
    times = [0.0]
    for images, held_out in ((2 * calibration, splits.held_out.sample(2 * batch)), (1000, splits.held_out)):
        times = [time.perf_counter()]
        ready = recalibrate(network, calibration_batches(splits.train, r, images, calibration, 0, run.preprocessing))
        times.append(time.perf_counter())
        evaluate_network(ready, eval_batches(held_out, r, batch, run.preprocessing))
        times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", default="onnx")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", type=int, nargs=3, help="used by the program itself")
    given = parser.parse_args()
    if given.way:
        print(*evaluation(given.run, *given.way))
        return
    run = Run.open(given.run)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.device}, {given.export}, {run.info.images}")
    table = LatencyTable.load(given.run / "latency" / str(Device.parse(given.device)) / "table.json", run.space, run.num_classes)
    low, high = table.estimate([run.space.smallest(), run.space.largest()]).tolist()
    seconds = []
    for share in (np.arange(given.repeats) + 1) / (given.repeats + 1):
        limit = f"{low * (high / low) ** share:.3g}ms"
        with tempfile.TemporaryDirectory() as temporary:
            program = [sys.executable, "-m", "onceforall", "specialise", str(given.run), "--out", temporary, "--latency", limit]
            began = time.perf_counter()
            subprocess.run([*program, "--device", given.device, "--export", given.export], check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        print(f"within {limit} ({low:.3g} to {high:.3g} ms): {seconds[-1]:.1f} s", flush=True)
    print(f"{min(seconds):.1f} to {max(seconds):.1f} s, n = {len(seconds)}; the aim is 30 s")

    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in WAYS}
    for _ in range(TURNS):
        for name, way in WAYS.items():
            program = [sys.executable, __file__, str(given.run), "--way", *map(str, way)]
            done = subprocess.run(program, check=True, capture_output=True, text=True)
            found[name].append(tuple(map(float, done.stdout.split())))
    base, *_ = medians = [np.median(times, 0) for times in found.values()]
    print(f"largest network, seconds for statistics of 1,000 images and for {run.info.images['held-out']:,} evaluated:")
    for name, times in zip(WAYS, medians, strict=True):
        print(f"{name}: {times[0]:.2f} and {times[1]:.2f}, {times[0] / base[0]:.2f} and {times[1] / base[1]:.2f} times as long")


if __name__ == "__main__":
    main()
