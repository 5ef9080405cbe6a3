"""How far off latency tables are: held-out sub-networks of a space on a runtime, one thread, batch 1.

    python benchmarks/latency.py [--space full] [--runtime onnxruntime] [--quick] [--once]

For each profile: seconds, measurements, and on the networks kept for testing the mean relative error, Kendall tau and the
shares within 3, 6 and 10 %; the same of a plain sum of the segments' own times, and of MACs, each times the best factor on the
networks that the table was fitted to. The profile is made twice, with other networks (`--once` leaves the second out): how much
its estimates differ, over 1,000 networks, where each stands alone and where the second knows the level of the first, as with `ofa
profile`. Then how many networks a second are estimated. Results: docs/results/latency.md.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

import onceforall
from onceforall.common.files import read_lines
from onceforall.costs import CostTable, macs_table
from onceforall.latency import QUICK, Device, Effort, LatencyErrors, LatencyTable, profile_space
from onceforall.latency.design import Design, key_of

SPACES = {
    "small": {"width": 0.5, "resolutions": (20, 24, 28, 32), "depths": (1, 2), "strides": (1, 1, 2, 2, 1, 1, 2)},
    "half": {"width": 0.5, "resolutions": (96, 112, 128)},
    "full": {"width": 1.0},
}
CLASSES = 10
COMPARED = 1000


def row(name: str, errors: LatencyErrors) -> str:
    shares = " | ".join(f"{errors.within(fraction):.0%}" for fraction in (0.03, 0.06, 0.1))
    return f"| {name} | {errors.mape:.2%} | {errors.kendall_tau:.3f} | {shares} |"


def scaled(
    table: CostTable, fitted: tuple[list[onceforall.Arch], list[float]], truth: LatencyErrors, tested: object
) -> LatencyErrors:
    """A table's estimates times the factor that suits the fitted networks best."""
    factor = float(np.median(np.array(fitted[1]) / table.estimate(fitted[0])))
    return LatencyErrors(tuple((factor * table.estimate(tested)).tolist()), truth.measured)  # type: ignore[arg-type]


def profile(space: onceforall.Space, device: Device, effort: Effort, seed: int, levels: Path) -> tuple[LatencyTable, LatencyTable]:
    with tempfile.TemporaryDirectory() as temporary:
        started = time.perf_counter()
        table = profile_space(space, CLASSES, device, folder=Path(temporary), seed=seed, effort=effort)
        seconds = time.perf_counter() - started
        kept = profile_space(space, CLASSES, device, folder=Path(temporary), seed=seed, effort=effort, levels=levels)
        measured: dict[str, list[float]] = {}
        for record in read_lines(Path(temporary) / "measurements.jsonl"):
            measured.setdefault(str(record["key"]), []).append(float(record["ms"]))
        times = {key: float(np.median(values)) for key, values in measured.items()}
    design = Design(space, CLASSES, effort, seed)
    low, high = min(table.errors.measured), max(table.errors.measured)
    count = sum(map(len, measured.values()))
    print(f"\n{seconds:.0f} s, {count} measurements, {table.errors.n} networks of {low:.3f} to {high:.3f} ms to test\n")
    print("| | mean error | Kendall tau | within 3 % | 6 % | 10 % |\n|---|---|---|---|---|---|")
    print(row("table", table.errors))
    fit_genes, test_genes = design.genes
    plans = [space.lower(arch, CLASSES) for arch in space.archs(fit_genes)]
    known = [(arch, times[key_of(plan)]) for arch, plan in zip(space.archs(fit_genes), plans, strict=True) if key_of(plan) in times]
    fitted = ([arch for arch, _ in known], [ms for _, ms in known])
    pieces = design.sum_of_pieces([times[key_of(plan)] for plan in design.pieces])
    print(row("sum of segments × factor", scaled(pieces, fitted, table.errors, test_genes)))
    print(row("MACs × factor", scaled(macs_table(table.costs.segments), fitted, table.errors, test_genes)), flush=True)
    return table, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=SPACES, default="full")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    space = onceforall.space("mobilenet_v3", **SPACES[arguments.space])
    device, effort = Device.parse(arguments.runtime), QUICK if arguments.quick else Effort()
    with tempfile.TemporaryDirectory() as temporary:
        compare(space, device, effort, Path(temporary) / "levels.jsonl", twice=not arguments.once)


def compare(space: onceforall.Space, device: Device, effort: Effort, levels: Path, *, twice: bool) -> None:
    first, first_kept = profile(space, device, effort, 0, levels)
    print(
        f"\n{space.count():.2g} networks, {device.spec}, version {first.version}, {first.processor}, {os.cpu_count()} cores, ",
        end="",
    )
    print(f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    genes = space.sample_genes(np.random.default_rng(7), 200_000)
    if twice:
        again, again_kept = profile(space, device, effort, 1, levels)
        for how, one, other in (("each alone", first, again), ("levels kept", first_kept, again_kept)):
            change = np.abs(other.estimate(genes[:COMPARED]) / one.estimate(genes[:COMPARED]) - 1)
            share = f"{np.median(change):.2%} (median), {np.quantile(change, 0.95):.2%} (95th percentile)"
            print(f"made twice, {how}: estimates differ by {share}")
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        first.costs.estimate(genes)
        seconds.append(time.perf_counter() - started)
    print(f"{len(genes) / min(seconds) / 1e6:.2f} million estimates a second (best of 5, one core)")


if __name__ == "__main__":
    main()
