"""Whether a space can be trained on this machine at all, before its images are read."""

import os
from math import prod

import torch

from ...common.readable import amount, plural
from ...errors import SpaceError
from ...space import Space
from ...train import Recipe

MOST_BLOCKS = 1000  # of one network; the largest known here have 30
TOO_FAR = 2.0  # times this machine's memory: the estimate may be wrong by a part of that
CLOSE = 0.8  # of the memory, from which on a line is worth it
UNUSUAL = 10.0  # times the multiply-accumulates of what the preset's times and rates were chosen for
CLASSES = 10  # not known before the images are read; they hardly matter


def check_size(space: Space, recipe: Recipe, usual: Space, preset: str, device: torch.device) -> str | None:
    """One line about a space that is far larger than its preset's or fills the memory; None for others.

    Args:
        space: to be trained.
        recipe: that it is trained with.
        usual: the preset's own space.
        preset: its name.
        device: that it is trained on.

    Raises:
        SpaceError: no network of it, or its largest one, can be trained here.
    """
    blocks = sum(stage.depths[-1] for stage in space.stages)
    if blocks > MOST_BLOCKS:
        raise SpaceError(f"a space of networks with up to {blocks:,} blocks: {MOST_BLOCKS:,} are the most: give smaller depths")
    plan = space.lower(space.largest(), CLASSES)
    needed, there = training_bytes(space, recipe), memory_here(device)
    what = f"its largest network has {amount(plan.params)} parameters and {amount(plan.macs)} MACs"
    takes = f"training takes about {_gigabytes(needed)} of memory with {plural(recipe.batch_size, 'image')} a step"
    less = "give a smaller --space (width, resolutions, depths, kernels) or --batch-size"
    if needed > TOO_FAR * there:
        raise SpaceError(f"this space is too large for this machine: {what}, and {takes}; {_gigabytes(there)} are here: {less}")
    times = plan.macs / usual.lower(usual.largest(), CLASSES).macs
    if needed > CLOSE * there:
        return f"this space may be too large for this machine: {what}, and {takes}; {_gigabytes(there)} are here: {less}"
    if times > UNUSUAL:
        return f"this space is {times:,.0f} times as large as that of preset {preset}, and a step as much slower: {what}; {takes}"
    return None


def training_bytes(space: Space, recipe: Recipe) -> float:
    """Roughly: weights, gradients, the optimiser's state, and what the largest network keeps of a batch for its gradients."""
    plan = space.lower(space.largest(), CLASSES)
    copies = 2 + (2 if recipe.optimizer == "adamw" else 1) + bool(recipe.ema) + 1  # and the largest network as a teacher
    kept = prod(plan.input_shape) + sum(prod(op.shape) for op in plan.ops)
    return 4.0 * (copies * plan.params + recipe.batch_size * kept)


def memory_here(device: torch.device) -> float:
    """Bytes of the device's memory; of a processor's, what this machine has or the container may use."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows
        return float("inf")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                whole = min(whole, float(file.read()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return whole


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
