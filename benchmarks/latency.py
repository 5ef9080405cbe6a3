"""How far off latency tables are: held-out sub-networks of two spaces, on both runtimes, one thread, batch 1.

    python benchmarks/latency.py [--quick] [small|half] [onnxruntime|pytorch]

First line: seconds for the profile, number and range of held-out networks. Then mean absolute percentage error, Kendall tau, and
shares within 5, 6 and 10 %: on networks timed in turns with those that were fitted; on 30 networks timed afterwards; of MACs times
the best factor on these 30. Last, how much the times of the 30 change when they are timed once more: no table can do better.

Measured with --quick on 2 cores (AMD EPYC, family 26) WHILE OTHER PROGRAMS KEPT THEM BUSY (load average 10), torch 2.15.0,
onnxruntime 1.32.0; an idle machine was not to be had. n = 16 in turns, 30 afterwards. One run each; two more of small on
onnxruntime gave errors of 1.11 and 1.4 % in turns:

    space  runtime      networks, ms    in turns: error, tau, in 6 %   afterwards            MACs           timed again (median)
    small  onnxruntime  0.087 to 0.327  1.02 %  1.000  100 %           1.01 %  0.991  100 %  12.9 %  0.894  0.38 %
    small  pytorch      1.034 to 2.740  3.20 %  0.900   94 %           5.87 %  0.899   53 %  24.7 %  0.660  2.05 %
    half   onnxruntime  0.209 to 1.063  2.44 %  0.983  100 %           4.44 %  0.926   70 %   6.7 %  0.880  5.93 %

The quick profile of small on onnxruntime takes 12 s of processor time.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

import onceforall
from onceforall.costs import macs_table
from onceforall.latency import Device, LatencyErrors, measure_networks, profile_space, stand_in

SPACES = {
    "small": onceforall.space(
        "mobilenet_v3", width=0.5, resolutions=(20, 24, 28, 32), depths=(1, 2), strides=(1, 1, 2, 2, 1, 1, 2)
    ),
    "half": onceforall.space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128)),
}
RUNTIMES = ("onnxruntime", "pytorch")


def row(name: str, errors: LatencyErrors) -> str:
    shares = "  ".join(f"{errors.within(fraction):5.0%}" for fraction in (0.05, 0.06, 0.1))
    return f"  {name:22} {errors.mape:6.2%}  {errors.kendall_tau:.3f}  {shares}"


def main(arguments: Sequence[str]) -> None:
    quick = "--quick" in arguments
    for name in [a for a in arguments if a in SPACES] or SPACES:
        for runtime in [a for a in arguments if a in RUNTIMES] or RUNTIMES:
            space, started = SPACES[name], time.perf_counter()
            table = profile_space(space, 10, Device(runtime), quick=quick)
            seconds = time.perf_counter() - started
            errors, genes = table.errors, space.sample_genes(np.random.default_rng(1), 30)
            low, high = min(errors.measured), max(errors.measured)
            print(
                f"{name} {runtime} {table.version}, {table.processor}: {seconds:.0f} s, n = {errors.n}, {low:.3f} to {high:.3f} ms"
            )
            print(row("table", errors))
            plans = [space.lower(arch, 10) for arch in space.archs(genes)]
            pairs = [(plan, stand_in(plan)) for plan in plans]
            first, second = ([t.ms for t in measure_networks(pairs, table.device, baseline_ms=table.baseline_ms)] for _ in range(2))
            later = LatencyErrors(tuple(table.estimate(genes).tolist()), tuple(first))
            print(row("table, later networks", later))
            macs = macs_table(table.costs.segments).estimate(genes)
            print(row("MACs × factor", LatencyErrors(tuple((macs * np.median(np.array(first) / macs)).tolist()), tuple(first))))
            change = np.abs(np.array(second) / np.array(first) - 1)
            print(f"  timed again: median {np.median(change):.2%}, 95th percentile {np.quantile(change, 0.95):.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
