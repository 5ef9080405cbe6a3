"""Search with the authors' accuracy predictor and Samsung Note10 tables (w1.2, 160 to 224 pixels): how good, how fast.

    python benchmarks/search.py FOLDER [SEEDS]

FOLDER holds what the authors published: acc_predictor.pth and note10/. For each budget: the score that the original's evolution
reached (best of 3 seeds, 7.5 s each; reference/once-for-all.md), the aim, and the worst, median and best score of `maximise` over
the seeds, with the longest time of one search. Then the whole front by one call of `pareto` at 50 budgets, against 50 single
searches. Results: docs/results/search.md.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

import onceforall
from onceforall.accuracy import AccuracyPredictor
from onceforall.latency import LatencyTable
from onceforall.search import maximise, pareto

ORIGINAL = {15: 0.7854, 20: 0.8068, 25: 0.8192, 30: 0.8278, 40: 0.8403, 50: 0.8472}
AIMS = {15: 0.7875, 20: 0.8075, 25: 0.8215, 30: 0.8300, 40: 0.8420, 50: 0.8500}
BUDGETS = np.linspace(12, 65, 50)


def main() -> None:
    folder, seeds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    space = onceforall.space("mobilenet_v3", width=1.2, resolutions=(160, 176, 192, 208, 224))
    score = AccuracyPredictor.from_published(folder / "acc_predictor.pth", space).predict
    latency = LatencyTable.from_published(folder / "note10", space).estimate
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {seeds} seeds\n")
    print("| budget, ms | original | aim | worst | median | best | seeds that reach the aim | longest, s |")
    print("|---|---|---|---|---|---|---|---|")
    maximise(space, score, {"latency_ms": (latency, 20.0)}, evaluations=5000)  # warms up
    for budget, aim in AIMS.items():
        found = [maximise(space, score, {"latency_ms": (latency, float(budget))}, seed=seed) for seed in range(seeds)]
        scores = np.array([result.score for result in found])
        numbers = f"{scores.min():.4f} | {np.median(scores):.4f} | {scores.max():.4f} | {(scores >= aim).sum()} of {seeds}"
        longest = max(result.seconds for result in found)
        print(f"| {budget} | {ORIGINAL[budget]:.4f} | {aim:.4f} | {numbers} | {longest:.2f} |", flush=True)
    started = time.perf_counter()
    limits = {"latency_limit": (latency, float(BUDGETS[-1]))}
    front = pareto(space, {"accuracy": (score, "max"), "latency_ms": (latency, "min")}, limits, seed=0)
    seconds = time.perf_counter() - started
    ms = np.array([point.values["latency_ms"] for point in front.points])
    accuracy = np.array([point.values["accuracy"] for point in front.points])
    best = np.array([accuracy[ms <= budget].max() for budget in BUDGETS])
    started = time.perf_counter()
    single = np.array([maximise(space, score, {"latency_ms": (latency, float(b))}, seed=0).score for b in BUDGETS])
    alone = time.perf_counter() - started
    below = single - best
    print(f"\nfront: {len(ms)} networks in {seconds:.1f} s; 50 single searches took {alone:.1f} s")
    print(f"front less single search: mean {-below.mean():+.5f}, lowest {-below.max():+.5f}, highest {-below.min():+.5f}; ", end="")
    print(f"more than 0.0005 below at {(below > 0.0005).sum()} of 50 budgets")


if __name__ == "__main__":
    main()
