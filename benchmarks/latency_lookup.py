"""Architectures per second of a published latency table, against dictionary look-ups by the original's keys.

    OMP_NUM_THREADS=1 python benchmarks/latency_lookup.py [FOLDER]

FOLDER holds the published Note10 tables; without it those of the tests are taken. `load` reads the five files and makes the table.
`ours` estimates a gene matrix of 1,000,000 rows, `list of Arch` 10,000 architectures. `dictionary` adds up entries for the same
10,000 as the original does, from kernels and ratios that are at hand, with a key made for each block. Best of 5.

Measured on one thread of an AMD EPYC (family 26, load average 3.5 of 2 cores), n = 2 runs:

    load 40 ms, yaml 6.0.3, numpy 2.4.6
    ours 2,776,225/s   list of Arch 74,617/s   dictionary 47,665/s   58 times   differ by 7.1e-15 ms
    load 50 ms, yaml 6.0.3, numpy 2.4.6
    ours 2,243,443/s   list of Arch 68,584/s   dictionary 48,639/s   46 times   differ by 7.1e-15 ms
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

import onceforall
from onceforall import Arch
from onceforall.latency import LatencyTable

ROWS, FEW, PASSES = 1_000_000, 10_000, 5
SPACE = onceforall.space("mobilenet_v3", width=1.2, resolutions=(160, 176, 192, 208, 224))
STAGES = ((32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1))  # width, stride, squeeze-excite, h-swish
Settings = tuple[int, list[list[tuple[int, float]]]]


def best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(PASSES):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def look_up(tables: dict[int, dict[str, dict[str, float]]], settings: Settings) -> float:
    resolution, stages = settings
    table, size, channels = tables[resolution], (resolution + 1) // 2, 24
    total = table[f"Conv-input:{resolution}x{resolution}x3-output:{size}x{size}x24"]["mean"]
    total += table[f"expanded_conv-input:{size}x{size}x24-output:{size}x{size}x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0"][
        "mean"
    ]
    for blocks, (width, first_stride, se, hs) in zip(stages, STAGES, strict=True):
        for i, (kernel, ratio) in enumerate(blocks):
            stride = 1 if i else first_stride
            after = (size - 1) // stride + 1
            key = (
                f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{width}-expand:{round(channels * ratio)}"
                f"-kernel:{kernel}-stride:{stride}-idskip:{int(i > 0)}-se:{se}-hs:{hs}"
            )
            total += table[key]["mean"]
            size, channels = after, width
    total += table[f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152"]["mean"]
    total += table[f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152"]["mean"]
    return total + table["Conv_2-input:1x1x1152-output:1x1x1536"]["mean"] + table["Logits-input:1x1x1536-output:1000"]["mean"]


def settings(arch: Arch) -> Settings:
    return arch.resolution, [[(block.kernel, block.expand_ratio) for block in stage.blocks] for stage in arch.stages]


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else Path(__file__).parents[1] / "tests" / "published_data" / "note10"
    load = best(lambda: LatencyTable.from_published(folder, SPACE))
    table = LatencyTable.from_published(folder, SPACE)
    genes = SPACE.sample_genes(np.random.default_rng(0), ROWS)
    archs = SPACE.archs(genes[:FEW])
    tables = {r: yaml.load((folder / f"{r}_lookup_table.yaml").read_bytes(), Loader=yaml.CSafeLoader) for r in SPACE.resolutions}
    given = [settings(arch) for arch in archs]
    ours = ROWS / best(lambda: table.estimate(genes))
    listed = FEW / best(lambda: table.estimate(archs))
    plain = FEW / best(lambda: [look_up(tables, one) for one in given])
    differ = float(np.abs(table.estimate(genes[:FEW]) - np.array([look_up(tables, one) for one in given])).max())
    print(f"load {load * 1000:.0f} ms, yaml {yaml.__version__}, numpy {np.__version__}")
    speeds = f"ours {ours:,.0f}/s   list of Arch {listed:,.0f}/s   dictionary {plain:,.0f}/s"
    print(f"{speeds}   {ours / plain:.0f} times   differ by {differ:.1e} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
