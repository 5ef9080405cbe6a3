"""How many epochs of a schedule fit into a time: a few steps and a validation are timed."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import TrainingError
from ..supernet import Supernet
from ..train import Recipe, Schedule, train_step, work_per_step
from .compute import Compute

__all__ = ["VALIDATIONS", "epochs_within", "validate_every"]

Batches = Callable[[int, int], tuple[Tensor, Tensor]]
VALIDATIONS = 12  # besides those at the ends of phases, in short schedules
VALIDATION_EPOCHS = 8  # between them in long ones
TRIALS = 3
RESERVE = 0.05  # of the time, for checkpoints and what the estimate misses


def validate_every(steps: int, batches_per_epoch: int) -> int:
    """Steps between validations."""
    return max(20, min(steps // VALIDATIONS, VALIDATION_EPOCHS * batches_per_epoch))


def epochs_within(
    budget_s: float, supernet: Supernet, recipe: Recipe, schedule: Callable[[int], Schedule], batches: Batches,
    validate: Callable[[], object], *, batches_per_epoch: int, compute: Compute,
) -> float:  # fmt: skip
    """Epochs of the schedule, with its validations, that take `budget_s` seconds on this machine as it is now.

    Steps of the largest and the smallest network are timed; a step costs something per multiply-accumulate and something per
    sub-network.

    Args:
        budget_s: seconds.
        supernet: its weights are not changed.
        recipe: of the steps.
        schedule: by number of steps.
        batches: of the training images, by step and resolution.
        validate: does one validation.
        batches_per_epoch: how many `batches` gives before an image comes again.
        compute: where the supernet is.

    Raises:
        TrainingError: not enough for one step per phase.
    """
    space, num_classes = supernet.space, supernet.num_classes
    middle = space.resolutions[len(space.resolutions) // 2]
    supernet.train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    teacher = supernet.extract(space.largest()).train()
    teacher_macs = space.lower(space.largest(middle), num_classes).macs
    points = []
    for arch in (space.smallest(middle), space.largest(middle)):
        seconds = []
        for trial in range(1 + TRIALS):
            started = time.monotonic()
            images, labels = batches(trial, middle)
            images, labels = images.to(compute.device), labels.to(compute.device)
            float(train_step(supernet, [arch], images, labels, optimizer, recipe, teacher, precision=compute.precision))
            seconds.append(time.monotonic() - started)
        macs = (3 * space.lower(arch, num_classes).macs + teacher_macs) * recipe.batch_size
        points.append((macs, sorted(seconds[1:])[TRIALS // 2]))
    (least, fast), (most, slow) = points
    per_mac = max(0.0, slow - fast) / (most - least) if most > least else slow / most
    per_subnet = max(0.0, fast - per_mac * least)
    started = time.monotonic()
    validate()
    validation = time.monotonic() - started

    sample = schedule(100 * batches_per_epoch)
    work = work_per_step(sample, space, num_classes)
    steps = zip(work, sample.phases, strict=True)
    per_epoch = sum((per_mac * macs + per_subnet * phase.subnets) * phase.steps for macs, phase in steps) / 100
    left = (1 - RESERVE) * budget_s - validation * len(sample.phases)
    epochs = min((left - validation * VALIDATIONS) / per_epoch, left / (per_epoch + validation / VALIDATION_EPOCHS))
    if epochs * batches_per_epoch < len(sample.phases):
        raise TrainingError(
            f"a budget of {budget_s:.0f} s is too little: one step per phase and {VALIDATIONS + len(sample.phases)} validations of "
            f"{validation:.1f} s each take longer; allow more time, or use a smaller space or fewer images"
        )
    return epochs
