"""Accuracy and latency of a network, measured through its exported files."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..calibrate import Accuracy, Tally
from ..data import Images
from ..errors import VerificationError
from ..export import FORMATS, FileRow
from ..latency import Device, Timing, measure
from .run import Run

__all__ = ["measure_files", "require_same", "require_small_drop", "torch_threads"]

SLACK = 0.001  # of all images, for near ties between classes, in which rounding decides; at least one image
PATIENCE_S = 4.0  # for narrow intervals of the files' latencies
OWN = "pytorch"  # always there, and proven to be the network


def measure_files(
    run: Run,
    folder: Path,
    formats: Sequence[str],
    *,
    resolution: int,
    test: Images,
    held_out: Images,
    device: Device,
    max_drop: float,
) -> tuple[Accuracy, list[FileRow]]:
    """The test accuracy of the network, and through each file the accuracy and, on this machine's processor, the latency.

    int8 files are refused by the held-out images, so that nothing is chosen by the test images.

    Args:
        run: that the network is of.
        folder: with the proven files.
        formats: keys of `FORMATS`, "pytorch" among them, which says what the others are compared with.
        resolution: of the network.
        test: images for the accuracies.
        held_out: images that say what int8 loses.
        device: its threads and batch size are used for the latency.
        max_drop: most points of top-1 that int8 may lose.

    Raises:
        VerificationError: a file has another accuracy than the network, or int8 loses too much.
    """
    int8 = [name for name in formats if FORMATS[name].int8]
    before_and_after = _accuracies(run, folder, [OWN, *int8], held_out, resolution) if int8 else {}
    for name in int8:
        require_small_drop(name, before_and_after[OWN], before_and_after[name], max_drop)
    accuracies = _accuracies(run, folder, formats, test, resolution)
    for name, found in accuracies.items():
        if not FORMATS[name].int8:
            require_same(FORMATS[name].files[0], accuracies[OWN], found)
    timings = _timings(folder, formats, resolution, device) if device.on_processor else dict.fromkeys(formats)
    rows = []
    for name, timing in timings.items():
        latency = None if timing is None else (timing.ms, timing.low, timing.high)
        held = (before_and_after[OWN].top1, before_and_after[name].top1) if name in int8 else None
        rows.append(FileRow(name, accuracies[name].top1, latency, held))
    return accuracies[OWN], rows


def _accuracies(run: Run, folder: Path, formats: Sequence[str], images: Images, resolution: int) -> dict[str, Accuracy]:
    """Through each file; every batch is made once."""
    loaded = {name: FORMATS[name].load(folder, torch.get_num_threads()) for name in formats}
    tallies = {name: Tally() for name in formats}
    for x, labels in run.eval_batches(images, resolution):
        for name, through in loaded.items():
            tallies[name].add(through(x), labels)
    return {name: tally.accuracy() for name, tally in tallies.items()}


def _timings(folder: Path, formats: Sequence[str], resolution: int, device: Device) -> dict[str, Timing | None]:
    """Of each file, in turns, with the device's threads and batch size."""
    with torch_threads(device.threads):
        loaded = {name: FORMATS[name].load(folder, device.threads) for name in formats}
        images = torch.from_numpy(np.random.default_rng(0).standard_normal((device.batch, 3, resolution, resolution), np.float32))
        found = measure([partial(through, images) for through in loaded.values()], limit=math.inf, patience_s=PATIENCE_S)
    return dict(zip(loaded, found, strict=True))


def require_small_drop(name: str, before: Accuracy, after: Accuracy, max_drop: float) -> None:
    """Do nothing if quantisation loses at most `max_drop` points of top-1.

    Raises:
        VerificationError: it loses more.
    """
    drop = 100 * (before.top1 - after.top1)
    if drop > max_drop + 1e-9:
        raise VerificationError(
            f"{FORMATS[name].files[0]}: int8 loses {drop:.1f} points of top-1 on {before.images:,} held-out images "
            f"({100 * before.top1:.1f} to {100 * after.top1:.1f} %), allowed are {max_drop:g}: leave out {name}, or allow more "
            "with --max-drop"
        )


def require_same(what: str, own: Accuracy, found: Accuracy, *, through: str = "file") -> None:
    """Do nothing if what was found through a file, or a bundle, is the network's own test top-1, but for `SLACK`.

    Raises:
        VerificationError: it has another.
    """
    images = round(abs(own.top1 - found.top1) * own.images)
    if images > max(1, SLACK * own.images):
        raise VerificationError(
            f"{what}: test top-1 through the {through} is {100 * found.top1:.2f} %, the network's is "
            f"{100 * own.top1:.2f} %, which is {images} of {own.images:,} images: it does not compute what the network does"
        )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch has one number of threads per process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
