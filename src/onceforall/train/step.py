"""One optimiser step on several sub-networks that share a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..arch import Arch
from ..supernet import Supernet
from .losses import DIVERGENCES
from .schedule import Recipe
from .strategies import Groups

__all__ = ["PRECISIONS", "choose", "clip_gradients", "in_precision", "objective", "onto", "torch_seed", "train_step", "wide"]

PRECISIONS = ("float32", "bfloat16")


def train_step(
    supernet: Supernet,
    archs: Sequence[Arch],
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    teacher: nn.Module | None,
    *,
    in_place: bool = False,
    only_largest_has_labels: bool = False,
    divergence: str = "cross_entropy",
    others: float = 1.0,
    sync_norm: bool = False,
    precision: str = "float32",
    reduce: Callable[[], None] = lambda: None,
) -> Tensor:
    """Gradients of all sub-networks are added up, then the optimiser takes one step.

    The loss of each is cross-entropy with the labels, plus `recipe.distil_weight` times the divergence from the teacher. Costs
    the sum of its sub-networks and of the teacher's forward pass; nothing is read from the device.

    Args:
        supernet: in train mode.
        archs: the sub-networks; the first is the largest if `in_place` or `only_largest_has_labels`.
        images: (n, 3, r, r).
        labels: (n,) int64, or shares of classes (n, classes).
        optimizer: of the supernet's parameters.
        recipe: see `Recipe`; with `in_place`, dropout and drop path are for the largest network only.
        teacher: a network that gives logits, or None.
        in_place: the first sub-network teaches the others.
        only_largest_has_labels: the others learn from the teacher alone.
        divergence: name in `DIVERGENCES`.
        others: factor of the loss of all but the first sub-network.
        sync_norm: batch statistics are those of all processes, see `Supernet.forward`.
        precision: of the networks' passes, see `in_precision`; losses, gradients and weights are float32.
        reduce: called between the last backward pass and the optimiser's step, to add up gradients over processes.

    Returns:
        The mean of the reported losses, detached.
    """
    target = None
    if teacher is not None:
        with torch.no_grad(), in_precision(precision, images.device):
            target = wide(teacher(images))
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for i, arch in enumerate(archs):
        dropout, drop_path = (0.0, 0.0) if in_place and i > 0 else (recipe.dropout, recipe.drop_path)
        with in_precision(precision, images.device):
            logits = wide(supernet(images, arch, dropout=dropout, drop_path=drop_path, sync_norm=sync_norm))
        has_labels = i == 0 or not only_largest_has_labels
        loss, reported = objective(logits, labels if has_labels else None, target, recipe, divergence=divergence)
        (loss if i == 0 else others * loss).backward()  # type: ignore[no-untyped-call]
        total += reported
        if in_place and i == 0:
            target = logits.detach()
    reduce()
    clip_gradients(supernet, recipe)
    optimizer.step()
    return total / len(archs)


def objective(
    logits: Tensor, labels: Tensor | None, target: Tensor | None, recipe: Recipe, *, divergence: str = "cross_entropy"
) -> tuple[Tensor, Tensor]:
    """What one network learns: cross-entropy with the labels, plus `recipe.distil_weight` times the divergence from the teacher.

    Args:
        logits: (n, classes), float32.
        labels: (n,) int64, shares of classes (n, classes), or None.
        target: logits of the teacher (n, classes), or None.
        recipe: see `Recipe`.
        divergence: name in `DIVERGENCES`.

    Returns:
        The loss whose gradient is followed, and the one to report, detached.
    """
    loss = reported = torch.zeros((), device=logits.device)
    if labels is not None:
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        reported = loss.detach()
    if target is not None:
        distance, value = DIVERGENCES[divergence](logits, target)
        loss = loss + recipe.distil_weight * distance
        reported = reported + recipe.distil_weight * value
    return loss, reported


def clip_gradients(network: nn.Module, recipe: Recipe) -> None:
    """As the recipe says, in place."""
    if recipe.clip_value:
        nn.utils.clip_grad_value_(network.parameters(), recipe.clip_value)
    if recipe.clip:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)


def choose(
    supernet: Supernet,
    groups: Groups,
    images: Tensor,
    labels: Tensor,
    *,
    sync_norm: bool = False,
    precision: str = "float32",
    mean: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> list[Arch]:
    """One architecture of each group: the one with the lowest cross-entropy on the images, where there is a choice.

    Reads from the device once, and only if there is a choice.

    Args:
        supernet: in train mode; nothing is written to it.
        groups: from a strategy.
        images: (n, 3, r, r).
        labels: (n,) int64, or shares of classes (n, classes).
        sync_norm: see `Supernet.forward`.
        precision: see `in_precision`.
        mean: of the losses over processes that must choose alike.
    """
    tried = [group for group in groups if len(group) > 1]
    if not tried:
        return [group[0] for group in groups]
    with torch.no_grad(), in_precision(precision, images.device):
        found = [F.cross_entropy(wide(supernet(images, arch, sync_norm=sync_norm)), labels) for group in tried for arch in group]
    rows = torch.split(mean(torch.stack(found)), [len(group) for group in tried])
    best = iter(pad_sequence(list(rows), batch_first=True, padding_value=torch.inf).argmin(1).tolist())
    return [group[next(best)] if len(group) > 1 else group[0] for group in groups]


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, convolutions and linear layers compute in this type ("bfloat16": torch.autocast); weights stay float32."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def wide(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from pinned memory, a copy to a GPU does not hold up this process."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def torch_seed(seed: int, step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators, used by dropout, are functions of (seed, step, rank) inside, and untouched outside."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        words = [seed, step, 1] if rank == 0 else [seed, step, 1, rank]
        number = np.random.default_rng(words).integers(2**62).item()
        torch.default_generator.manual_seed(number)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        yield
