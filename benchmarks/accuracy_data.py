"""Accuracy data as a tree of sub-networks against one sub-network after the other, on a trained run.

    python benchmarks/accuracy_data.py RUN --out FOLDER [--subnets 300] [--seeds 2] [--groups 4] [--test 100] [--bodies 40]

1. What a segment's time follows from: seconds of every distinct segment on a batch, fitted by MACs and numbers written.
2. Throughput: of the tree of `--subnets` networks, `--groups` groups are measured together, and every network of them alone
   (extract, recalibrate, evaluate), in turn. Rows must be equal.
3. The same seconds: for each seed a tree of `--subnets` networks, in turn with independent ones (`spread`), each alone, until these
   have taken as many seconds. A predictor of each, checked on `--test` networks drawn independently of both.
4. Interpolation in MACs: `--bodies` networks at all resolutions; those between the smallest and the largest are interpolated.

Rows are kept in FOLDER; a second call goes on where the first stopped. Results: docs/accuracy.md.
"""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from onceforall import Arch, Plan, Supernet
from onceforall.accuracy import AccuracyPredictor, AccuracyRow, append_rows, assess, interpolate, read_rows, spread, tree
from onceforall.accuracy.measure import AT_ONCE, measure_together
from onceforall.accuracy.prefix_tree import grow, units
from onceforall.calibrate import evaluate_network, recalibrate
from onceforall.costs import SegmentTable, macs_table, segment_table
from onceforall.pipeline.run_directory.run import Run

BATCH, PASSES = 64, 3  # of the timed segments
VALUES = {"top-1": lambda row: row.top1, "exp(-loss)": lambda row: float(np.exp(-row.loss))}  # the latter is less noisy


