"""Fine-tuning: train a single network for a few epochs, with a learning rate that decays to zero along a cosine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..common.progress import QUIET, Progress
from ..errors import StoppedError
from ..plan import Plan
from . import checkpoint
from .loop import Trainer
from .schedule import Phase, Recipe, Schedule
from .step import Settings
from .work import Remaining

Event = dict[str, Any]


def finetuning(steps: int, *, rate: float, recipe: Recipe, distil: bool = True) -> Schedule:
    """A one-phase schedule without warm-up, since the weights are already trained."""
    return Schedule((Phase("fine-tune", {}, steps, 0, rate, distil=distil, teacher="external"),), recipe)


def finetune(
    network: nn.Module,
    schedule: Schedule,
    batches: Callable[[int], tuple[Tensor, Tensor]],
    *,
    folder: Path,
    num_classes: int,
    settings: Settings,
    teacher: nn.Module | None = None,
    plan: Plan | None = None,
    progress: Progress = QUIET,
) -> None:
    """Train a network in place to the end of the schedule, from the newest checkpoint in `folder` or from its current weights.

    A step costs one forward and backward pass, plus the teacher's forward pass. Afterwards the network is in train mode and its
    BatchNorm statistics are those of augmented images: recalibrate it.

    Args:
        network: a network such as `Supernet.extract` returns, on any device, with its own dropout layers.
        schedule: a schedule of one phase, such as `finetuning` returns.
        batches: pure function from a step to its training images (n, c, r, r) and labels (n,).
        folder: receives checkpoints, after every epoch and every two minutes.
        settings: `validate_every` is the number of steps per epoch.
        teacher: returns logits (n, num_classes) for the step's images, in eval mode; required for a phase with distillation.
        plan: the network's plan, for a recipe whose learning rates differ between segments.
        progress: its `event` receives a "phase" record at the start, "train" records with the loss, the completed share and the
            remaining seconds, and an "epoch" record after each epoch.

    Raises:
        StoppedError: stopped on request.
        TrainingError: training diverges.
        CheckpointError: the checkpoints are damaged or belong to another schedule or network.
        FileError: a checkpoint cannot be written.
    """
    (phase,), per_epoch, left = schedule.phases, settings.validate_every, Remaining(schedule.steps)
    saved = checkpoint.latest(folder)
    left(*((0, 0.0) if saved is None else (saved.step, float(saved.facts["seconds"]))))

    def report(event: Event) -> None:
        if event["event"] != "train":
            progress.event(event)
            return
        step, remaining = event["step"], left(event["step"], event["seconds"])
        progress.event({**event, "progress": step / phase.steps, "remaining_s": remaining})
        if step % per_epoch == 0 or step == phase.steps:
            epochs = {"epoch": -(-step // per_epoch), "epochs": -(-phase.steps // per_epoch)}
            progress.event({**event, "event": "epoch", **epochs, "remaining_s": remaining})

    trainer = Trainer(
        network, schedule, lambda step, resolution: batches(step),
        folder=folder, progress=replace(progress, event=report), settings=settings,
        teacher=teacher, num_classes=num_classes, plan=plan,
    )  # fmt: skip
    try:
        trainer.run(saved)
    except StoppedError as error:
        where = str(error).partition(" on request")[0]
        raise StoppedError(f"{where} of fine-tuning on request; run the same command to continue") from None
