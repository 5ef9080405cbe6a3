"""Seconds of `ofa specialise` on a run with profile and predictor (the aim is 30 on two cores), and what small batches gain.

    python benchmarks/specialise.py RUN [--device cpu] [--export onnx] [--repeats 3]

The command is run as users run it, a process of its own each time, for latency budgets spread between the smallest and the largest
network of the run: search, finalists measured, export, proof, test accuracy and latency through the files. Then one network is
evaluated on the held-out images in batches of 256 and of `EVALUATION_BATCH`, in turns, with one thread: the ratio of the shortest
times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from onceforall.calibrate import evaluate
from onceforall.data import eval_batches
from onceforall.latency import Device, LatencyTable
from onceforall.pipeline import Run
from onceforall.pipeline.evaluate import calibrated
from onceforall.pipeline.run import EVALUATION_BATCH

TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", default="onnx")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
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
        print(f"within {limit}: {seconds[-1]:.1f} s", flush=True)
    print(f"{min(seconds):.1f} to {max(seconds):.1f} s, n = {len(seconds)}; the aim is 30 s")

    torch.set_num_threads(1)
    splits = run.splits()
    network = calibrated(run, run.supernet(), run.space.largest(), splits)

    def once(batch: int) -> float:
        began = time.perf_counter()
        evaluate(network, eval_batches(splits.held_out, run.space.largest().resolution, batch, run.preprocessing))
        return time.perf_counter() - began

    times = [(once(256), once(EVALUATION_BATCH)) for _ in range(TURNS)]
    large, small = (min(found) for found in zip(*times, strict=True))
    ratio = f"{large:.2f} s in batches of 256, {large / small:.2f} times as long as in batches of {EVALUATION_BATCH}"
    print(f"largest network, {len(splits.held_out):,} images: {ratio}")


if __name__ == "__main__":
    main()
