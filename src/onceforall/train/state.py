"""The full training state, which is saved in checkpoints and restored bit for bit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..calibrate import norms_of
from ..common.memory import loading
from ..errors import CheckpointError
from ..nn.layers import SynchronizedNorm
from ..nn.static import put, without_dropout
from ..ops import Call
from ..plan import Plan
from ..supernets.supernet import Supernet
from . import checkpoint
from .schedule import Recipe, Schedule

DECAYED = ("weight", "matrix")
FACTS = {"seconds": 0.0, "rate_factor": 1.0, "rollbacks": 0, "best_top1": 0.0, "best_mean": 0.0, "stale": 0}


class State:
    """Weights of a supernet or another network, the optimizer, the moving average of the weights, and counters.

    Attributes:
        step: optimizer steps completed.
        seconds: time they took.
        rate_factor: factor of the schedule's learning rate; below 1 after a rollback.
        rollbacks: how often training diverged and returned to a checkpoint.
        best_top1: best top-1 of the largest network in all validations.
        best_mean: best mean top-1 of the validated networks in all validations.
        stale: number of validations since the best one.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, plan: Plan | None = None) -> None:
        """The state before the first step; `plan` is the network's plan, for learning rates that differ between segments."""
        self.network, self.schedule = network, schedule
        self.step, self.seconds, self.rate_factor, self.rollbacks, self.best_top1 = 0, 0.0, 1.0, 0, 0.0
        self.best_mean, self.stale = 0.0, 0
        self.shares = {} if plan is None else rate_shares(plan, schedule.recipe.layer_decay)
        self.optimizer = new_optimizer(network, schedule.recipe, self.shares)
        self.ema: dict[str, Tensor] = {}
        if schedule.recipe.ema:
            self.ema = {name: p.detach().clone() for name, p in network.named_parameters()}

    def renew_optimizer(self) -> None:
        """Reset the optimizer, as at the start of a phase."""
        self.optimizer = new_optimizer(self.network, self.schedule.recipe, self.shares)

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]

    def follow(self) -> None:
        """Update the moving average of the weights; faster at first, so that the initial weights are soon forgotten."""
        if self.ema:
            decay = min(self.schedule.recipe.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.values()), list(self.network.parameters()), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the network has the moving average of its weights, if there is one."""
        weights = {name: p.detach().clone() for name, p in self.network.named_parameters()} if self.ema else {}
        copy_into(self.network, self.ema)
        try:
            yield
        finally:
            copy_into(self.network, weights)

    def judge(self, scores: list[float]) -> bool:
        """Record a validation's scores; return whether their mean is the best so far and patience is on."""
        mean = sum(scores) / len(scores) if scores else 0.0
        better = mean > self.best_mean
        self.best_mean, self.stale = max(mean, self.best_mean), 0 if better else self.stale + 1
        return better and self.schedule.recipe.patience > 0

    @property
    def patience_is_over(self) -> bool:
        """Whether the training should end, see `Recipe.patience`."""
        return 0 < self.schedule.recipe.patience <= self.stale

    def finish(self) -> None:
        """Load the final weights into the network."""
        copy_into(self.network, self.ema)

    def finite(self) -> bool:
        """Whether all weights are finite; synchronizes with the device once."""
        return bool(torch.stack([p.isfinite().all() for p in self.network.parameters()]).all())

    def save(self, folder: Path, *, good: bool, best: bool = False) -> None:
        """Write a checkpoint; see `checkpoint.save` for `good` and `best`.

        Raises:
            FileError: it cannot be written; earlier ones are intact.
        """
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, parameter in self.network.named_parameters():
            if parameter in self.optimizer.state:  # untrained parameters have no state
                state = self.optimizer.state[parameter]
                tensors |= {f"optimizer.{name}/{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        facts: dict[str, Any] = {name: getattr(self, name) for name in FACTS}
        facts["schedule"] = self.schedule.to_json()
        checkpoint.save(folder, checkpoint.Checkpoint(self.step, tensors, facts), good=good, best=best)

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Restore a saved state.

        Raises:
            CheckpointError: it belongs to another space or schedule.
        """
        if Schedule.from_json(saved.facts["schedule"]) != self.schedule:
            raise CheckpointError("the checkpoint belongs to another schedule: resume with the arguments of the first start")
        load_weights(self.network, part_of(saved.tensors, "model."))
        self.step = saved.step
        for name, initial in FACTS.items():
            setattr(self, name, saved.facts.get(name, initial))
        for name, value in part_of(saved.tensors, "ema.").items():
            self.ema[name].copy_(value)
        self.renew_optimizer()
        parameters = dict(self.network.named_parameters())
        for name, value in part_of(saved.tensors, "optimizer.").items():
            owner, _, key = name.rpartition("/")
            parameter = parameters[owner]
            # with the memory format of its parameter, so that a resumed run sums in the same order
            self.optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value) if value.ndim else value


def load_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy weights by name.

    Raises:
        CheckpointError: a name is missing or unexpected, or a shape differs.
    """
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) or [n for n, value in own.items() if value.shape != tensors[n].shape]
    if wrong:
        raise CheckpointError(f"the weights do not fit this space and class count: {wrong[0]} (and {len(wrong) - 1} more)")
    network.load_state_dict(tensors)


