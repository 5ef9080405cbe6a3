"""Measure many sub-networks of a trained supernet at once, computing shared prefixes only once.

Up to rounding, the result equals extracting, recalibrating and evaluating each network: the same layers run on the same batches,
with separate statistics for each place in the tree. For evaluation, batch norms are folded into the preceding convolutions.
Each batch passes through the whole tree, depth first, so that memory only holds the activations of one path.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..arch import Arch
from ..calibrate import LabelTally, Statistics, Tally, norms_of, require_finite, same_shape, with_momentum
from ..errors import DataError
from ..plan import Plan, Segment
from ..resolutions import Resolution
from ..supernets.supernet import Supernet
from ..tasks.task import MULTICLASS, Task
from .prefix_tree import PrefixNode, grow
from .rows import AccuracyRow

AT_ONCE = 32  # networks per group; larger groups share more, but a crash loses more

Calibration = Callable[[Resolution], Iterable[Tensor]]
Evaluation = Callable[[Resolution], Iterable[tuple[Tensor, Tensor]]]


def measure_together(
    supernet: Supernet,
    archs: Sequence[Arch],
    calibration: Calibration,
    evaluation: Evaluation,
    *,
    statistics: dict[Arch, Statistics] | None = None,
    metric: str = "top1",
    task: Task = MULTICLASS,
) -> list[AccuracyRow]:
    """Measure the accuracy of each architecture with the supernet's weights and its own BatchNorm statistics.

    Args:
        archs: architectures to measure, those of one resolution at a time; see `prefix_tree.units` for smaller groups.
        calibration: maps a resolution to preprocessed training images (n, c, height, width).
        evaluation: maps a resolution to held-out images and labels, never test images.
        statistics: receives each network's measured statistics, for `recalibrate` to continue from.
        metric: metric of the rows' scores.
        task: whether an image has one class or any number of labels.

    Raises:
        ArchError: an architecture outside the supernet's space.
        StatisticsError: see `onceforall.calibrate.recalibrate`.
        DataError: no images.
    """
    rows = []
    for resolution in dict.fromkeys(arch.resolution for arch in archs):
        began = time.perf_counter()
        plans = {arch: supernet.space.lower(arch, supernet.num_classes) for arch in archs if arch.resolution == resolution}
        layers: dict[Segment, _Layers] = {}
        steps = [_step(node, supernet, layers, task) for node in grow(plans)]
        with torch.no_grad():
            device = next(supernet.parameters()).device
            images, shape = _calibrate(steps, layers.values(), calibration(resolution), device)
            for segment, shared in layers.items():
                shared.fold(segment)
            _evaluate(steps, shape, evaluation(resolution), device)
        if statistics is not None:
            statistics |= {arch: Statistics(tensors, images, shape) for arch, tensors in _statistics(steps)}
        seconds = (time.perf_counter() - began) / len(plans)
        for step in _all(steps):
            for arch in step.archs:
                accuracy = step.tally.accuracy()
                score = None if metric == "top1" else accuracy.score(metric)
                n = accuracy.images if metric == "top1" else step.tally.effective_images()
                row = AccuracyRow(arch, accuracy.top1, accuracy.loss, n, seconds, score=score, soft=step.tally.soft(metric))
                with suppress(DataError):  # a half without images
                    half, rest = ((part.accuracy().score(metric), part.soft(metric)) for part in step.halves)
                    row = replace(row, top1_half=half[0], top1_rest=rest[0], soft_half=half[1], soft_rest=rest[1])
                rows.append(row)
    return rows


@dataclass(eq=False)
class _Layers:
    """A segment's layers, shared by all places in the tree with this segment, and their batch norms by name.

    `folded` maps the names of norms to the convolutions that they are folded into, with the original weights.
    """

    network: nn.Module
    norms: dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]
    folded: dict[str, tuple[nn.Conv2d, Tensor]] = field(default_factory=dict)

    def fold(self, segment: Segment) -> None:
        """Replace norms that can be folded into the preceding convolution by identities; this saves 10 % of the time for a tree."""
        for conv_name, op in segment.folds.items():
            conv, name = self.network.get_submodule(f"{segment.name}.{conv_name}"), f"{segment.name}.{op.name}"
            if isinstance(conv, nn.Conv2d) and conv.bias is None:
                self.folded[name] = conv, conv.weight
                self.network.set_submodule(name, nn.Identity())


@dataclass(eq=False)
class _Step:
    """A node of the tree: its layers, and its own running statistics (mean, variance) for each of their batch norms.

    `halves` count every second image of each class, and the others, to estimate the noise.
    """

    layers: _Layers
    statistics: list[tuple[Tensor, Tensor]]
    following: list["_Step"]
    archs: list[Arch]
    tally: Tally | LabelTally
    halves: tuple[Tally | LabelTally, Tally | LabelTally]

    def enter(self) -> nn.Module:
        """Load this node's statistics into the layers; return the layers."""
        for (name, norm), (mean, var) in zip(self.layers.norms.items(), self.statistics, strict=True):
            if name in self.layers.folded:
                conv, weight = self.layers.folded[name]
                scale = norm.weight * torch.rsqrt(var + norm.eps)
                conv.weight = nn.Parameter(weight * scale[:, None, None, None], requires_grad=False)
                conv.bias = nn.Parameter(norm.bias - mean * scale, requires_grad=False)
            else:
                norm.running_mean, norm.running_var = mean, var
        return self.layers.network


