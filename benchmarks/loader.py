"""Images per second of training batches by each way to keep images and each source, and what a GPU would need.

    python benchmarks/loader.py ../shared/data/imagenette --images 600 --short-side 375

DATA is a folder of class folders or of train/ and others of such; without it, random images are made. So many training images of
it are copied, perhaps enlarged to what ImageNet's photographs have, and packed as zip (stored), as WebDataset shards and as Parquet
with row groups of 100. Batches of 64 are made in one calling thread: of decoded images; of images decoded whenever they are needed
by this process, by one other and by two. The ways take turns, since other programs may run on the machine; their median rate and
its ratio to that of decoded images are printed. So is the processor time per image, of all processes, which others disturb less:
cores = images/s × that time.

Then how long it takes to read many small files from a zip archive and from the folder; with --steps, how many images a second one
thread makes of decoded ones, and the share of steps of the preset imagenette-60m that making batches takes.
"""

import argparse
import io
import os
import platform
import shutil
import statistics
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from onceforall import Supernet
from onceforall.data import Augment, Decoding, TrainBatches, open_data, open_source
from onceforall.options.presets import PRESETS
from onceforall.train import STRATEGIES, train_step

BATCH, AT_ONCE = 64, 2  # batches of a turn
SMALL_FILES, SMALL_ROUNDS = 10_000, 7
PASSES, STEPS, THREADS = 5, 12, os.cpu_count() or 1
GPU_RATES = (500, 1000, 2000)
Make = Callable[[int], tuple[Tensor, Tensor]]


class Way:
    """One way to make batches, and its turns."""

    def __init__(self, name: str, batches: TrainBatches, resolution: int, decoding: Decoding | None = None) -> None:
        self.name, self.batches, self.resolution, self.decoding = name, batches, resolution, decoding
        self.step, self.seconds, self.processor_s = 0, list[float](), 0.0

    def turn(self) -> None:
        began, used = time.perf_counter(), self._used()
        for _ in range(AT_ONCE):
            if self.decoding is None:
                self.batches.batch(self.step, self.resolution)
            else:
                self.batches.resized(*self.decoding.crops(self.step), self.resolution)
            self.step += 1
        self.seconds.append((time.perf_counter() - began) / (AT_ONCE * BATCH))
        self.processor_s += self._used() - used

    def _used(self) -> float:
        """Processor time of this process and of those that decode (Linux)."""
        processes = self.decoding._started if self.decoding else []
        stats = [Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split() for process in processes]
        return time.process_time() + sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def begin(self) -> None:
        """Processes are started and their first batches decoded before anything is counted."""
        self.turn()
        self.seconds, self.processor_s = [], 0.0

    @property
    def rate(self) -> float:
        return 1 / statistics.median(self.seconds)

    @property
    def image_ms(self) -> float:
        return 1e3 * self.processor_s / (len(self.seconds) * AT_ONCE * BATCH)


def random_photographs(folder: Path, images: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(2 * images):
        path = folder / "random" / f"class {i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)).resize((500, 375)).save(path)
    return folder / "random"


def copied(data: Path, folder: Path, images: int, short_side: int | None) -> Path:
    """So many of the training images, spread over the classes, as they are or with this short side."""
    part = open_source(str(data)).train
    order = np.argsort(part.labels, kind="stable")[np.linspace(0, len(part) - 1, min(images, len(part))).astype(np.int64)]
    for i, load in zip(np.sort(order).tolist(), part.read(np.sort(order)), strict=True):
        target = folder / "folder" / f"class{part.labels[i]:03}" / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if short_side is None:
            shutil.copyfile(str(load.original), target)
        else:
            image = load()
            scale = short_side / min(image.size)
            image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC).save(
                target, quality=90
            )
    return folder / "folder"