class Bench:
    """A run, and the rows that were measured so far, by name."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.run, self.out = Run.open(folder), out
        self.supernet, self.splits, self.weights = self.run.supernet(), self.run.splits(), self.run.weights_hash()
        self.segments = segment_table(self.run.space, self.run.num_classes)
        self.macs = macs_table(self.segments)

    def calibration(self, resolution: int):  # type: ignore[no-untyped-def]
        return self.run.calibration_batches(self.splits, resolution)

    def held_out(self, resolution: int):  # type: ignore[no-untyped-def]
        return self.run.eval_batches(self.splits.held_out, resolution)

    def together(self, archs: Sequence[Arch]) -> list[AccuracyRow]:
        return measure_together(self.supernet, archs, self.calibration, self.held_out)

    def alone(self, arch: Arch) -> AccuracyRow:
        began = time.perf_counter()
        found = evaluate_network(
            recalibrate(self.supernet.extract(arch), self.calibration(arch.resolution)), self.held_out(arch.resolution)
        )
        return AccuracyRow(arch, found.top1, found.loss, found.images, time.perf_counter() - began)

    def groups(self, archs: Sequence[Arch]) -> list[list[Arch]]:
        return units(grow({arch: self.run.space.lower(arch, self.run.num_classes) for arch in archs}), AT_ONCE)

    def rows(self, name: str) -> list[AccuracyRow]:
        return read_rows(self.out / name, self.run.space, weights_hash=self.weights)

    def keep(self, name: str, rows: Sequence[AccuracyRow]) -> None:
        append_rows(self.out / name, self.run.space, rows, weights_hash=self.weights)

    def measured(self, name: str, archs: Sequence[Arch]) -> list[AccuracyRow]:
        """Those of these networks that are not in the rows of that name yet are measured as a tree."""
        known = {row.arch for row in self.rows(name)}
        for group in self.groups([arch for arch in archs if arch not in known]):
            self.keep(name, self.together(group))
        return self.rows(name)


def times(segments: SegmentTable, supernet: Supernet) -> None:
    seconds, macs, written = [], [], []
    with torch.no_grad():
        for segment in segments.distinct():
            network, x = supernet.cut(Plan((segment,))).train(), torch.randn(BATCH, *segment.in_shape)
            x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
            best = float("inf")
            for _ in range(PASSES + 1):
                began = time.perf_counter()
                network(x)
                best = min(best, time.perf_counter() - began)
            seconds.append(best)
            macs.append(segment.macs * BATCH)
            written.append(sum(int(np.prod(op.shape)) for op in segment.ops) * BATCH)
    y, a = np.array(seconds), np.array([macs, written]).T
    weighted = a / y[:, None]  # relative errors
    by_macs, by_number = np.linalg.lstsq(weighted, np.ones(len(y)), rcond=None)[0]
    off = np.abs(a @ [by_macs, by_number] / y - 1)
    alone = np.abs(a[:, 0] * np.median(y / np.maximum(a[:, 0], 1)) / y - 1)
    print(
        f"segments: {len(y)}; {1e-9 / by_macs:.1f} GMACs/s, a number written takes {by_number / by_macs:.0f} MACs' time; ", end=""
    )
    print(f"median error {np.median(off):.0%} (MACs alone: {np.median(alone):.0%})", flush=True)


def throughput(bench: Bench, archs: Sequence[Arch], number: int) -> None:
    groups, rng = bench.groups(archs), np.random.default_rng(0)
    plans = {arch: bench.run.space.lower(arch, bench.run.num_classes) for arch in archs}
    single = sum(sum(node.work for node in grow({arch: plan})) for arch, plan in plans.items())
    shared = sum(sum(node.work for node in grow({arch: plans[arch] for arch in group})) for group in groups)
    print(f"{len(archs)} networks in {len(groups)} groups; estimated work one by one / together: {single / shared:.2f}", flush=True)
    n, one, many, worst = 0, 0.0, 0.0, 0.0
    for i in rng.permutation(len(groups))[:number].tolist():
        alone = [bench.alone(arch) for arch in groups[i][::2]]
        rows = {row.arch: row for row in bench.together(groups[i])}
        alone += [bench.alone(arch) for arch in groups[i][1::2]]
        took = sum(row.seconds for row in alone), sum(row.seconds for row in rows.values())
        wrong = sum(rows[row.arch].top1 != row.top1 for row in alone)
        worst = max(worst, max(abs(rows[row.arch].loss - row.loss) for row in alone))
        n, one, many = n + len(alone), one + took[0], many + took[1]
        print(
            f"  group of {len(alone)} at {groups[i][0].resolution} px: {took[0]:.1f} s one by one, {took[1]:.1f} s together, ",
            end="",
        )
        print(f"{took[0] / took[1]:.2f} times; {wrong} differ in top-1", flush=True)
    print(
        f"{n} networks: {one / n:.2f} s each one by one, {many / n:.2f} s together: {one / many:.2f} times the throughput; ", end=""
    )
    print(f"losses differ by {worst:.1e} at most", flush=True)


def same_cost(bench: Bench, subnets: int, seeds: int, tests: int) -> None:
    space = bench.run.space
    test = bench.measured("test", spread(space, np.random.default_rng([77, 0]), tests, bench.macs))
    print(
        "| seed | networks | seconds | what | RMSE | Kendall tau | 90 % error bars cover |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for seed in range(seeds):
        archs = tree(space, np.random.default_rng([seed, 5]), subnets, bench.segments)
        pool = iter(spread(space, np.random.default_rng([seed, 9]), subnets, bench.macs))
        order = np.random.default_rng(seed).permutation(subnets)
        names = f"tree-{seed}", f"alone-{seed}"
        alone = {row.arch for row in bench.rows(names[1])}
        pool = [arch for arch in np.array([*pool], object)[order] if arch not in alone]
        known = {row.arch for row in bench.rows(names[0])}
        for group in bench.groups([arch for arch in archs if arch not in known]):
            bench.keep(names[0], bench.together(group))
            target = sum(row.seconds for row in bench.rows(names[0]))
            spent = sum(row.seconds for row in bench.rows(names[1]))
            while spent < target and pool:  # in turn, so that a busy machine slows both
                bench.keep(names[1], [bench.alone(pool.pop())])
                spent = sum(row.seconds for row in bench.rows(names[1]))
        for name, (what, value) in product(names, VALUES.items()):
            tested = {row.arch for row in test}
            rows = [row for row in bench.rows(name) if row.arch not in tested]
            losses = [row.loss for row in rows] if what == "top-1" else None
            predictor = AccuracyPredictor.fit(
                space, [row.arch for row in rows], [value(row) for row in rows], losses=losses, seed=seed
            )
            e = assess(predictor, [row.arch for row in test], [value(row) for row in test])
            seconds = sum(row.seconds for row in rows)
            print(
                f"| {seed}, {name.split('-')[0]} | {len(rows)} | {seconds:.0f} | {what} | {e.rmse:.3%} | {e.kendall_tau:.3f} | ",
                end="",
            )
            print(f"{e.coverage90:.0%} |", flush=True)
    top1, half = (np.array([value(row) for row in test]) for value in (VALUES["top-1"], lambda row: row.top1_half))
    noise = float((half - top1).std())  # half the difference of the two halves
    print(f"{len(test)} test networks: top-1 {top1.min():.1%} to {top1.max():.1%}, standard deviation {top1.std():.2%}, ", end="")
    print(f"of which {noise:.2%} is due to the choice of {test[0].images} images", flush=True)


def interpolation(bench: Bench, number: int) -> None:
    space = bench.run.space
    low, high = space.resolutions[0], space.resolutions[-1]
    part = space.restrict(resolutions=(high,))
    bodies = tree(part, np.random.default_rng(3), number, segment_table(part, bench.run.num_classes))
    rows = {
        row.arch: row for row in bench.measured("bodies", [replace(b, resolution=r) for b in bodies for r in space.resolutions])
    }
    found = interpolate(space, [row for row in rows.values() if row.arch.resolution in (low, high)], bench.macs)
    for resolution in space.resolutions[1:-1]:
        pairs = [(row, rows[row.arch]) for row in found if row.arch.resolution == resolution]
        off = np.array([guess.top1 - true.top1 for guess, true in pairs])
        loss = np.array([guess.loss - true.loss for guess, true in pairs])
        print(f"{resolution} px from {low} and {high}: top-1 is off by {off.mean():+.2%} on average, ", end="")
        print(f"{np.sqrt((off**2).mean()):.2%} root mean square, {np.abs(off).max():.2%} at most; ", end="")
        print(f"loss by {loss.mean():+.4f}, {np.sqrt((loss**2).mean()):.4f} (n = {len(off)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name, default in {"subnets": 300, "seeds": 2, "groups": 4, "test": 100, "bodies": 40}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    bench = Bench(arguments.run, arguments.out)
    space = bench.run.space
    print(f"{arguments.run}: {space.family} {space.arguments}, {len(bench.splits.held_out)} held-out images")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}", flush=True)
    times(bench.segments, bench.supernet)
    archs = tree(space, np.random.default_rng([0, 5]), arguments.subnets, bench.segments)
    throughput(bench, archs, arguments.groups)
    same_cost(bench, arguments.subnets, arguments.seeds, arguments.test)
    if len(space.resolutions) > 2:
        interpolation(bench, arguments.bodies)


if __name__ == "__main__":
    main()
