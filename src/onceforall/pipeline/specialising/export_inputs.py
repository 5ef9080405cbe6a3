"""Inputs of an export besides the network: images for verification, preprocessing, shares of the latency."""

import numpy as np
import torch
from torch import Tensor

from ...arch import Arch
from ...data import Images, Splits
from ...export import InputSteps
from ...export.trained_on import TrainedOn
from ...latency import LatencyTable
from ...resolutions import Resolution
from ..run_directory.run import Run

PROOF_IMAGES = 64
INT8_IMAGES = 128  # for the ranges of activations


def input_steps(run: Run, resolution: Resolution | None = None) -> InputSteps:
    """How photographs become a network's input; `resolution` is None for several networks."""
    steps = run.preprocessing
    square = all(isinstance(size, int) for size in run.space.resolutions)
    share = f"{steps.crop_share:g}"
    what = f"short side to ceil(resolution / {share})"
    if not square:
        what = f"to just cover ceil(height / {share}) × ceil(width / {share})"
    resize = f"{what}, {steps.interpolation} with antialias, then centre crop"
    how = run.require_images().how
    return InputSteps(
        steps.mean, steps.std, steps.crop_share, resize, resolution, how.max_pixels, steps.interpolation, range=how.range
    )


def trained_on(run: Run, more: Images | None = None) -> TrainedOn:
    """Which images the run's networks were trained on, as far as known; `more` are the images of fine-tuning."""
    data, (known, complete), origin = run.require_images(), run.trained_on(), run.info.origin
    known = known if more is None else np.concatenate([known, more.digests])
    complete = complete and (origin is None or origin.unseen)  # else its training images may have been read in another way
    return TrainedOn.of(known, data.size, data.max_pixels, data.long, complete=complete)


def proof_images(run: Run, splits: Splits, resolution: Resolution) -> Tensor:
    """Held-out images, preprocessed (n, channels, height, width)."""
    images = splits.held_out
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:PROOF_IMAGES])
    return torch.cat([x for x, _ in run.eval_batches(images.subset(chosen), resolution)])


def int8_images(run: Run, splits: Splits, resolution: Resolution) -> Tensor:
    """Training images, preprocessed (n, channels, height, width)."""
    return torch.cat(list(run.calibration_batches(splits, resolution, INT8_IMAGES)))


def latency_shares(table: LatencyTable, arch: Arch) -> dict[str, float]:
    """Share of each of the network's segments in its estimated latency."""
    segments = table.costs.segments
    genes = segments.space.genes([arch])
    codes = [int(slot.codes(genes)[0]) for slot in segments.slots]
    total = float(table.estimate(genes)[0])
    return {
        slot.name: float(values[code]) / total
        for slot, values, code in zip(segments.slots, table.costs.values, codes, strict=True)
        if slot.segments[code] is not None
    }
