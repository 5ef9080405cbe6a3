"""What an export is made and proven with, beside the network: images, preprocessing, shares of the latency."""

import numpy as np
import torch
from torch import Tensor

from ...arch import Arch
from ...data import Images, Splits
from ...export import InputSteps
from ...export.trained_on import TrainedOn
from ...latency import LatencyTable
from ..run_directory.run import Run

PROOF_IMAGES = 64
INT8_IMAGES = 128  # that ranges of activations are taken from


def input_steps(run: Run, resolution: int | None = None) -> InputSteps:
    """How photographs become the network's input; the resolution is that of the one network, if it is one."""
    steps = run.preprocessing
    resize = f"short side to ceil(resolution / {steps.crop_share:g}), {steps.interpolation} with antialias, then centre crop"
    most = run.require_images().max_pixels
    return InputSteps(steps.mean, steps.std, steps.crop_share, resize, resolution, most, steps.interpolation)


def trained_on(run: Run, more: Images | None = None) -> TrainedOn:
    """Which images the run's networks were trained on, as far as it is known; `more` are those of a fine-tuning."""
    data, known = run.require_images(), run.trained_on()[0]
    return TrainedOn.of(known if more is None else np.concatenate([known, more.digests]), data.size, data.max_pixels)


def proof_images(run: Run, splits: Splits, resolution: int) -> Tensor:
    """Held-out images, preprocessed (n, 3, resolution, resolution)."""
    images = splits.held_out
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:PROOF_IMAGES])
    return torch.cat([x for x, _ in run.eval_batches(images.subset(chosen), resolution)])


def int8_images(run: Run, splits: Splits, resolution: int) -> Tensor:
    """Training images, preprocessed (n, 3, resolution, resolution)."""
    return torch.cat(list(run.calibration_batches(splits, resolution, INT8_IMAGES)))


def latency_shares(table: LatencyTable, arch: Arch) -> dict[str, float]:
    """Share of the estimated latency of each segment that the network has."""
    segments = table.costs.segments
    genes = segments.space.genes([arch])
    codes = [int(slot.codes(genes)[0]) for slot in segments.slots]
    total = float(table.estimate(genes)[0])
    return {
        slot.name: float(values[code]) / total
        for slot, values, code in zip(segments.slots, table.costs.values, codes, strict=True)
        if slot.segments[code] is not None
    }
