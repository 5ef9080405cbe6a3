"""The training loop: follows a schedule step by step, and can be stopped and resumed at any of them.

Everything random in step s comes from (seed, s): the images, the resolution, the sub-networks, dropout. So the weights after
a resume are those of an uninterrupted run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..arch import Arch
from ..errors import CheckpointError, StoppedError, TrainingError
from ..nn.sorting import sort_channels
from ..ops import Add, Norm
from ..space import Space
from ..supernet import Supernet
from . import checkpoint
from .schedule import Phase, Recipe, Schedule, learning_rate
from .strategies import STRATEGIES

__all__ = ["Settings", "load_weights", "train", "train_step"]

Event = dict[str, Any]
Batches = Callable[[int, int], tuple[Tensor, Tensor]]  # (step, resolution) -> images (n, 3, r, r), labels (n,)
LOG_EVERY = 20


@dataclass(frozen=True)
class Settings:
    """How the loop keeps house.

    Args:
        seed: of everything random.
        validate_every: steps between validations; the end of a phase is always validated.
        checkpoint_every_s: seconds between checkpoints; the end of a phase always has one.
    """

    seed: int = 0
    validate_every: int = 1000
    checkpoint_every_s: float = 120.0


def train(
    supernet: Supernet,
    schedule: Schedule,
    batches: Batches,
    *,
    folder: Path,
    start: checkpoint.Checkpoint | None,
    settings: Settings,
    validate: Callable[[Supernet, Space, Phase], list[Event]],
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train in place, from a checkpoint or from the beginning, to the end of the schedule.

    Args:
        supernet: fresh, or of the same space as the checkpoint.
        schedule: the same as that of the checkpoint.
        batches: training images of a step at a resolution, a pure function.
        folder: gets checkpoints/, and teacher.safetensors once there is a teacher.
        start: checkpoint to go on from, such as `checkpoint.latest(folder / "checkpoints")`; None for the beginning.
        settings: see `Settings`.
        validate: measures a few sub-networks; called with the phase's space.
        on_event: gets a record of every phase start ("phase"), of the loss every 20 steps and before a validation ("train"),
            and of every sub-network validated ("validation").
        should_stop: asked after every step; True ends with a checkpoint and `StoppedError`.

    Raises:
        StoppedError: on request.
        TrainingError: the loss or a weight is not finite; checkpoints hold finite weights only.
        CheckpointError: the checkpoint belongs to another space or schedule, or the teacher's file is damaged.
        FileError: a checkpoint cannot be written.
    """
    supernet.forget_statistics()
    supernet.train()
    if start is None and schedule.recipe.zero_residual:
        _zero_residuals(supernet)
    step, seconds = 0, 0.0
    optimizer = _optimizer(supernet, schedule.recipe)
    teacher: nn.Module | None = None
    if start is not None:
        step, seconds = start.step, float(start.facts["seconds"])
        _restore(supernet, optimizer, schedule, start)
    started, last_saved = time.monotonic() - seconds, time.monotonic()
    recent: list[Tensor] = []

    def report(event: str, **record: Any) -> None:
        on_event({"event": event, "phase": phase.name, "step": step, "seconds": time.monotonic() - started, **record})

    while step < schedule.steps:
        phase, within = schedule.at(step)
        space = supernet.space.keep_largest(**phase.keep)
        if within == 0:
            report("phase", steps=phase.steps, rate=phase.rate)
            if phase.sort is not None:
                sort_channels(supernet, phase.sort)
            optimizer = _optimizer(supernet, schedule.recipe)
        if phase.distil and teacher is None:
            teacher = _teacher(supernet, folder / "teacher.safetensors", make=step == schedule.teacher_step)
        archs = STRATEGIES[phase.strategy](space, phase.subnets, np.random.default_rng([settings.seed, step]))
        images, labels = batches(step, archs[0].resolution)
        rate = learning_rate(phase, within)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with _torch_seed(settings.seed, step):
            guide = teacher if phase.distil else None
            recent.append(train_step(supernet, archs, images, labels, optimizer, schedule.recipe, guide))
        step += 1
        ending, stop = within + 1 == phase.steps, should_stop()
        validating = ending or step % settings.validate_every == 0
        due = time.monotonic() - last_saved > settings.checkpoint_every_s
        if step % LOG_EVERY == 0 or validating or stop or due:
            loss = float(torch.stack(recent).mean())  # read from the device here only
            recent.clear()
            finite = np.isfinite(loss)
            if not finite or not all(parameter.isfinite().all() for parameter in supernet.parameters()):
                raise TrainingError(
                    f"the {'weights' if finite else 'loss'} stopped being finite near step {step} in phase {phase.name}: train "
                    f"again with a lower --rate (now {rate:.3g}); the last good state is in {folder / 'checkpoints'}"
                )
            report("train", loss=loss, rate=rate)
        if validating:
            for record in validate(supernet, space, phase):
                report("validation", **record)
            supernet.train()
        if ending or stop or due:
            _save(folder, supernet, optimizer, schedule, step, time.monotonic() - started)
            last_saved = time.monotonic()
        if stop and step < schedule.steps:
            raise StoppedError(f"stopped at step {step} of {schedule.steps} on request; go on with --resume")


