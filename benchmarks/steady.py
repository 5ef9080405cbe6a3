"""Is a network better chosen by its score on few held-out images, or with the mean probability of the right class beside it?

    python benchmarks/steady.py RUN [--images 137] [--draws 60] [--threads 1]

RUN is a finished run whose sub-networks were measured (`ofa predict`). Each of them classifies all held-out and test images once.
In every draw, some images of each class count as held-out, for measuring, predicting and choosing networks, and the others give the
truth, by the run's metric: top-1 or balanced accuracy. Printed are, as means over the draws: Kendall's tau between scores and
truth, over all networks and over the larger half; the true score of the best-scored network within each of 18 limits on
multiply-accumulates; and the standard deviation of score - truth. Measured and steadied (`onceforall.accuracy.steadying`) are the
networks' own scores, the predictors are fitted to these. The run's own test images are opened: use a copy. Results:
docs/results/predictor.md.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from onceforall.accuracy import AccuracyPredictor, AccuracyRow, fit_rows, measurement_noise, read_rows, steadying
from onceforall.pipeline import Run
from onceforall.pipeline.evaluate import calibrated, judge_network

CALIBRATION = 256  # training images for the statistics, the same for all
LIMITS = np.linspace(0.15, 1, 18)  # places in the order of size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=137, help="that count as held-out ones in each draw")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run.open(arguments.run)
    if run.metric not in ("top1", "balanced"):
        parser.error(f"{arguments.run} has {run.metric}: give a run with top-1 or balanced accuracy")
    splits, supernet = run.splits(), run.supernet()
    archs = [row.arch for row in read_rows(run.accuracy, run.space, weights_hash=run.weights_hash())]
    parts = splits.held_out, splits.open_test("benchmarks/steady.py")
    right, sure = [], []
    for arch in archs:
        network, batches = calibrated(run, supernet, arch, splits, images=CALIBRATION), list[tuple[np.ndarray, np.ndarray]]()
        for part in parts:
            judge_network(run, network, part, arch.resolution, lambda *batch, to=batches: to.append(batch))
        labels, p = (np.concatenate(part) for part in zip(*batches, strict=True))
        right.append(p.argmax(1) == labels)
        sure.append(p[np.arange(len(labels)), labels])
    compare(run, archs, labels, np.array(right, np.float64), np.array(sure), arguments.images, arguments.draws)


def compare(run: Run, archs: list, labels: np.ndarray, right: np.ndarray, sure: np.ndarray, images: int, draws: int) -> None:
    """Draw and print; `right` and `sure` are (networks, images)."""
    counts = np.bincount(labels)

    def told_by(outcomes: np.ndarray, part: np.ndarray) -> np.ndarray:
        weights = np.ones(len(part)) if run.metric == "top1" else 1 / np.bincount(labels[part])[labels[part]]
        return outcomes[:, part] @ weights / weights.sum()

    macs = np.array([run.space.lower(arch, run.num_classes).macs for arch in archs])
    limits, large = np.sort(macs)[(LIMITS * (len(macs) - 1)).astype(int)], macs >= np.median(macs)
    rng, found = np.random.default_rng(0), dict[str, list[tuple[float, ...]]]()
    for _ in range(draws):
        places = np.empty(len(labels), int)  # of each image among those of its class, in random order
        for label, n in enumerate(counts):
            places[labels == label] = rng.permutation(n)
        held = places < np.maximum(1, np.round(counts * images / len(labels)))[labels]
        truth, parity = told_by(right, np.flatnonzero(~held)), (places + labels) % 2
        parts = [np.flatnonzero(held & which) for which in (True, parity == 0, parity == 1)]
        losses = -np.log(np.maximum(sure[:, held], 1e-12)).mean(1)
        n = np.bincount(labels[held])
        effective = int(held.sum()) if run.metric == "top1" else max(2, round(len(n) ** 2 / float((1 / n[n > 0]).sum())))
        names = ("top1", "soft", "top1_half", "soft_half", "top1_rest", "soft_rest")
        numbers = np.stack([losses, *(told_by(scores, part) for part in parts for scores in (right, sure))], 1).tolist()
        rows = [
            AccuracyRow(arch, loss=loss, images=effective, seconds=0.1, **dict(zip(names, values, strict=True)))
            for arch, (loss, *values) in zip(archs, numbers, strict=True)
        ]
        if run.metric != "top1":
            rows = [replace(row, score=row.top1) for row in rows]
        measured = np.array([row.value for row in rows])
        before = AccuracyPredictor.fit(run.space, archs, measured, losses=losses, noise=measurement_noise(rows))
        scores = {
            "measured": measured,
            "steadied": np.array([row.value for row in steadying(rows)(rows)]),
            "predictor of measured": before.predict(archs),
            "predictor of steadied": fit_rows(run.space, rows, weights_hash="").predict(archs),
        }
        for name, score in scores.items():
            chosen = [truth[np.where(macs <= limit, score, -1).argmax()] for limit in limits]
            taus = kendalltau(score, truth)[0], kendalltau(score[large], truth[large])[0]
            found.setdefault(name, []).append((*taus, np.mean(chosen), np.std(score - truth)))
    print(f"{len(archs)} networks, {images} of {right.shape[1]} images, {draws} draws")
    first = np.array(found["predictor of measured"])
    for name, rows_of_draws in found.items():
        values = np.array(rows_of_draws)
        tau, tau_large, chosen, off = values.mean(0)
        gain = 100 * (values - first)[:, 2]
        told = f"tau {tau:.3f}, larger half {tau_large:.3f}; chosen {100 * chosen:.2f} %; sd {100 * off:.2f} points"
        print(f"{name:22} {told}; chosen - predictor of measured {gain.mean():+.2f} ± {gain.std() / draws**0.5:.2f}")


if __name__ == "__main__":
    main()
