"""One optimizer step on several sub-networks that share a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..arch import Arch
from ..errors import TrainingError
from ..supernets.supernet import Supernet
from ..tasks.task import MULTICLASS, Task
from .losses import divergence_of, precise
from .schedule import Phase, Recipe, whole
from .strategies import Groups

PRECISIONS = ("float32", "bfloat16")
Batch = tuple[Tensor, Tensor]  # images (n, c, height, width); labels in the task's form, or shares of classes (n, classes)


@dataclass(frozen=True)
class Settings:
    """How a schedule is followed.

    Args:
        validate_every: steps between validations; every phase also ends with one.
        checkpoint_every_s: seconds between checkpoints; validations and phase ends are also followed by one.
        sync_norm: batch norm over the images of all processes, which must train the same sub-networks.
        same_archs: all processes train the same sub-networks in a step; otherwise each draws its own, at the same resolution.
        precision: "float32", or "bfloat16" for the networks' passes; see `in_precision`.
        class_weights: factors of the loss on labels, one per class, see `Task.weights`; () for none.
        adjustment: numbers that the loss on labels adds to the logits, one per class, see `Recipe.logit_adjustment`; () for none.
        task: whether an image has one class or any number of labels.
        chance: score of an untrained network, see `Task.chance`; None for 1 / classes.
    """

    seed: int = 0
    validate_every: int = 1000
    checkpoint_every_s: float = 120.0
    sync_norm: bool = False
    same_archs: bool = True
    precision: str = "float32"
    class_weights: tuple[float, ...] = ()
    adjustment: tuple[float, ...] = ()
    task: Task = MULTICLASS
    chance: float | None = None

    def __post_init__(self) -> None:
        whole("the seed", self.seed, 0)
        whole("validate_every", self.validate_every, 1)
        if self.precision not in PRECISIONS:
            raise TrainingError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.sync_norm and not self.same_archs:
            raise TrainingError("sync_norm needs the same layers in all processes: set same_archs, or turn sync_norm off")

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The task's loss with the class weights and the adjustment."""
        adjusted = logits + logits.new_tensor(self.adjustment) if self.adjustment else logits
        return self.task.loss(adjusted, labels, smoothing, self.class_weights)


def train_step(
    network: nn.Module,
    archs: Sequence[Arch] | None,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    phase: Phase,
    teacher: nn.Module | None = None,
    *,
    settings: Settings = Settings(),  # frozen
    within: int = 0,
    reduce: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sum the gradients of all sub-networks, then take one optimizer step.

    Each sub-network's loss is the task's loss on the labels plus `recipe.distil_weight` times the divergence from the teacher. A
    step costs the passes of all sub-networks and the teacher's forward pass; it does not synchronize with the device.

    Args:
        network: a supernet or a single network, in train mode.
        archs: the sub-networks, the largest one first if the phase treats it differently; None for a single network, which keeps
            its own dropout layers.
        optimizer: the optimizer of the network's parameters.
        recipe: see `Recipe`; if the first sub-network teaches the others, only the first has dropout and drop path.
        phase: selects the teacher, the networks that learn from labels, and the loss factor of the smaller networks.
        teacher: a network that returns logits, or None.
        settings: precision of the networks' passes (losses, gradients and weights are float32), and `sync_norm`.
        within: index of the step in its phase, for `Phase.ramp`.
        reduce: called between the last backward pass and the optimizer step, to sum gradients over processes.

    Returns:
        The mean of the reported losses, detached.
    """
    images, labels = batch
    in_place, others = phase.distil and phase.teacher == "largest", phase.ramp + (1 - phase.ramp) * within / max(1, phase.steps)
    target = None
    if teacher is not None:
        with torch.no_grad(), in_precision(settings.precision, images.device):
            target = precise(teacher(images))
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for i, arch in enumerate(archs or [None]):
        dropout, drop_path = (0.0, 0.0) if in_place and i > 0 else (recipe.dropout, recipe.drop_path)
        options = {"dropout": dropout, "drop_path": drop_path, "sync_norm": settings.sync_norm}
        with in_precision(settings.precision, images.device):
            logits = precise(network(images) if arch is None else network(images, arch, **options))
        loss = reported = torch.zeros((), device=logits.device)
        if i == 0 or phase.labels == "all":
            loss = settings.loss(logits, labels, recipe.label_smoothing)
            reported = loss.detach()
        if target is not None:
            distance, value = divergence_of(phase.divergence, settings.task, logits, target)
            loss = loss + recipe.distil_weight * distance
            reported = reported + recipe.distil_weight * value
        (loss if i == 0 else others * loss).backward()  # type: ignore[no-untyped-call]
        total += reported
        if in_place and i == 0:
            target = logits.detach()
    reduce()
    if recipe.clip_value:
        nn.utils.clip_grad_value_(network.parameters(), recipe.clip_value)
    if recipe.clip:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    return total / len(archs or [None])


def choose_subnets(
    supernet: Supernet,
    groups: Groups,
    batch: Batch,
    settings: Settings = Settings(),  # frozen
    mean: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> list[Arch]:
    """Pick one architecture from each group: the one with the lowest loss on the images.

    Synchronizes with the device once, and only if a group has several architectures.

    Args:
        supernet: in train mode; it is not changed.
        groups: drawn by a strategy.
        settings: task, precision and `sync_norm`.
        mean: averages the losses over processes, for the same choice in all of them.
    """
    (images, labels), tried = batch, [group for group in groups if len(group) > 1]
    if not tried:
        return [group[0] for group in groups]
    with torch.no_grad(), in_precision(settings.precision, images.device):
        logits = (precise(supernet(images, arch, sync_norm=settings.sync_norm)) for group in tried for arch in group)
        found = [settings.task.loss(each, labels, 0.0, ()) for each in logits]
    rows = torch.split(mean(torch.stack(found)), [len(group) for group in tried])
    best = iter(pad_sequence(list(rows), batch_first=True, padding_value=torch.inf).argmin(1).tolist())
    return [group[next(best)] if len(group) > 1 else group[0] for group in groups]


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context in which convolutions and linear layers compute in this precision, by torch.autocast; weights stay float32."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to the device; copies to a GPU go through pinned memory and do not block."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def torch_seed(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Context in which torch's global generators, which dropout uses, are seeded by (seed, step, rank); restored afterwards."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        words = [seed, step, 1] if rank == 0 else [seed, step, 1, rank]
        number = np.random.default_rng(words).integers(2**62).item()
        torch.default_generator.manual_seed(number)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        yield