def train_step(
    supernet: Supernet,
    archs: list[Arch],
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    teacher: nn.Module | None,
) -> Tensor:
    """One optimiser step on several sub-networks, whose gradients are added up.

    The loss of each is cross-entropy with the labels, plus `distil_weight` times cross-entropy with the teacher's softmax
    (OFA, section 3.3). Costs the sum of its sub-networks and the teacher's forward pass.

    Returns:
        The mean loss over the sub-networks, detached, not yet read from the device.
    """
    target = None
    if teacher is not None:
        with torch.no_grad():
            target = teacher(images).softmax(1)
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for arch in archs:
        logits = supernet(images, arch, dropout=recipe.dropout)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        if target is not None:
            loss = loss + recipe.distil_weight * F.cross_entropy(logits, target)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if recipe.clip:
        nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip)
    optimizer.step()
    return total / len(archs)


def _zero_residuals(supernet: Supernet) -> None:
    """Batch norms that end the branch around which a shortcut goes start at zero (Goyal et al., 2017)."""
    for segment in supernet.space.lower(supernet.space.largest(), supernet.num_classes).segments:
        norms = {op.name for op in segment.ops if isinstance(op, Norm)}
        for op in segment.ops:
            if isinstance(op, Add) and op.inputs[1] in norms:
                nn.init.zeros_(supernet.get_parameter(f"{segment.name}.{op.inputs[1]}.weight"))


def _optimizer(supernet: Supernet, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in supernet.parameters() if p.ndim > 1]
    others = [p for p in supernet.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(groups, lr=0.0)


def _save(
    folder: Path, supernet: Supernet, optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, seconds: float
) -> None:
    tensors = {f"model.{name}": value for name, value in supernet.state_dict().items()}
    for name, parameter in supernet.named_parameters():
        if parameter in optimizer.state:  # parameters that were not trained yet have none
            state = optimizer.state[parameter]
            tensors |= {f"optimizer.{name}/{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    facts = {"seconds": seconds, "schedule": schedule.to_json()}
    checkpoint.save(folder / "checkpoints", checkpoint.Checkpoint(step, tensors, facts))


def _restore(supernet: Supernet, optimizer: torch.optim.Optimizer, schedule: Schedule, saved: checkpoint.Checkpoint) -> None:
    if saved.facts["schedule"] != schedule.to_json():
        raise CheckpointError("the checkpoint belongs to another schedule: resume with the arguments of the first start")
    model = {name.removeprefix("model."): value for name, value in saved.tensors.items() if name.startswith("model.")}
    load_weights(supernet, model)
    parameters = dict(supernet.named_parameters())
    for name, value in saved.tensors.items():
        if name.startswith("optimizer."):
            owner, key = name.removeprefix("optimizer.").split("/")
            parameter = parameters[owner]
            # momentum has its parameter's memory format, so that a resumed run adds in the same order
            optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value) if value.ndim else value


def load_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy weights by name.

    Raises:
        CheckpointError: a name is missing or left over, or a shape differs.
    """
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) or [n for n, value in own.items() if value.shape != tensors[n].shape]
    if wrong:
        raise CheckpointError(f"the weights do not fit this space and class count: {wrong[0]} (and {len(wrong) - 1} more)")
    network.load_state_dict(tensors)


def _teacher(supernet: Supernet, path: Path, *, make: bool) -> nn.Module:
    """The largest network, frozen: made now and written, or read back. It runs in train mode, on batch statistics."""
    teacher = supernet.extract(supernet.space.largest())
    weights = dict(teacher.named_parameters())
    if make:
        checkpoint.save_tensors(path, weights, {})
    else:
        tensors, _ = checkpoint.load_tensors(path)
        if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in weights.items()}:
            raise CheckpointError(f"{path}: not the teacher of this run: train again with another --out")
        for name, weight in weights.items():
            weight.detach().copy_(tensors[name])
    return teacher.requires_grad_(False).train()


@contextmanager
def _torch_seed(seed: int, step: int) -> Iterator[None]:
    """Torch's own generator, used by dropout, is a function of (seed, step) inside, and untouched outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.default_rng([seed, step, 1]).integers(2**62).item())
        yield
