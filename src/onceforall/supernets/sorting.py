"""Channel sorting by importance: before narrower widths are trained, the most important channels move to the front.

The largest network computes the same as before; narrower networks, which use the first channels, get better channels. Source:
Once-for-All, section 3.3 (elastic width).
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ..ops import Op
from ..plan import Segment
from ..spaces.graph import kept_units
from .importance import reorder_units, unit_scores
from .supernet import Supernet


@dataclass
class _Group:
    """Operations of one segment with the same channels, which pass from one operation to the next unmixed."""

    rows: list[Op] = field(default_factory=list)  # operations with weights whose output channels belong to the group
    columns: list[str] = field(default_factory=list)  # operations that read the group and mix its channels
    fixed: bool = False  # whether the segment's input or output belongs to it


def sort_channels(
    supernet: Supernet,
    trained: int = 0,
    *,
    along: Mapping[str, Tensor] = MappingProxyType({}),
    images: Callable[[], Tensor] | None = None,
    mean: Callable[[Tensor], Tensor] = lambda scores: scores,
) -> None:
    """Sort every middle width of every segment by the L1 norm of the weights that read each channel, descending.

    Only channels within a segment are sorted, since permuting them does not change what the largest network computes. In a network
    that was read as a graph, the units of all elastic groups are sorted, including heads; with images, by their contribution to the
    layers that read them, which is better (docs/results/importance.md).

    Args:
        supernet: changed in place.
        trained: how many of the largest expand ratios (and shares of heads) are already trained. Channels do not cross the
            widths of these ratios, so that trained sub-networks keep their channels.
        along: tensors by parameter name, such as a moving average of the weights, which are permuted like the parameter.
        images: returns a batch (n, c, r, r), for networks that were read as graphs.
        mean: averages the scores over processes, which must all sort in the same way.
    """
    space = supernet.space
    if space.family == "graph":
        scores = unit_scores(supernet, None, None if images is None else [images()])
        if scores:
            means = torch.split(mean(torch.cat(list(scores.values()))), [len(score) for score in scores.values()])
            reorder_units(supernet, dict(zip(scores, means, strict=True)), kept_units(space, trained), along)
        return
    plans = []
    for number in range(1, trained + 1):  # at full depth, with the smallest of the trained ratios
        kept = space.keep_largest(expand_ratios=number)
        narrow = [replace(c, expand_ratios=c.expand_ratios[:1]) for c in kept.stages]
        plans.append(space.lower(replace(kept, stages=tuple(narrow)).largest(), supernet.num_classes))
    with torch.no_grad():
        for i, segment in enumerate(space.lower(space.largest(), supernet.num_classes).segments):
            for group in _groups(segment):
                if group.rows and group.columns and not group.fixed:
                    narrower = [{op.name: op.shape[0] for op in plan.segments[i].ops}[group.rows[0].name] for plan in plans]
                    _sort(supernet, segment.name, group, narrower, along)


def _groups(segment: Segment) -> list[_Group]:
    """Follow the channels through the segment; a dense convolution or linear layer starts a new group."""
    group_of = {"in": _Group(fixed=True)}
    for op in segment.ops:
        sources = [group_of[source] for source in op.inputs]
        if op.mixes:
            sources[0].columns.append(op.name)
            group_of[op.name] = _Group(rows=[op])
            continue
        merged = sources[0]
        for other in sources[1:]:
            if other is not merged:
                merged = _Group(merged.rows + other.rows, merged.columns + other.columns, merged.fixed or other.fixed)
                group_of = {name: merged if g in (sources[0], other) else g for name, g in group_of.items()}
        if op.weights:
            merged.rows.append(op)
        group_of[op.name] = merged
    group_of[segment.ops[-1].name].fixed = True
    return list({id(group): group for group in group_of.values()}.values())


def _sort(supernet: Supernet, segment: str, group: _Group, boundaries: list[int], along: Mapping[str, Tensor]) -> None:
    readers = [supernet.get_submodule(f"{segment}.{name}").get_parameter("weight") for name in group.columns]
    projecting = readers[-1].double()  # the others are gates; float64, as nearly equal float32 sums would depend on the processor
    importance = projecting.abs().transpose(0, 1).flatten(1).sum(1)
    edges = sorted({0, *boundaries, len(importance)})
    parts = [start + importance[start:end].argsort(descending=True, stable=True) for start, end in itertools.pairwise(edges)]
    order = torch.cat(parts)
    for op in group.rows:
        own = f"{segment}.{op.name}."
        tensors = supernet.get_submodule(own[:-1]).state_dict(keep_vars=True)
        rows = [tensors[key] for key in (*op.weights, *op.statistics)]
        rows += [along[own + key] for key in op.weights if own + key in along]
        for tensor in rows:
            tensor.copy_(tensor[order])
    followers = [along[path] for name in group.columns if (path := f"{segment}.{name}.weight") in along]
    for reader in (*readers, *followers):
        reader.copy_(reader[:, order])