def frozen_teacher(supernet: Supernet, path: Path, *, make: bool, write: bool = True, sync_norm: bool = False) -> nn.Module:
    """The frozen largest network, created and written, or read from its file. It uses batch statistics and no dropout.

    Args:
        supernet: the supernet whose largest network it is.
        make: create it from the current weights instead of reading the file.
        write: write the file if it is created.
        sync_norm: use batch statistics over all processes.

    Raises:
        CheckpointError: the file is damaged or belongs to another run.
        FileError: it cannot be written or read.
    """
    teacher = supernet.extract(supernet.space.largest())
    weights = dict(teacher.named_parameters())
    if make:
        if write:
            checkpoint.save_tensors(path, weights, {})
    else:
        tensors, _ = checkpoint.load_tensors(path)
        if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in weights.items()}:
            raise CheckpointError(f"{path}: not the teacher of this run: train again with another --out")
        copy_into(teacher, tensors)
    if sync_norm:
        for name, layer in norms_of(teacher).items():
            put(teacher, name, SynchronizedNorm(layer))
    without_dropout(teacher)
    return teacher.requires_grad_(False).train()


def new_optimizer(network: nn.Module, recipe: Recipe, shares: Mapping[str, float]) -> torch.optim.Optimizer:
    """SGD or AdamW, with weight decay on weights and kernel matrices only, not on position embeddings, tokens and tables.

    Args:
        network: the network whose parameters are trained.
        recipe: the optimizer's settings.
        shares: factors of the learning rate, by the name of a parameter or its layer; 1 for others.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, p in network.named_parameters():
        decays = p.ndim > 1 and name.endswith(DECAYED)
        share = shares.get(name, shares.get(name.rpartition(".")[0], 1.0))
        groups.setdefault((share, decays), []).append(p)
    made = [
        {"params": own, "share": share, "weight_decay": recipe.weight_decay if decays else 0.0}
        for (share, decays), own in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]
    with loading():  # the first optimizer in a process loads torch._dynamo
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(made, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
        return torch.optim.AdamW(made, lr=0.0)


def rate_shares(plan: Plan, decay: float) -> dict[str, float]:
    """Factors of the learning rate by layer or tensor name: 1 in the last segment, multiplied by `decay` in each one before it.

    A tensor shared by several segments has the rate of the first one.
    """
    found: dict[str, float] = {}
    for place, segment in enumerate(reversed(plan.segments) if decay < 1 else ()):
        for op in segment.ops:
            names = [f"{segment.name}.{op.name}"]
            if isinstance(op, Call):
                names = [name for weight in op.tensors for name in (weight.name, weight.name.rpartition(".")[0])]
            found |= dict.fromkeys(names, decay**place)
    return found


def copy_into(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Overwrite the named parameters."""
    with torch.no_grad():
        for name, value in weights.items():
            network.get_parameter(name).copy_(value)


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
