"""Find how many epochs of a schedule fit into a time, by timing a few steps of each phase and a validation."""

import statistics
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ...costs import macs_table, segment_table
from ...errors import TrainingError
from ...resolutions import Resolution
from ...supernets.supernet import Supernet
from ...train import Schedule, Settings, Trainer, work_per_step
from ...train.work import work_of_draws
from .compute import Compute

Batches = Callable[[int, Resolution], tuple[Tensor, Tensor]]
VALIDATIONS = 12  # in short schedules, besides those at the ends of phases
VALIDATION_EPOCHS = 8  # between validations in long schedules
TRIALS = 5  # timed steps of each phase, after one for warm-up
RESERVE = 0.05  # share of the time, for checkpoints and errors of the estimate


def validate_every(steps: int, batches_per_epoch: int) -> int:
    """Steps between validations."""
    return max(20, min(steps // VALIDATIONS, VALIDATION_EPOCHS * batches_per_epoch))


def epochs_within(
    budget_s: float,
    supernet: Supernet,
    schedule: Callable[[int], Schedule],
    batches: Batches,
    validate: Callable[[], object],
    *,
    batches_per_epoch: int,
    compute: Compute,
    teacher: nn.Module | None = None,
) -> float:
    """Number of epochs that take `budget_s` seconds on this machine at present, validations included.

    Args:
        supernet: on its training device; its weights are not changed.
        schedule: returns the schedule for a number of steps.
        batches: returns a batch of this process's training images by step and resolution.
        validate: runs this process's part of one validation.
        batches_per_epoch: number of batches before an image is repeated.
        compute: device and precision of the supernet.
        teacher: for phases with an external teacher.

    Raises:
        TrainingError: the time is too short for one step in each phase.
    """
    sample = schedule(100 * batches_per_epoch)
    with torch.random.fork_rng(devices=[]):
        steps = seconds_per_step(supernet, sample, batches, compute, teacher)
        started = time.monotonic()
        validate()
        validation = time.monotonic() - started
    step = sum(seconds * phase.steps for seconds, phase in zip(steps, sample.phases, strict=True)) / sample.steps
    left = (1 - RESERVE) * budget_s - validation * len(sample.phases)

    def taken(steps: int) -> float:
        return steps * step + validation * (steps // validate_every(steps, batches_per_epoch))

    affordable = bisect_right(range(1, max(1, int(left / step)) + 1), left, key=taken)
    if affordable < len(sample.phases):
        raise TrainingError(
            f"a budget of {budget_s:.3g} s is too little for one step and one validation in each phase ({len(sample.phases)}): a "
            f"step takes {step:.1f} s, a validation {validation:.1f} s; allow more time, or use a smaller space or fewer images"
        )
    return affordable / batches_per_epoch


def seconds_per_step(
    supernet: Supernet, schedule: Schedule, batches: Batches, compute: Compute, teacher: nn.Module | None
) -> list[float]:
    """Seconds per step of each phase in this process: batch, teacher, sub-networks, optimizer; communication is left out.

    The median of a few training steps at a learning rate of zero, scaled by the ratio of the phase's average
    multiply-accumulates to those of the networks that were drawn.
    """
    space = supernet.space
    table = macs_table(segment_table(space, supernet.num_classes))
    works = work_per_step(schedule, space, supernet.num_classes)
    trainer = Trainer(supernet, schedule, batches, Path(), settings=Settings(precision=compute.precision), teacher=teacher)
    trainer.rehearse(supernet.extract(space.largest()).train())  # as large as the teacher will be
    found = []
    for phase, expected in zip(schedule.phases, works, strict=True):
        times = []
        for _ in range(1 + TRIALS):
            started = time.monotonic()
            groups = trainer.draw(phase)
            trainer.step(phase, 0, groups)
            trainer.loss()  # waits for the device
            if compute.device.type == "cuda":
                torch.cuda.synchronize(compute.device)
            assert groups is not None
            macs = work_of_draws(phase, table, [groups]) * schedule.recipe.batch_size
            times.append((time.monotonic() - started) * expected / macs)
        found.append(statistics.median(times[1:]))
    return found
