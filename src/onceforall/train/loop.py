"""The training loop: follows a schedule step by step, and can be stopped and resumed at any of them.

Everything random in step s comes from (seed, s): the images, the resolution, the sub-networks, dropout. So the weights after
a resume are those of an uninterrupted run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import StoppedError, TrainingError
from ..nn.sorting import sort_channels
from ..ops import Add, Norm
from ..space import Space
from ..supernet import Supernet
from . import checkpoint
from .guard import collapsed, diverged, validated
from .schedule import Phase, Schedule, learning_rate, whole
from .state import State, frozen_teacher
from .step import PRECISIONS, choose, onto, torch_seed, train_step
from .strategies import STRATEGIES, at_resolution
from .world import World

__all__ = ["Settings", "train"]

Event = dict[str, Any]
Batches = Callable[[int, int], tuple[Tensor, Tensor]]  # (step, resolution) -> images (n, 3, r, r), labels (n,) or (n, classes)
LOG_EVERY = 20
ROLLBACKS = 3  # of one training, before it gives up
ROLLBACK_RATE = 0.5  # what the learning rate is multiplied by then


@dataclass(frozen=True)
class Settings:
    """How the loop keeps house.

    Args:
        seed: of everything random.
        validate_every: steps between validations; the end of a phase is always validated.
        checkpoint_every_s: seconds between checkpoints; every validation and the end of a phase has one too.
        sync_norm: batch norm over the images of all processes, which must train the same sub-networks.
        same_archs: all processes train the same sub-networks in a step; else each draws its own, at the same resolution.
        precision: "float32", or "bfloat16" for the networks' passes; see `onceforall.train.step.in_precision`.
    """

    seed: int = 0
    validate_every: int = 1000
    checkpoint_every_s: float = 120.0
    sync_norm: bool = False
    same_archs: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        whole("the seed", self.seed, 0)
        whole("validate_every", self.validate_every, 1)
        if self.precision not in PRECISIONS:
            raise TrainingError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.sync_norm and not self.same_archs:
            raise TrainingError("sync_norm normalises the same layers in all processes, so it needs same_archs: set one of them")


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
    teacher: nn.Module | None = None,
    world: World = World(),  # noqa: B008  # frozen
) -> None:
    """Train in place, from a checkpoint or from the beginning, to the end of the schedule.

    When the loss is far above what chance gives, the loss, a weight or a statistic is no longer finite, or the largest network
    collapses, training goes back to the last good checkpoint with half the learning rate, up to three times.

    Args:
        supernet: fresh, or of the same space as the checkpoint; it is trained on the device that it is on.
        schedule: the same as that of the checkpoint.
        batches: training images of a step at a resolution, a pure function, on any device; those of this process, if there are
            several.
        folder: gets checkpoints/, and teacher.safetensors once there is a frozen teacher.
        start: checkpoint to go on from, such as `checkpoint.latest(folder / "checkpoints")`; None for the beginning.
        settings: see `Settings`.
        validate: measures a few sub-networks; called with the phase's space in every process, each of which may measure some: what
            they return is put together in turns. The first record whose "subnet" is "largest" and its "top1" tell whether
            training has collapsed.
        on_event: gets a record of every phase start ("phase"), of the loss every 20 steps and before a validation ("train"),
            of every sub-network validated ("validation"), of every return to a checkpoint ("rollback"), of an early end ("note").
        should_stop: asked after every step; True ends with a checkpoint and `StoppedError`.
        teacher: for phases with an external one: gives logits for the step's images at the step's resolution.
        world: the processes that train together; only the first writes files.

    Raises:
        StoppedError: on request.
        TrainingError: training diverges again and again; checkpoints hold finite weights only.
        CheckpointError: the checkpoint belongs to another space or schedule, or the teacher's file is damaged.
        FileError: a checkpoint cannot be written.
    """
    checkpoints = folder / "checkpoints"
    supernet.forget_statistics()
    supernet.train()
    if any(phase.distil and phase.teacher == "external" for phase in schedule.phases) and teacher is None:
        raise TrainingError("the schedule learns from an external teacher, and none was given")
    if start is None and schedule.recipe.zero_residual:
        _zero_residuals(supernet)  # of a network that came with weights these are no beginning: it has no operation of this kind
    state = State(supernet, schedule, supernet.space.lower(supernet.space.largest(), supernet.num_classes))
    if start is not None:
        state.restore(start)
    frozen: nn.Module | None = None
    began, last_saved = time.monotonic() - state.seconds, time.monotonic()
    recent: list[Tensor] = []
    sync_norm = settings.sync_norm and world.size > 1
    device = next(supernet.parameters()).device
    together = world.mean if settings.same_archs else World().mean

    def report(event: str, **record: Any) -> None:
        on_event({"event": event, "phase": phase.name, "step": state.step, "seconds": time.monotonic() - began, **record})

    def save(*, good: bool, best: bool = False) -> None:
        state.seconds = time.monotonic() - began
        if world.leads:
            state.save(checkpoints, good=good, best=best)
        world.wait()

    def go_back(reason: str) -> None:
        """To the last state that was validated, with a lower rate."""
        nonlocal frozen
        if state.rollbacks == ROLLBACKS:
            raise TrainingError(
                f"{reason} near step {state.step} in phase {phase.name}, again after {ROLLBACKS} returns to a checkpoint with ever "
                f"lower rates (now {state.rate_factor:g} of the schedule's): use a lower --rate or look at the images; "
                f"the last good state is in {checkpoints}"
            )
        lost, rollbacks, factor = state.step, state.rollbacks + 1, state.rate_factor * ROLLBACK_RATE
        state.restore(checkpoint.last_good(checkpoints))
        frozen = frozen if state.step > schedule.teacher_step else None
        state.rollbacks, state.rate_factor = rollbacks, factor
        recent.clear()
        world.wait()  # until all have read it
        save(good=True)
        report("rollback", reason=reason, lost_step=lost, rate_factor=factor)

    def seen() -> Tensor:
        return onto(batches(state.step, supernet.space.resolutions[-1])[0], device)

    if len(set(world.gather(state.step))) > 1:
        raise TrainingError("the processes start from different checkpoints: give all of them the same folder")
    (missing,) = world.agree([not checkpoint.has_good(checkpoints)])
    if state.step < schedule.steps and (state.step == 0 or missing):
        if not state.finite():
            raise TrainingError("the weights to start from are not finite: start from others")
        save(good=True)
    begun, phase = state.step, schedule.phases[-1]
    while state.step < schedule.steps and not state.patience_is_over:
        phase, within = schedule.at(state.step)
        space = supernet.space.keep_largest(**phase.keep)
        if within == 0:
            report("phase", steps=phase.steps, rate=phase.rate)
            if phase.sort is not None:
                sort_channels(supernet, phase.sort, along=state.ema, images=seen, mean=world.mean)
            if phase.cosine[0] == 0:
                state.renew_optimizer()
        guide = teacher if phase.distil and phase.teacher == "external" else None
        if phase.distil and phase.teacher == "frozen":
            if frozen is None:
                make = state.step == schedule.teacher_step
                path = folder / "teacher.safetensors"
                frozen = frozen_teacher(supernet, path, make=make, write=world.leads, sync_norm=sync_norm)
            guide = frozen
        groups = STRATEGIES[phase.strategy](space, phase.subnets, np.random.default_rng([settings.seed, state.step]))
        resolution = groups[0][0].resolution
        if not settings.same_archs and world.rank > 0:
            rng = np.random.default_rng([settings.seed, state.step, world.rank])
            groups = at_resolution(STRATEGIES[phase.strategy](space, phase.subnets, rng), resolution)
        images, labels = (onto(tensor, device) for tensor in batches(state.step, resolution))
        rate = state.rate_factor * learning_rate(phase, within)
        state.set_rate(rate)
        with torch_seed(settings.seed, state.step, world.rank, device):
            recent.append(
                train_step(
                    supernet,
                    choose(supernet, groups, images, labels, sync_norm=sync_norm, precision=settings.precision, mean=together),
                    images,
                    labels,
                    state.optimizer,
                    schedule.recipe,
                    guide,
                    in_place=phase.distil and phase.teacher == "largest",
                    only_largest_has_labels=phase.labels == "largest",
                    divergence=phase.divergence,
                    others=phase.ramp + (1 - phase.ramp) * within / phase.steps,
                    sync_norm=sync_norm,
                    precision=settings.precision,
                    reduce=lambda: world.mean_gradients(supernet.parameters(), same=settings.same_archs),
                )
            )
        state.follow()
        state.step += 1
        ending = within + 1 == phase.steps
        stop, due = world.agree([should_stop(), time.monotonic() - last_saved > settings.checkpoint_every_s])
        validating = ending or state.step % settings.validate_every == 0
        if state.step % LOG_EVERY == 0 or validating or stop or due:
            loss = float(world.mean(torch.stack(recent).mean()))  # read from the device here only
            recent.clear()
            if reason := diverged(loss, state, supernet.num_classes):
                go_back(reason)
                continue
            report("train", loss=loss, rate=rate)
        if validating:
            records, failures = validated(lambda: validate(supernet, space, phase), state, world)  # noqa: B023  # called at once
            if failures:
                go_back(failures[0])
                continue
            for record in records:
                report("validation", **record)
            top1 = next((float(record["top1"]) for record in records if record["subnet"] == "largest"), None)
            if top1 is not None:
                if collapsed(top1, state.best_top1, 1 / supernet.num_classes):
                    go_back(f"the largest network collapsed from {state.best_top1:.1%} to {top1:.1%} top-1")
                    continue
                state.best_top1 = max(state.best_top1, top1)
            better = phase is schedule.phases[-1] and state.judge([float(record["top1"]) for record in records])
        if validating or stop or due:
            save(good=validating, best=validating and better)
            last_saved = time.monotonic()
        if stop and state.step < schedule.steps:
            raise StoppedError(f"stopped at step {state.step} of {schedule.steps} on request; go on with --resume")
    if schedule.recipe.patience and (best := checkpoint.best(checkpoints)):
        if begun < state.step > best.step:
            told = f"the weights of step {best.step:,} are kept, the best on held-out images (patience)"
            if state.step < schedule.steps:
                why = f"the mean accuracy has not risen in {state.stale} validations"
                told = f"ended at step {state.step:,} of {schedule.steps:,}: {why}; {told}"
            report("note", kept=best.step, text=told)
        state.restore(best)
    state.finish()


def _zero_residuals(supernet: Supernet) -> None:
    """Batch norms that end the branch around which a shortcut goes start at zero (Goyal et al., 2017)."""
    for segment in supernet.space.lower(supernet.space.largest(), supernet.num_classes).segments:
        norms = {op.name for op in segment.ops if isinstance(op, Norm)}
        for op in segment.ops:
            if isinstance(op, Add) and op.inputs[1] in norms:
                nn.init.zeros_(supernet.get_parameter(f"{segment.name}.{op.inputs[1]}.weight"))