def packed(root: Path) -> dict[str, Path]:
    """The same images as zip, shards and Parquet."""
    files = sorted(root.rglob("*.jpg"))
    shards, table = root.with_name("shards"), root.with_name("parquet")
    shards.mkdir()
    table.mkdir()
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for file in files:
            archive.write(file, str(file.relative_to(root)))
    for shard in range(2):
        with tarfile.open(shards / f"train-{shard:06}.tar", "w") as tar:
            for file in files[shard::2]:
                for suffix, content in ((".jpg", file.read_bytes()), (".cls", file.parent.name.encode())):
                    info = tarfile.TarInfo(f"{file.stem}{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    labels = sorted({file.parent.name for file in files})
    columns = {"image": [file.read_bytes() for file in files], "label": [labels.index(file.parent.name) for file in files]}
    pq.write_table(pa.table(columns), table / "train.parquet", row_group_size=100)
    return {"folder": root, "zip": root.with_suffix(".zip"), "shards": shards, "Parquet": table}


def compared(sources: dict[str, Path], folder: Path, size: int, resolution: int, rounds: int) -> None:
    """Prints a line for each way and source."""
    augment = Augment()
    with ExitStack() as stack:
        ways = []
        for name, source in sources.items():
            for caching in ("decoded", "none") if name == "folder" else ("none",):
                splits = open_data(str(source), size=size, cache=folder / "cache", caching=caching)
                batches = TrainBatches(splits.train, BATCH, 0, augment)
                if name == "folder":
                    ways.append(Way(f"{name}, {caching}", batches, resolution))
                for processes in () if caching == "decoded" else (1, 2) if name == "folder" else (2,):
                    decoding = stack.enter_context(Decoding(batches, processes=processes, ahead=2))
                    what = f"{name}, none, {processes} process{'es' if processes > 1 else ''}"
                    ways.append(Way(what, batches, resolution, decoding))
        for way in ways:
            way.begin()
        for _ in range(rounds):
            for way in ways:
                way.turn()
    print(f"{'way':>28} {'images/s':>9} {'of decoded':>11} {'ms of processor':>16}", *(f"{rate:>6}/s" for rate in GPU_RATES))
    for way in ways:
        cores = (f"{rate * way.image_ms / 1e3:>8.1f}" for rate in GPU_RATES)
        print(f"{way.name:>28} {way.rate:>9.0f} {way.rate / ways[0].rate:>11.2f} {way.image_ms:>16.2f}", *cores, flush=True)
    print(f"n = {rounds} turns of {AT_ONCE} batches of {BATCH}; the last columns: cores that feed a GPU of so many images/s")


def small_files(folder: Path) -> None:
    """Prints how long it takes to read, and to read and decode, small files of a zip archive and of the folder."""
    rng, root = np.random.default_rng(0), folder / "small"
    for i in range(SMALL_FILES):
        path = root / f"class {i % 10}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    with zipfile.ZipFile(folder / "small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, str(file.relative_to(root)))
    parts = {"folder": open_source(str(root)).train, "zip": open_source(str(folder / "small.zip")).train}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(SMALL_ROUNDS):
        for name, part in parts.items():
            for what in ("read", "read and decoded"):
                began = time.process_time()
                for load in part.read(np.arange(len(part))):
                    if what == "read":
                        taken = load.taken()
                        assert taken if isinstance(taken, bytes) else Path(str(taken)).read_bytes()
                    else:
                        load(16)
                seconds.setdefault((what, name), []).append(time.process_time() - began)
    for what in ("read", "read and decoded"):
        own, other = (statistics.median(seconds[what, name]) for name in ("zip", "folder"))
        ratio = f"ratio {own / other:.2f} (n = {SMALL_ROUNDS})"
        print(f"{SMALL_FILES:,} small files {what}: zip {own:.2f} s, folder {other:.2f} s of processor, {ratio}")


def steps(data: Path, cache: Path, size: int) -> None:
    """Prints the share of each phase's steps that batches of decoded images take, on all cores."""
    splits = open_data(str(data), size=size, cache=cache)
    batches = TrainBatches(splits.train, BATCH, 0, Augment())
    for resolution in (96, 128, 160):
        passes = []
        for _ in range(PASSES):
            began = time.perf_counter()
            for step in range(10):
                batches.batch(step, resolution)
            passes.append(10 * BATCH / (time.perf_counter() - began))
        print(f"{resolution} px, decoded, one thread: {max(passes):.0f} images/s, best of {PASSES} passes over 10 batches")
    print(f"{'phase':>10} {'step, ms':>9} {'loader, ms':>11} {'share':>6}   {THREADS} threads, median of {STEPS} steps")
    torch.set_num_threads(THREADS)
    preset = PRESETS["imagenette-60m"]
    space = preset.space({})
    schedule = preset.schedule(space, 1000)
    supernet = Supernet(space, len(splits.classes)).train()
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=0.0)
    teacher = supernet.extract(space.largest())
    for phase in schedule.phases:
        part = space.keep_largest(**phase.keep)
        loading, stepping = [], []
        for step in range(STEPS + 1):
            groups = STRATEGIES[phase.strategy](part, phase.subnets, np.random.default_rng(step))
            archs = [group[0] for group in groups]
            start = time.perf_counter()
            images, labels = batches.batch(step, archs[0].resolution)
            middle = time.perf_counter()
            train_step(supernet, archs, (images, labels), optimizer, preset.recipe, phase, teacher if phase.distil else None)
            loading.append(middle - start)
            stepping.append(time.perf_counter() - middle)
        load, train = (1e3 * statistics.median(times[1:]) for times in (loading, stepping))
        print(f"{phase.name:>10} {train:>9.0f} {load:>11.1f} {load / (load + train):>6.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--short-side", type=int)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = arguments.data or random_photographs(folder, arguments.images)
        root = copied(data, folder, arguments.images, arguments.short_side)
        sizes = [path.stat().st_size for path in root.rglob("*.jpg")]
        what = f"{len(sizes):,} images of {statistics.mean(sizes) / 1e3:.0f} kB on average"
        print(f"{data}: {what}, size {arguments.size}, to {arguments.resolution} px")
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
        compared(packed(root), folder, arguments.size, arguments.resolution, arguments.rounds)
        small_files(folder)
        if arguments.steps:
            steps(data, folder / "cache", 146)


if __name__ == "__main__":
    main()
