"""Two checkouts of this project in turns: did anything get slower?

    python benchmarks/two_versions.py BEFORE AFTER --published FOLDER --run RUN [--rounds 9] [--only train_step …]

BEFORE and AFTER are checkouts (`git worktree add ../before COMMIT`). Each measurement is a process of its own that prints the
processor seconds of one operation, which other programs disturb less than elapsed time. In every round each operation runs once
with either checkout, in an order that changes from round to round. Printed are the medians and the median of the pairs' ratios
(after / before), with the quartiles of these.

FOLDER holds what the authors published (acc_predictor.pth and note10/), for `search` and `latency_lookup`. RUN is a run directory
with a profile and a predictor that both can open, for `specialise` and `status`; it is copied first. Results:
docs/results/speed.md.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SETUP = "import time, numpy as np, torch; torch.set_num_threads(1)\n"
TRAIN_STEP = """
import onceforall
from onceforall import Supernet
from torch.nn import functional as F
space = onceforall.space("mobilenet_v3", width=1.0, resolutions=(96,))
supernet = Supernet(space, num_classes=10).train()
images, labels = torch.randn(16, 3, 96, 96).contiguous(memory_format=torch.channels_last), torch.arange(16) % 10
archs = [space.largest(), space.smallest(), *(space.sample(np.random.default_rng(i)) for i in range(4))]
for repeat in range(2):
    started = time.process_time()
    for arch in archs:
        F.cross_entropy(supernet(images, arch), labels).backward()
        supernet.zero_grad(set_to_none=True)
    found = time.process_time() - started
print(found)
"""
SEARCH = """
import onceforall
from onceforall.accuracy import AccuracyPredictor
from onceforall.latency import LatencyTable
from onceforall.search import maximise
space = onceforall.space("mobilenet_v3", width=1.2, resolutions=(160, 176, 192, 208, 224))
predictor = AccuracyPredictor.from_published("{published}/acc_predictor.pth", space)
table = LatencyTable.from_published("{published}/note10", space)
started = time.process_time()
for budget in (20, 30, 50):
    maximise(space, predictor.predict, {{"latency": (table.estimate, budget)}}, seed=0)
print(time.process_time() - started)
"""
LATENCY_LOOKUP = """
import onceforall
from onceforall.latency import LatencyTable
space = onceforall.space("mobilenet_v3", width=1.2, resolutions=(160, 176, 192, 208, 224))
table = LatencyTable.from_published("{published}/note10", space)
archs = [space.sample(np.random.default_rng(i)) for i in range(2000)]
genes = np.repeat(space.genes(archs), 100, axis=0)
started = time.process_time()
for _ in range(3):
    table.estimate(genes)
    table.estimate(archs)
print(time.process_time() - started)
"""
COMMAND = """
import os, subprocess, sys
before = os.times()
subprocess.run([sys.executable, *{arguments!r}], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
after = os.times()
print(after.children_user + after.children_system - before.children_user - before.children_system)
"""


def operations(published: Path | None, run: Path | None, place: Path) -> dict[str, str]:
    """Code of each operation."""
    found = {"train_step": SETUP + TRAIN_STEP}
    if published is not None:
        found["search"] = SETUP + SEARCH.format(published=published.resolve())
        found["latency_lookup"] = SETUP + LATENCY_LOOKUP.format(published=published.resolve())
    if run is not None:
        found["specialise"] = COMMAND.format(arguments=["-m", "onceforall", "specialise", str(place), "--macs", "1G"])
        found["ofa status"] = COMMAND.format(arguments=["-m", "onceforall", "status", str(place)])
    found["import onceforall"] = COMMAND.format(arguments=["-c", "import onceforall"])
    found["ofa --help"] = COMMAND.format(arguments=["-m", "onceforall", "--help"])
    return found


def seconds(checkout: Path, code: str) -> float:
    """Processor seconds that the code prints, run with a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {done.stderr}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        for name, code in operations(arguments.published, arguments.run, place).items():
            if arguments.only and name not in arguments.only:
                continue
            pairs = []
            for number in range(arguments.rounds + 1):
                found = {}
                for checkout in (arguments.before, arguments.after)[:: -1 if number % 2 else 1]:
                    if arguments.run is not None:
                        shutil.rmtree(place, ignore_errors=True)
                        shutil.copytree(arguments.run, place)
                    found[checkout] = seconds(checkout, code)
                pairs.append((found[arguments.before], found[arguments.after]))
            pairs = pairs[1:]  # the first round fills caches
            ratios = [after / before for before, after in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
            told = f"{before:8.3f} s before, {after:8.3f} s after, ratio {middle:.3f} [{low:.3f}, {high:.3f}], n = {len(pairs)}"
            print(f"{name:18} {told}", flush=True)


if __name__ == "__main__":
    main()
