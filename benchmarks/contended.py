"""A training step of the digits' network on a machine that does something else too: with threads that spin at barriers as torch's
OpenMP has them spin, and as `ofa` bounds it (`onceforall/common/processors.py`).

    python benchmarks/contended.py [--steps 12] [--rounds 5] [--spin 10000 3000] [--threads N]

The variables count only before torch is loaded, so each way is a process of its own. All are loaded at once and compute in turns,
one at a time, `--steps` steps each, in mixed order: alone, and beside one other process that only counts, on whatever core it gets.
Printed are medians over the rounds, in ms, and what they are relative to the first way alone. The aims: alone at most 1.05 times
what it is without a bound, and beside the busy process at most 5 times what it is alone. Other work on the machine spoils both: the
load average is printed, and the share of the processors' time that others took while nothing but this was to run.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from importlib import metadata

if "--unbounded" in sys.argv:
    import torch  # noqa: F401  loaded before onceforall, it waits in its own way

from onceforall.common.processors import SPINNING, processor_name, processors

BUSY = "while True: pass"
WAITING = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", *SPINNING)
AIMS = 1.05, 5.0


def compute(threads: int) -> None:
    """A process of one way: the seconds of so many steps for every number that comes on standard input."""
    import torch
    from torch.nn import functional as F

    import onceforall
    from onceforall.options.presets import PRESETS

    torch.set_num_threads(threads)
    preset = PRESETS["digits"]
    space = onceforall.space(preset.family, **preset.arguments)
    supernet = onceforall.Supernet(space, 10).train()
    largest = space.largest()
    images = torch.randn(preset.recipe.batch_size, 3, largest.resolution, largest.resolution).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.arange(len(images)) % 10

    def step() -> float:
        started = time.perf_counter()
        F.cross_entropy(supernet(images, largest), labels).backward()
        supernet.zero_grad()
        return time.perf_counter() - started

    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        print(*(step() for _ in range(int(line))), flush=True)


def started(variables: dict[str, str] | None, threads: int) -> subprocess.Popen[str]:
    own = {key: value for key, value in os.environ.items() if key not in WAITING}
    program = [sys.executable, __file__, "--threads", str(threads), "--compute"]
    if variables is None:
        program.append("--unbounded")
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**own, **(variables or {})})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def median_ms(process: subprocess.Popen[str], steps: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    print(steps, file=process.stdin, flush=True)
    return 1000 * statistics.median(map(float, process.stdout.readline().split()))


def others_s(processes: list[subprocess.Popen[str]]) -> float:
    """Seconds that all processors together have computed for other processes than these, as Linux tells it; 0 elsewhere."""
    if sys.platform != "linux":
        return 0.0
    with open("/proc/stat") as file:
        ticks = sum(map(int, file.readline().split()[1:4]))
    for process in processes:
        with open(f"/proc/{process.pid}/stat") as file:
            ticks -= sum(map(int, file.read().rpartition(") ")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spin", nargs="*", default=[], metavar="N", help="other values of GOMP_SPINCOUNT to try")
    parser.add_argument("--threads", type=int, default=processors(), help="of torch")
    parser.add_argument("--compute", action="store_true", help="used by the program itself, as is the next")
    parser.add_argument("--unbounded", action="store_true")
    given = parser.parse_args()
    if given.compute:
        compute(given.threads)
        return
    ways: dict[str, dict[str, str] | None] = {"no bound": None, "as ofa does": {}}
    ways |= {f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": n} for n in given.spin}
    ways["OMP_WAIT_POLICY=passive"] = {"OMP_WAIT_POLICY": "passive"}
    load = os.getloadavg()[0]
    processes = {name: started(variables, given.threads) for name, variables in ways.items()}
    times: dict[tuple[str, bool], list[float]] = {(name, beside): [] for name in ways for beside in (False, True)}
    foreign: list[float] = []
    order, rng = list(times), random.Random(0)
    try:
        for _ in range(given.rounds):
            rng.shuffle(order)
            for name, beside in order:
                neighbour = subprocess.Popen([sys.executable, "-c", BUSY]) if beside else None
                try:
                    time.sleep(0.3)  # the neighbour has begun, and threads of the last turn have gone to sleep
                    before, began = others_s([*processes.values()]), time.perf_counter()
                    times[name, beside].append(median_ms(processes[name], given.steps))
                    if neighbour is None:
                        used = others_s([*processes.values()]) - before
                        foreign.append(used / (time.perf_counter() - began) / (os.cpu_count() or 1))
                finally:
                    if neighbour is not None:
                        neighbour.kill()
                        neighbour.wait()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    found = {key: statistics.median(values) for key, values in times.items()}
    base = found["no bound", False]
    machine = f"{processor_name()}, {os.cpu_count()} processors, {processors()} of them to use"
    print(f"{machine}, torch {metadata.version('torch')}")
    others = f", others took {statistics.median(foreign):.0%} of the processors' time"
    print(
        f"{given.threads} threads, load {load:.1f} before it began{others}; {given.rounds} rounds of {given.steps} steps, medians"
    )
    for name in ways:
        alone, beside = found[name, False], found[name, True]
        print(
            f"{name:>23}: alone {alone:7.1f} ms ({alone / base:.2f}), beside one {beside:7.1f} ms ({beside / alone:.2f} of alone)"
        )
    alone, beside = found["as ofa does", False], found["as ofa does", True]
    for what, value, aim in (
        ("alone, of no bound", alone / base, AIMS[0]),
        ("beside a busy process, of alone", beside / alone, AIMS[1]),
    ):
        print(f"{what}: {value:.2f}, the aim is at most {aim:g}: {'kept' if value <= aim else 'missed'}")


if __name__ == "__main__":
    main()
