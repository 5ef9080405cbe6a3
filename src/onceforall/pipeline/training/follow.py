"""Follow a schedule in a folder from its last checkpoint to the end, with metrics.jsonl and validations on held-out images."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ...common.files import read_text
from ...common.progress import Event, Progress
from ...data import Splits
from ...space import Space
from ...supernets.supernet import Supernet
from ...tasks.task import Task
from ...train import Recipe, Schedule, Settings, Trainer, World
from ...train.checkpoint import latest
from ..evaluate import accuracy_of
from ..run_directory.metrics import forget_after, metrics_writer
from ..run_directory.run import Run
from .batches import batch_maker
from .budget import validate_every
from .compute import Compute

VALIDATION_IMAGES = 1000
CALIBRATION_IMAGES = 512


def follow_schedule(
    run: Run,
    splits: Splits,
    supernet: Supernet,
    folder: Path,
    *,
    settings: Settings,
    compute: Compute,
    progress: Progress,
    teacher: nn.Module | None = None,
    world: World = World(),  # noqa: B008  # frozen
) -> None:
    """Train a supernet in place by the folder's schedule.json, from its last checkpoint or the current weights.

    Args:
        run: gives the supernet's space, and the preprocessing and augmentation of images.
        supernet: on its training device.
        folder: for checkpoints/, metrics.jsonl and teacher.safetensors.
        settings: all but `validate_every`.
        progress: its `event` gets every record of metrics.jsonl as it is written, and notes.
        teacher: for phases with an external teacher.
        world: the processes that train together.

    Raises:
        OnceForAllError: see `Trainer.run`.
    """
    schedule, saved = Schedule.from_json(read_text(folder / "schedule.json")), latest(folder / "checkpoints")
    begun = 0 if saved is None else saved.step
    size = schedule.recipe.batch_size if schedule.steps else world.size  # without steps, no batch is made
    batches = run.train_batches(splits, size, world.rank, world.size)
    written = progress.event
    if world.leads:
        forget_after(folder / "metrics.jsonl", begun)
        written = metrics_writer(folder, schedule, supernet.space, supernet.num_classes, begun, progress.event)
    world.wait()
    settings = replace(settings, **for_labels(run.task, splits, run.num_classes, schedule.recipe))
    every = validate_every(schedule.steps, batches.batches_per_epoch)
    with batch_maker(batches, compute, progress) as make:
        Trainer(
            supernet, schedule, make,
            folder=folder, validate=lambda net, kept, phase: validation(run, net, kept, splits, world),
            progress=replace(progress, event=written), settings=replace(settings, validate_every=every),
            teacher=teacher, world=world,
        ).run(saved)  # fmt: skip
    if schedule.steps == 0:
        for record in validation(run, supernet, run.space, splits, world):
            written({"event": "validation", "phase": schedule.phases[0].name, "step": 0, "seconds": 0.0, **record})


def for_labels(task: Task, splits: Splits, classes: int, recipe: Recipe) -> dict[str, Any]:
    """Settings that depend on the task and the training images' labels."""
    labels = splits.train.labels
    weights, adjustment = task.weights(labels, classes, recipe.balance), ()
    if recipe.logit_adjustment:
        adjustment = tuple((recipe.logit_adjustment * task.log_odds(labels, classes, weights)).tolist())
    return {"task": task, "class_weights": weights, "adjustment": adjustment, "chance": task.chance(labels, classes)}


def validation(run: Run, supernet: Supernet, space: Space, splits: Splits, world: World = World()) -> list[Event]:  # noqa: B008
    """Accuracy of the space's largest, smallest and one fixed random sub-network on held-out images, each recalibrated.

    Several processes divide these networks among them; the only network of a space is measured once.
    """
    archs = {"largest": space.largest()}
    if run.space.count() > 1:
        archs |= {"smallest": space.smallest(), "random": space.sample(np.random.default_rng([run.info.seed, 7]))}
    images = splits.held_out.sample(VALIDATION_IMAGES)
    records = []
    for name, arch in list(archs.items())[world.rank :: world.size]:
        accuracy = accuracy_of(run, supernet, arch, splits, images, calibration=CALIBRATION_IMAGES)
        score = {} if run.metric == "top1" else {"score": accuracy.score(run.metric), "metric": run.metric}
        records.append({"subnet": name, "resolution": arch.resolution, **asdict(accuracy), **score})
    return records
