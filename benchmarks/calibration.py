"""How much held-out accuracy depends on the images that BatchNorm statistics are measured on.

    python benchmarks/calibration.py RUN [--networks 12]

Random sub-networks of a run, each with statistics of other numbers of training images, other batches, other images. For each way:
mean and standard deviation, over the networks, of the difference in top-1 from the first way, in points. What other images of the
same number change is what a measurement cannot know.
"""

import argparse
from pathlib import Path

import numpy as np

from onceforall.calibrate import evaluate_network, recalibrate
from onceforall.data import calibration_batches
from onceforall.pipeline import Run

WAYS = ((2000, 125, 0), (2000, 50, 0), (2000, 32, 0), (2000, 125, 1), (1000, 50, 0), (500, 50, 0))  # images, batch, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", type=int, default=12)
    given = parser.parse_args()
    run, rng = Run.open(given.run), np.random.default_rng(11)
    splits, supernet = run.splits(), run.supernet()
    found = []
    for _ in range(given.networks):
        arch = run.space.sample(rng)
        network, r, points = supernet.extract(arch), arch.resolution, []
        for images, batch, seed in WAYS:
            ready = recalibrate(network, calibration_batches(splits.train, r, images, batch, seed, run.preprocessing))
            points.append(100 * evaluate_network(ready, run.eval_batches(splits.held_out, r)).top1)
        found.append(points)
        print(" ".join(f"{top1:.2f}" for top1 in points), flush=True)
    change = np.array(found) - np.array(found)[:, :1]
    print(f"\n{given.networks} networks, {len(splits.held_out):,} held-out images\n\n| images | batch | seed | mean | deviation |")
    print("|---|---|---|---|---|")
    for way, mean, deviation in zip(WAYS, change.mean(0), change.std(0), strict=True):
        print(f"| {way[0]:,} | {way[1]} | {way[2]} | {mean:+.2f} | {deviation:.2f} |")


if __name__ == "__main__":
    main()
