"""Switching between the networks of a bundle against loading exported networks anew, and the memory of both.

    python benchmarks/bundle.py BUNDLE [--rounds 50] [--threads 1]

BUNDLE is a folder of `ofa bundle`. Its networks are also written as exports of their own (weights.safetensors, model.py) to a
temporary folder. Printed: ratios of time and size, and the resident memory that the networks of each way, run once, add to a
process of its own in which others were loaded, run and dropped before (the smallest of five processes).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from onceforall import load_bundle
from onceforall.pipeline.specialising.switching import compare_sizes, measure_switching, write_separately

PROBE = """
import ctypes, gc, sys
from pathlib import Path
import torch
from onceforall.export import FORMATS, load_bundle
torch.set_num_threads(int(sys.argv[1]))
def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmRSS"))
def networks():
    if sys.argv[2] == "bundle":
        made = load_bundle(sys.argv[3])
        found = [made.network(name) for name in made.names]
    else:
        found = [FORMATS["pytorch"].load(Path(place), 1) for place in sys.argv[4::2]]
    with torch.no_grad():
        for network, size in zip(found, map(int, sys.argv[5::2])):
            network(torch.zeros(1, 3, size, size))
    return found
networks()  # brings in the libraries and buffers that any network needs
before = resident()
kept = networks()
print(resident() - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made = load_bundle(arguments.bundle)
    rng = np.random.default_rng(0)
    sizes = {name: member.arch.resolution for name, member in made.members.items()}
    images = {name: torch.from_numpy(rng.standard_normal((1, 3, r, r), np.float32)) for name, r in sizes.items()}
    with tempfile.TemporaryDirectory() as folder:
        places = write_separately(made, Path(folder))
        found = compare_sizes(arguments.bundle, made, places)
        load_ms, switches = measure_switching(arguments.bundle, places, images, threads=arguments.threads, rounds=arguments.rounds)
        of_each = [text for name, place in places.items() for text in (str(place), str(sizes[name]))]
        command = [sys.executable, "-c", PROBE, str(arguments.threads)]
        resident = {
            way: min(int(subprocess.check_output([*command, way, str(arguments.bundle), *of_each])) for _ in range(5))
            for way in ("bundle", "exports")
        }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, threads: {arguments.threads}; medians of {arguments.rounds}, ms")
    print(f"reading the bundle of {len(images)} networks: {load_ms:.1f}")
    print("| network | first call | after another | once more | own export, read anew and called | once more | anew / switch |")
    print("|---|---|---|---|---|---|---|")
    for name, s in switches.items():
        numbers = " | ".join(f"{value:.2f}" for value in (s.first, s.again, s.steady, s.anew, s.alone))
        print(f"| {name} | {numbers} | {s.anew / s.again:.1f} |")
    print("\n| | bundle | exports | ratio |\n|---|---|---|---|")
    for what, own, separate in (
        ("on disk", found.disk, found.disk_separate),
        ("weights in memory", found.memory, found.memory_separate),
        ("resident memory added", resident["bundle"], resident["exports"]),
    ):
        print(f"| {what} | {own / 1e6:.2f} MB | {separate / 1e6:.2f} MB | {own / separate:.2f} |")


if __name__ == "__main__":
    main()
