"""Where training batches are made: on the CPU, or on the GPU that has room for the images."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...data import DeviceBatches, TrainBatches
from .compute import Compute


def batch_maker(
    batches: TrainBatches, compute: Compute, on_event: Callable[[dict[str, Any]], None] = lambda event: None
) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Batches by step and resolution, made on the GPU where it has room for the images."""
    if compute.device.type != "cuda":
        return batches.batch
    if batches.augment.policy != "none":
        on_event({"event": "note", "text": f"{batches.augment.policy} changes images one by one: batches are made on the CPU"})
        return batches.batch
    size = f"the training images ({len(batches.images.store.pixels) / 1e9:.2g} GB)"
    if not DeviceBatches.fits(batches, compute.device):
        on_event({"event": "note", "text": f"{size} do not fit into the memory of the GPU: batches are made on the CPU"})
        return batches.batch
    on_event({"event": "note", "text": f"{size} are copied to the GPU: batches are made there"})
    return DeviceBatches(batches, compute.device).batch
