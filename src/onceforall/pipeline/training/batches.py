"""Make training batches on the CPU or the GPU, from decoded images or from crops that other processes decode."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from torch import Tensor

from ...common.processors import processors
from ...common.progress import QUIET, Progress
from ...data import Decoding, DeviceBatches, TrainBatches
from ...resolutions import Resolution
from .compute import Compute

MOST_PROCESSES = 32
IN_HAND = 48  # images per process, decoded or being decoded: one job of 16 and two waiting
Make = Callable[[int, Resolution], tuple[Tensor, Tensor]]


@contextmanager
def batch_maker(batches: TrainBatches, compute: Compute, progress: Progress = QUIET) -> Iterator[Make]:
    """A function that makes batches by step and resolution, on the GPU if there is one.

    If no pixels are cached, other processes decode them until this context ends.
    """
    images = batches.images
    maker: TrainBatches | DeviceBatches = batches
    if compute.device.type == "cuda" and batches.augment.policy != "none":
        progress.note(f"{batches.augment.policy} changes images one by one: batches are made on the CPU")
    elif compute.device.type == "cuda":
        size = f"the training images ({images.store.bytes / 1e9:.2g} GB)"
        if images.decoded and DeviceBatches.fits(batches, compute.device):
            progress.note(f"{size} are copied to the GPU: batches are made there")
            yield DeviceBatches(batches, compute.device).batch
            return
        if images.decoded:
            progress.note(f"{size} do not fit into the GPU's memory: each batch is copied there")
        maker = DeviceBatches(batches, compute.device, whole=False)
    if images.decoded:

        def from_cache(step: int, resolution: Resolution) -> tuple[Tensor, Tensor]:
            draw = batches.draw(step)
            return maker.resized(draw, batches.crops(draw), resolution)

        yield batches.batch if maker is batches else from_cache
        return
    count = max(1, min(MOST_PROCESSES, processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    by = "a separate process" if count == 1 else f"{count} processes"
    progress.note(f"training images are decoded whenever they are needed, by {by}")
    with Decoding(batches, processes=count, ahead=ceil(IN_HAND * count * batches.world / batches.batch_size)) as decoding:
        yield lambda step, resolution: maker.resized(*decoding.crops(step), resolution)