def _step(node: PrefixNode, supernet: Supernet, layers: dict[Segment, _Layers], task: Task) -> _Step:
    if node.segment not in layers:
        network = supernet.cut(Plan((node.segment,))).eval()
        layers[node.segment] = _Layers(network, norms_of(network))
    shared, like = layers[node.segment], next(supernet.parameters())
    statistics = [(like.new_zeros(norm.num_features), like.new_ones(norm.num_features)) for norm in shared.norms.values()]
    following = [_step(child, supernet, layers, task) for child in node.children]
    return _Step(shared, statistics, following, node.archs, task.tally(), (task.tally(), task.tally()))


def _all(steps: Sequence[_Step]) -> Iterator[_Step]:
    for step in steps:
        yield step
        yield from _all(step.following)


def _statistics(
    steps: Sequence[_Step], before: Mapping[str, Tensor] = MappingProxyType({})
) -> Iterator[tuple[Arch, dict[str, Tensor]]]:
    """Yield the statistics of each network by their names in its state dict."""
    for step in steps:
        statistics = dict(before)
        for name, (mean, var) in zip(step.layers.norms, step.statistics, strict=True):
            statistics |= {f"{name}.running_mean": mean, f"{name}.running_var": var}
        for arch in step.archs:
            yield arch, statistics
        yield from _statistics(step.following, statistics)


def _run(steps: Sequence[_Step], x: Tensor, at_end: Callable[[_Step, Tensor], None]) -> None:
    """Run images (n, c, height, width), or the previous step's output, through all steps; call `at_end` with logits."""
    for step in steps:
        y = step.enter()(x)
        if step.archs:
            at_end(step, y)
        _run(step.following, y, at_end)


def _calibrate(
    steps: Sequence[_Step], layers: Iterable[_Layers], batches: Iterable[Tensor], device: torch.device
) -> tuple[int, tuple[int, ...]]:
    """Measure all statistics; return the number of images and the shape of one."""
    norms = [norm for shared in layers for norm in shared.norms.values()]
    if not norms:
        first = next(iter(batches), None)
        return 0, () if first is None else tuple(first.shape[1:])
    for norm in norms:
        norm.train()
    images, shape = 0, tuple[int, ...]()
    for batch, momentum in with_momentum(batches):
        images, shape = images + len(batch), tuple(batch.shape[1:])
        for norm in norms:
            norm.momentum = momentum
        _run(steps, batch.to(device), lambda step, logits: None)
    for norm in norms:
        norm.eval()
    for step in _all(steps):
        require_finite(step.enter())
    return images, shape


def _evaluate(
    steps: Sequence[_Step], shape: tuple[int, ...], batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> None:
    """Count every network's correct predictions."""
    turns: dict[int, Iterator[int]] = defaultdict(count)  # of each class; of all images, if they have several labels
    for images, labels in batches:
        targets = labels.to(device)
        classes = labels.tolist() if labels.ndim == 1 else [0] * len(labels)
        turn = torch.tensor([(next(turns[label]) + label) % 2 for label in classes], device=device)

        def add(step: _Step, logits: Tensor, targets: Tensor = targets, turn: Tensor = turn) -> None:
            predicted = step.tally.add(logits, targets)
            for i, half in enumerate(step.halves):
                half.count(predicted[turn == i], targets[turn == i], logits[turn == i])

        _run(steps, same_shape(images, shape).to(device), add)
