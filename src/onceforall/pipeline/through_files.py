"""Accuracy and latency of a network, measured through its exported files."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..arch import Arch
from ..calibrate import Accuracy, Calibrated, evaluate, tally
from ..data import Images
from ..errors import VerificationError
from ..export import FORMATS, FileRow
from ..latency import Device, Timing, measure
from .run import Run

__all__ = ["SLACK", "measure_files", "require_same", "require_small_drop"]

SLACK = 0.001  # of all images, for near ties between classes, in which rounding decides; at least one image


def measure_files(
    run: Run,
    folder: Path,
    formats: Sequence[str],
    *,
    arch: Arch,
    network: Calibrated,
    test: Images,
    held_out: Images,
    device: Device,
    max_drop: float,
) -> tuple[Accuracy, list[FileRow]]:
    """The network's own accuracy, and through each file the accuracy and, if the device is this machine, the latency.

    int8 files are refused by the held-out images, so that nothing is chosen by the test images.

    Args:
        run: that the network is of.
        folder: with the files.
        formats: keys of `FORMATS`.
        arch: of the network.
        network: that the files were written from.
        test: images for the accuracies.
        held_out: images that say what int8 loses.
        device: its threads and batch size are used.
        max_drop: most points of top-1 that int8 may lose.

    Raises:
        VerificationError: a file has another accuracy than the network, or int8 loses too much.
    """
    own = evaluate(network, run.eval_batches(test, arch.resolution))
    with _torch_threads(device.threads):
        loaded = {name: FORMATS[name].load(folder, device.threads) for name in formats}
        accuracies = {}
        for name, through in loaded.items():
            accuracies[name] = tally((through(x), labels) for x, labels in run.eval_batches(test, arch.resolution))
            if FORMATS[name].int8:
                before = evaluate(network, run.eval_batches(held_out, arch.resolution))
                after = tally((through(x), labels) for x, labels in run.eval_batches(held_out, arch.resolution))
                require_small_drop(name, before, after, max_drop)
            else:
                require_same(name, own, accuracies[name])
        timings: list[Timing | None] = [None] * len(loaded)
        if device.host is None and not device.imported:
            shape = (device.batch, 3, arch.resolution, arch.resolution)
            images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
            timings = list(measure([partial(through, images) for through in loaded.values()], limit=math.inf))
    rows = [
        FileRow(name, accuracies[name].top1, None if timing is None else (timing.ms, timing.low, timing.high))
        for name, timing in zip(loaded, timings, strict=True)
    ]
    return own, rows


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


def require_same(name: str, own: Accuracy, found: Accuracy) -> None:
    """Do nothing if a file has the network's top-1, but for `SLACK`.

    Raises:
        VerificationError: it has another.
    """
    images = round(abs(own.top1 - found.top1) * own.images)
    if images > max(1, SLACK * own.images):
        raise VerificationError(
            f"{FORMATS[name].files[0]}: test top-1 through the file is {100 * found.top1:.2f} %, the network's is "
            f"{100 * own.top1:.2f} %, which is {images} of {own.images:,} images: it does not compute what the network does"
        )


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """torch has one number of threads per process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
