"""The training loop, which follows a schedule and can be stopped and resumed at any step.

All randomness of step s (images, resolution, sub-networks, dropout) derives from (seed, s), so a resumed run ends with the same
weights as an uninterrupted one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..common.progress import QUIET, Progress
from ..errors import StatisticsError, StoppedError, TrainingError
from ..ops import Add, Norm
from ..plan import Plan
from ..resolutions import Resolution
from ..scores import METRICS
from ..space import Space
from ..supernets.sorting import sort_channels
from ..supernets.supernet import Supernet
from . import checkpoint
from .schedule import Phase, Schedule, learning_rate
from .state import State, frozen_teacher
from .step import Batch, Settings, choose_subnets, onto, torch_seed, train_step
from .strategies import STRATEGIES, Groups, at_resolution
from .world import World

Event = dict[str, Any]
Batches = Callable[[int, Resolution], Batch]  # (step, resolution) -> batch
LOG_EVERY = 20
ROLLBACKS = 3  # maximum number per training
ROLLBACK_RATE = 0.5  # factor of the learning rate at each rollback
COLLAPSE = 0.2  # the largest network has collapsed below this share of its best score above chance
HIGH_LOSS = 20.0  # training has diverged above this multiple of the loss at chance


@dataclass(eq=False)
class Trainer:
    """Trains a supernet, or a single network, in place to the end of a schedule.

    If the loss is far above chance, if the loss, a weight or a statistic is no longer finite, or if the largest network collapses,
    the training of a supernet returns to the last good checkpoint with half the learning rate, up to three times.

    Args:
        network: new, or of the same space as the checkpoint; it is trained on its current device. A network that is not a supernet
            is trained at one resolution, without validations and without rollbacks.
        schedule: must equal the checkpoint's.
        batches: pure function from (step, resolution) to training images on any device; with several processes, the images of this
            process.
        folder: receives checkpoints/ and, once there is a frozen teacher, teacher.safetensors; for a single network, it receives
            the checkpoints themselves.
        validate: measures a few sub-networks. It is called in every process with the phase's space; each process may measure some,
            and all records are interleaved. Training has collapsed if the main metric of the task drops in the first record whose
            "subnet" is "largest".
        progress: its `event` receives records of every phase start ("phase"), of the loss every 20 steps and before a validation
            ("train"), of every validated sub-network ("validation"), of every return to a checkpoint ("rollback") and of an early
            end ("note").
        teacher: for phases with an external teacher: returns logits for the step's images at the step's resolution.
        world: the processes that train together; only the first one writes files.
        num_classes: only for a single network.
        plan: only for a single network with learning rates that differ between segments.
    """

    network: nn.Module
    schedule: Schedule
    batches: Batches
    folder: Path
    validate: Callable[[Supernet, Space, Phase], list[Event]] = lambda network, space, phase: []
    progress: Progress = QUIET
    settings: Settings = Settings()  # noqa: RUF009  # frozen
    teacher: nn.Module | None = None
    world: World = World()  # noqa: RUF009  # frozen
    num_classes: int = 0
    plan: Plan | None = None
    state: State = field(init=False)
    _frozen: nn.Module | None = field(default=None, init=False)
    _recent: list[Tensor] = field(default_factory=list, init=False)  # losses, still on the device
    _began: float = field(default=0.0, init=False)
    _saved: float = field(default=0.0, init=False)
    _better: bool = field(default=False, init=False)  # whether the last validation was the best one

    def run(self, start: checkpoint.Checkpoint | None) -> None:
        """Train from a checkpoint, or from the beginning, to the end of the schedule.

        Args:
            start: such as `checkpoint.latest(folder / "checkpoints")`; None to start from the beginning.

        Raises:
            StoppedError: stopped on request.
            TrainingError: training diverges again and again; checkpoints only hold finite weights.
            CheckpointError: the checkpoint belongs to another space or schedule, or the teacher's file is damaged.
            FileError: a checkpoint cannot be written.
        """
        self._begin(start)
        state, schedule = self.state, self.schedule
        begun = state.step
        while state.step < schedule.steps and not state.patience_is_over:
            phase, within = schedule.at(state.step)
            if within == 0:
                self._begin_phase(phase)
            rate = self.step(phase, within, self.draw(phase))
            ending = within + 1 == phase.steps
            due = time.monotonic() - self._saved > self.settings.checkpoint_every_s
            stop, due = self.world.agree([self.progress.stopped(), due])
            validating = ending or state.step % self.settings.validate_every == 0
            if state.step % LOG_EVERY and not (validating or stop or due):
                continue
            if reason := self._logged(phase, rate) or (self._validated(phase) if validating else ""):
                self._go_back(phase, reason)
                continue
            if validating or stop or due:
                self._save(good=validating, best=validating and self._better)
            if stop and state.step < schedule.steps:
                raise StoppedError(f"stopped at step {state.step} of {schedule.steps} on request; continue with --resume")
        self._finish(begun)

    @property
    def supernet(self) -> Supernet | None:
        """The network if it is a supernet, else None."""
        return self.network if isinstance(self.network, Supernet) else None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints" if self.supernet else self.folder

    def _begin(self, start: checkpoint.Checkpoint | None) -> None:
        supernet = self.supernet
        if any(phase.distil and phase.teacher == "external" for phase in self.schedule.phases) and self.teacher is None:
            kind = "a" if supernet is None else "an external"
            raise TrainingError(f"the schedule needs {kind} teacher, and there is none: give one, or set distil to false")
        if supernet is not None:
            supernet.forget_statistics()
            self.num_classes, self.plan = supernet.num_classes, supernet.space.lower(supernet.space.largest(), supernet.num_classes)
            if start is None and self.schedule.recipe.zero_residual:
                _zero_residuals(supernet, self.plan)  # no effect on users' own networks, whose plans lack such operations
        self.network.train()
        self.settings = replace(self.settings, sync_norm=self.settings.sync_norm and self.world.size > 1)
        self.state = state = State(self.network, self.schedule, self.plan)
        if start is not None:
            state.restore(start)
        self._began, self._saved = time.monotonic() - state.seconds, time.monotonic()
        if len(set(self.world.gather(state.step))) > 1:
            raise TrainingError("the processes start from different checkpoints: give all of them the same folder")
        if supernet is None or state.step >= self.schedule.steps:
            return
        (missing,) = self.world.agree([not checkpoint.has_good(self.checkpoints)])
        if state.step == 0 or missing:
            if not state.finite():
                raise TrainingError("the initial weights are not finite: start from other weights")
            self._save(good=True)

    def _begin_phase(self, phase: Phase) -> None:
        self._report("phase", phase, steps=phase.steps, rate=phase.rate)
        if phase.sort is not None and (supernet := self.supernet) is not None:
            device = next(supernet.parameters()).device

            def images() -> Tensor:
                return onto(self.batches(self.state.step, supernet.space.resolutions[-1])[0], device)

            sort_channels(supernet, phase.sort, along=self.state.ema, images=images, mean=self.world.mean)
        if phase.cosine[0] == 0:
            self.state.renew_optimizer()

    def rehearse(self, frozen: nn.Module) -> None:
        """Prepare for timing steps, which then change no weights, with a stand-in for the frozen teacher."""
        self.network.train()
        self.state, self._frozen = State(self.network, self.schedule), frozen
        self.state.rate_factor = 0.0

    def step(self, phase: Phase, within: int, groups: Groups | None) -> float:
        """Take one step on some of these sub-networks and return its learning rate. The loss stays on the device."""
        state, settings, world, supernet = self.state, self.settings, self.world, self.supernet
        teacher = self._teacher_of(phase)
        device = next(self.network.parameters()).device
        images, labels = self.batches(state.step, groups[0][0].resolution if groups else 0)
        batch = onto(images, device), onto(labels, device)
        rate = state.rate_factor * learning_rate(phase, within)
        state.set_rate(rate)
        with torch_seed(settings.seed, state.step, world.rank, device):
            archs = None
            if supernet is not None and groups is not None:
                archs = choose_subnets(supernet, groups, batch, settings, (world if settings.same_archs else World()).mean)
            reduce = partial(world.mean_gradients, self.network.parameters(), same=settings.same_archs)
            loss = train_step(
                self.network, archs, batch, state.optimizer, self.schedule.recipe, phase, teacher,
                settings=settings, within=within, reduce=reduce,
            )  # fmt: skip
        self._recent.append(loss)
        state.follow()
        state.step += 1
        return rate

    def draw(self, phase: Phase) -> Groups | None:
        """The sub-networks of this process in the next step; None for a single network."""
        if self.supernet is None:
            return None
        space, seeds = self.supernet.space.keep_largest(**phase.keep), [self.settings.seed, self.state.step]
        groups = STRATEGIES[phase.strategy](space, phase.subnets, np.random.default_rng(seeds))
        if not self.settings.same_archs and self.world.rank > 0:
            own = STRATEGIES[phase.strategy](space, phase.subnets, np.random.default_rng([*seeds, self.world.rank]))
            groups = at_resolution(own, groups[0][0].resolution)
        return groups

    def _teacher_of(self, phase: Phase) -> nn.Module | None:
        """The teacher of a phase; None if there is none or if it is one of the sub-networks."""
        if not phase.distil or phase.teacher == "largest":
            return None
        if phase.teacher == "external":
            return self.teacher
        if self._frozen is None and (supernet := self.supernet) is not None:
            make, path = self.state.step == self.schedule.teacher_step, self.folder / "teacher.safetensors"
            sync_norm = self.settings.sync_norm
            self._frozen = frozen_teacher(supernet, path, make=make, write=self.world.leads, sync_norm=sync_norm)
        return self._frozen

    def loss(self) -> float:
        """The mean loss since the last call. Only this method reads losses from the device."""
        loss = float(self.world.mean(torch.stack(self._recent).mean()))
        self._recent.clear()
        return loss

    def _logged(self, phase: Phase, rate: float) -> str:
        """Report the loss. Return the reason to go back to a checkpoint, or ""."""
        loss = self.loss()
        chance = self.settings.task.loss_at_first(self.num_classes) * (1 + self.schedule.recipe.distil_weight)
        if not math.isfinite(loss):
            return "the loss is no longer finite"
        if not self.state.finite():
            return "the weights are no longer finite"
        if loss > HIGH_LOSS * chance:
            return f"the loss rose to {loss:.3g}, far above the {chance:.3g} of an untrained network"
        self._report("train", phase, loss=loss, rate=rate)
        return ""

    def _validated(self, phase: Phase) -> str:
        """Measure some sub-networks. Return the reason to go back to a checkpoint, or ""."""
        state, supernet = self.state, self.supernet
        if supernet is None:
            return ""
        own, failure = list[Event](), ""  # in this process
        with state.averaged():
            try:
                own = self.validate(supernet, supernet.space.keep_largest(**phase.keep), phase)
            except StatisticsError as error:
                failure = str(error)
        supernet.train()
        parts: list[tuple[list[Event], str]] = self.world.gather((own, failure))
        if failure := next((failure for _, failure in parts if failure), ""):
            return failure
        turns = zip_longest(*(records for records, _ in parts))
        records = [record for turn in turns for record in turn if record is not None]
        for record in records:
            self._report("validation", phase, **record)
        metric = self.settings.task.metrics[0]
        top1 = next((float(record[metric]) for record in records if record["subnet"] == "largest"), None)
        if top1 is not None:
            chance = 1 / supernet.num_classes if self.settings.chance is None else self.settings.chance
            gain = state.best_top1 - chance
            if gain > min(2 * chance, (1 - chance) / 2) and top1 < chance + COLLAPSE * gain:
                return f"the largest network collapsed from {state.best_top1:.1%} to {top1:.1%} {METRICS[metric]}"
            state.best_top1 = max(state.best_top1, top1)
        scores = [float(record["score" if "score" in record else "top1"]) for record in records]
        self._better = phase is self.schedule.phases[-1] and state.judge(scores)
        return ""

    def _go_back(self, phase: Phase, reason: str) -> None:
        """Return to the last good checkpoint, with a lower learning rate."""
        state = self.state
        if self.supernet is None:
            raise TrainingError(f"fine-tuning diverged near step {state.step}: {reason}")
        if state.rollbacks == ROLLBACKS:
            raise TrainingError(
                f"{reason} near step {state.step} in phase {phase.name}, after {ROLLBACKS} returns to a checkpoint with ever "
                f"lower rates (now {state.rate_factor:g} of the schedule's): use a lower --rate or look at the images; "
                f"the last good state is in {self.checkpoints}"
            )
        lost, rollbacks, factor = state.step, state.rollbacks + 1, state.rate_factor * ROLLBACK_RATE
        state.restore(checkpoint.last_good(self.checkpoints))
        self._frozen = self._frozen if state.step > self.schedule.teacher_step else None
        state.rollbacks, state.rate_factor = rollbacks, factor
        self._recent.clear()
        self.world.wait()  # until all processes have read it
        self._save(good=True)
        self._report("rollback", phase, reason=reason, lost_step=lost, rate_factor=factor)

    def _finish(self, begun: int) -> None:
        """Load the final weights into the network; with patience, these are the weights of the best validation."""
        state = self.state
        if self.schedule.recipe.patience and (best := checkpoint.best(self.checkpoints)):
            if begun < state.step > best.step:
                text = f"the weights of step {best.step:,} are kept, the best on held-out images (patience)"
                if state.step < self.schedule.steps:
                    why = f"the mean accuracy has not risen in {state.stale} validations"
                    text = f"ended at step {state.step:,} of {self.schedule.steps:,}: {why}; {text}"
                self._report("note", self.schedule.at(state.step - 1)[0], kept=best.step, text=text)
            state.restore(best)
        state.finish()

    def _report(self, event: str, phase: Phase, **record: Any) -> None:
        seconds = time.monotonic() - self._began
        self.progress.event({"event": event, "phase": phase.name, "step": self.state.step, "seconds": seconds, **record})

    def _save(self, *, good: bool, best: bool = False) -> None:
        self.state.seconds = time.monotonic() - self._began
        if self.world.leads:
            self.state.save(self.checkpoints, good=good and self.supernet is not None, best=best)
        self.world.wait()
        self._saved = time.monotonic()


def _zero_residuals(supernet: Supernet, plan: Plan) -> None:
    """Zero-initialize the batch norm at the end of every residual branch (Goyal et al., 2017)."""
    for segment in plan.segments:
        norms = {op.name for op in segment.ops if isinstance(op, Norm)}
        for op in segment.ops:
            if isinstance(op, Add) and op.inputs[1] in norms:
                nn.init.zeros_(supernet.get_parameter(f"{segment.name}.{op.inputs[1]}.weight"))
