"""Fine-tuning: one network on its own weights, for some epochs, with a learning rate that falls along a cosine to zero.

As in `loop.py`, everything random in step s comes from (seed, s), so the weights after a resume are those of an uninterrupted run.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import StoppedError, TrainingError
from ..plan import Plan
from . import checkpoint
from .guard import diverged
from .loop import LOG_EVERY
from .remaining import Remaining
from .schedule import Phase, Recipe, Schedule, learning_rate
from .state import State
from .step import clip_gradients, in_precision, objective, onto, torch_seed, wide

__all__ = ["finetune", "finetuning"]

Event = dict[str, Any]
CHECKPOINT_EVERY_S = 120.0


def finetuning(steps: int, *, rate: float, recipe: Recipe, distil: bool = True) -> Schedule:
    """A schedule of one phase without warm-up: the weights are good already."""
    return Schedule((Phase("fine-tune", {}, steps, 0, rate, distil=distil, teacher="external"),), recipe)


def finetune(
    network: nn.Module,
    schedule: Schedule,
    batches: Callable[[int], tuple[Tensor, Tensor]],
    *,
    folder: Path,
    steps_per_epoch: int,
    num_classes: int,
    teacher: nn.Module | None = None,
    plan: Plan | None = None,
    seed: int = 0,
    precision: str = "float32",
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train a network in place, from the newest checkpoint in `folder` or from its present weights, to the end of the schedule.

    A step costs one forward and backward pass, and the teacher's forward pass. The network is left in train mode with BatchNorm
    statistics of augmented images: recalibrate it.

    Args:
        network: such as `Supernet.extract` gives, on any device; its dropout layers are those it was made with.
        schedule: of one phase, such as `finetuning` makes.
        batches: training images (n, 3, r, r) and labels (n,) of a step, a pure function.
        folder: gets checkpoints, one after every epoch and every two minutes.
        steps_per_epoch: of the data.
        num_classes: of the network.
        teacher: gives logits (n, num_classes) for the step's images, in eval mode; needed if the phase distils.
        plan: of the network, for a recipe whose rates differ from segment to segment.
        seed: of dropout.
        precision: see `onceforall.train.step.in_precision`.
        on_event: gets "phase" at the start, "train" records with the loss, the share that is done and the seconds that remain, and
            "epoch" records.
        should_stop: asked after every step; True ends with a checkpoint and `StoppedError`.

    Raises:
        StoppedError: on request.
        TrainingError: the training diverges.
        CheckpointError: the checkpoints are damaged or of another schedule or network.
        FileError: a checkpoint cannot be written.
    """
    (phase,) = schedule.phases
    if phase.distil and teacher is None:
        raise TrainingError("the schedule learns from a teacher, and none was given")
    guide = teacher if phase.distil else None
    state = State(network, schedule, plan)
    saved = checkpoint.latest(folder)
    if saved is not None:
        state.restore(saved)
    network.train()
    device = next(network.parameters()).device
    began, last_saved = time.monotonic(), time.monotonic()
    before, left = state.seconds, Remaining(phase.steps)
    left(state.step, 0.0)
    recent: list[Tensor] = []
    on_event({"event": "phase", "phase": phase.name, "step": state.step, "steps": phase.steps, "rate": phase.rate})
    while state.step < phase.steps:
        images, labels = (onto(tensor, device) for tensor in batches(state.step))
        rate = learning_rate(phase, state.step)
        state.set_rate(rate)
        with torch_seed(seed, state.step, 0, device):
            recent.append(_step(network, images, labels, guide, state.optimizer, schedule.recipe, precision))
        state.follow()
        state.step += 1
        stop, epoch_ends = should_stop(), state.step % steps_per_epoch == 0 or state.step == phase.steps
        due = time.monotonic() - last_saved > CHECKPOINT_EVERY_S
        if state.step % LOG_EVERY and not (epoch_ends or stop or due):
            continue
        loss = float(torch.stack(recent).mean())  # read from the device here only
        recent.clear()
        if reason := diverged(loss, state, num_classes):
            raise TrainingError(f"fine-tuning diverged near step {state.step}: {reason}")
        spent = time.monotonic() - began
        remaining = left(state.step, spent)
        record = {"phase": phase.name, "step": state.step, "seconds": before + spent, "loss": loss, "rate": rate}
        on_event({"event": "train", **record, "progress": state.step / phase.steps, "remaining_s": remaining})
        if epoch_ends or stop or due:
            state.seconds = before + spent
            state.save(folder, good=False)
            last_saved = time.monotonic()
        if epoch_ends:
            epochs = [-(-steps // steps_per_epoch) for steps in (state.step, phase.steps)]
            on_event({"event": "epoch", **record, "epoch": epochs[0], "epochs": epochs[1], "remaining_s": remaining})
        if stop and state.step < phase.steps:
            raise StoppedError(f"stopped at step {state.step} of {phase.steps} of fine-tuning on request; the same command goes on")
    state.finish()


def _step(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    teacher: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    precision: str,
) -> Tensor:
    """One optimiser step; the loss."""
    optimizer.zero_grad(set_to_none=True)
    with in_precision(precision, images.device):
        target = None
        if teacher is not None:
            with torch.no_grad():
                target = wide(teacher(images))
        logits = wide(network(images))
    loss, reported = objective(logits, labels, target, recipe)
    loss.backward()  # type: ignore[no-untyped-call]
    clip_gradients(network, recipe)
    optimizer.step()
    return reported
