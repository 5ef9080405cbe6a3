"""Rank channels, hidden units and heads by importance, and permute the weights so that the most important ones come first.

Narrower networks keep the first units of every group. The largest network computes the same as before, since the entries of a unit
move together in all tensors. Everything is based on the dimensions of tensors in `Graph.weights`, not on types of layers.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ModelError
from ..graph import DimPart, Graph, Own
from ..nn.calls import Mode, prepared
from ..ops import Call, Input, Weight, leaves
from ..resolutions import of_sides
from ..spaces.graph import graph_of
from .supernet import Supernet

IMPORTANCES = ("l1", "norm", "activation", "taylor", "none")
BEST, BEST_WITH_IMAGES = "l1", "activation"  # docs/results/importance.md
WITH_IMAGES = ("activation", "taylor")
NORMS = {"batch_norm": 1, "layer_norm": 2, "group_norm": 2, "instance_norm": 1}  # index of the scale among the arguments
RIGHT_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "baddbmm")  # x @ weight: the input is the weight's second-to-last dimension

Scores = dict[int, Tensor]  # by group index: one score per unit


def chosen_importance(importance: str | None, images: Sequence[Tensor] | None) -> str:
    """Check the name of an importance; None selects the best one.

    Raises:
        ModelError: the importance is unknown, or needs images and there are none.
    """
    if importance is None:
        return BEST_WITH_IMAGES if images else BEST
    if importance not in IMPORTANCES:
        raise ModelError(f"unknown importance {importance!r}: choose one of {', '.join(IMPORTANCES)}")
    if importance in WITH_IMAGES and not images:
        raise ModelError(
            f"importance {importance!r} is measured on images, but there are none: give images=[batch, ...], or use 'l1'"
        )
    return importance


def rank_units(supernet: Supernet, importance: str | None = None, images: Sequence[Tensor] | None = None) -> None:
    """Permute the units of all elastic groups of a network that was read as a graph: the most important ones come first.

    Args:
        supernet: of family "graph", changed in place.
        importance: "l1": absolute weights that read the unit; "norm": scales of the norms that it passes through, "l1" without
            norms; "activation": squared contribution to the outputs of the layers that read it; "taylor": absolute products of the
            weights that read it and their gradients, with the network's own predictions as labels; "none": keep the order. By
            default the best one: "activation" with images, otherwise "l1".
        images: batches (n, c, r, r) for "activation" and "taylor".

    Raises:
        ModelError: the importance is unknown, needs images and there are none, or the images have another size.
        StatisticsError: "taylor" for a network without running statistics; "activation" uses batch statistics in this case.
    """
    reorder_units(supernet, unit_scores(supernet, importance, images))


def unit_scores(supernet: Supernet, importance: str | None = None, images: Sequence[Tensor] | None = None) -> Scores:
    """The importance of every unit of every elastic group, see `rank_units`."""
    importance = chosen_importance(importance, images)
    graph = graph_of(supernet.space)
    groups = {group for piece in graph.pieces for group in piece.groups if group != graph.classes}.union(*graph.streams)
    if importance == "none" or not groups:
        return {}
    tensors = {name: tensor.detach() for name, tensor in supernet._own.items()}
    weights = {name: tensors[name].abs() for name, spec in graph.weights.items() if spec.trained}
    reading = _reading(graph)
    scores = _summed(graph, weights, groups)  # for units that nothing reads
    scores |= _summed(graph, {name: weights[name] for name in reading}, groups, reading)
    if importance == "norm":
        found = [(node.args, NORMS.get(node.op.split(".")[0], len(node.args))) for node in graph.nodes.values()]
        scales = {leaf.name for args, at in found for leaf in args[at : at + 1] if isinstance(leaf, Own)}
        scores |= _summed(graph, {name: weights[name] for name in scales if name in weights}, groups)
    elif importance in WITH_IMAGES:
        assert images is not None
        if importance == "taylor":
            supernet._require_statistics()
        measure = _activations if importance == "activation" else _taylor
        scores |= measure(supernet, graph, [_checked(supernet, batch) for batch in images], groups, reading)
    return scores


def reorder_units(
    supernet: Supernet,
    scores: Scores,
    edges: Mapping[int, Sequence[int]] = MappingProxyType({}),
    along: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Sort the units of each group by descending score; ties keep their order.

    Args:
        supernet: of family "graph", changed in place.
        scores: scores by group index.
        edges: for each group, indices that no unit may cross.
        along: tensors by parameter name, which are permuted like the parameter.
    """
    graph = graph_of(supernet.space)
    orders = {}
    for group, score in scores.items():
        stops = sorted({0, *edges.get(group, ()), len(score)})
        runs = [start + score[start:stop].argsort(descending=True, stable=True) for start, stop in itertools.pairwise(stops)]
        order = torch.cat(runs).cpu()
        if not torch.equal(order, torch.arange(len(order))):
            orders[group] = order
    own = supernet._own
    with torch.no_grad():
        for name, spec in graph.weights.items():
            for dim, parts in enumerate(spec.dims):
                if not any(part.group in orders for part in parts):
                    continue
                places = _places(parts, orders)
                for tensor in (own[name], *([along[name]] if name in along else [])):
                    tensor.copy_(tensor.index_select(dim, places.to(tensor.device)))


def _places(parts: Sequence[DimPart], orders: Mapping[int, Tensor]) -> Tensor:
    """The source index of each entry along a dimension."""
    found, at = [], 0
    for part in parts:
        size = part.units * part.each
        entries = torch.arange(at, at + size)
        if part.group in orders:
            entries = entries.view(part.units, part.each)[orders[part.group]].flatten()
        found.append(entries)
        at += size
    return torch.cat(found)


def _by_unit(values: Tensor, parts: Sequence[DimPart], groups: set[int]) -> Iterator[tuple[int, Tensor]]:
    """Sum values along a dimension over the entries of each unit."""
    at = 0
    for part in parts:
        if part.group in groups:
            yield part.group, values[at : at + part.units * part.each].view(part.units, part.each).sum(1)
        at += part.units * part.each


def _reading(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The input dimensions of each matrix and kernel."""
    found = {name: tuple(range(1, len(spec.shape))) for name, spec in graph.weights.items() if len(spec.shape) > 1 and spec.trained}
    for node in graph.nodes.values():
        kind = node.op.split(".")[0]
        for leaf in leaves(node.args):
            if not isinstance(leaf, Own) or leaf.name not in found:
                continue
            if kind.startswith("conv_transpose"):
                found[leaf.name] = (0,)
            elif kind in RIGHT_PRODUCTS:
                found[leaf.name] = (len(graph.weights[leaf.name].shape) - 2,)
    return found


def _summed(
    graph: Graph, values: Mapping[str, Tensor], groups: set[int], dims: Mapping[str, tuple[int, ...]] | None = None
) -> Scores:
    """For each unit, sum the entries of all tensors that belong to it, along all dimensions or only the given ones."""
    scores: Scores = {}
    for name, tensor in values.items():
        spec = graph.weights[name]
        for dim, parts in enumerate(spec.dims):
            if (dims is not None and dim not in dims[name]) or not any(part.group in groups for part in parts):
                continue
            # with float32 sums, the order of nearly equal units would depend on the processor
            line = tensor.double().sum([d for d in range(tensor.ndim) if d != dim]) if tensor.ndim > 1 else tensor.double()
            for group, own in _by_unit(line, parts, groups):
                scores[group] = scores[group] + own if group in scores else own
    return scores


def _checked(supernet: Supernet, images: Tensor) -> Tensor:
    """Move images to the network's device. Raises ModelError if the network does not accept them."""
    sizes = supernet.space.resolutions
    if (
        not isinstance(images, Tensor)
        or images.ndim != 4
        or len(images) == 0
        or images.shape[1] != supernet.space.channels
        or of_sides(*images.shape[2:]) not in sizes
    ):
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ModelError(
            f"images holds {found}: give batches (n, {supernet.space.channels}, r, r), with r among {', '.join(map(str, sizes))}"
        )
    if not images.isfinite().all():
        raise ModelError("images holds numbers that are not finite: give images as the model expects them")
    like = next(supernet.parameters())
    return images.to(device=like.device, dtype=like.dtype)


def _activations(
    supernet: Supernet, graph: Graph, batches: Sequence[Tensor], groups: set[int], reading: Mapping[str, tuple[int, ...]]
) -> Scores:
    """The mean square of each unit's contribution to the outputs of the convolutions and linear layers that read it."""
    scores: Scores = {}
    with torch.no_grad():
        for batch in batches:
            for weight, x, dim in _read(supernet, batch):
                parts = graph.weights[weight.name].dims[1]
                if not any(part.group in groups for part in parts):
                    continue
                squares = x.square().mean([d for d in range(x.ndim) if d != dim]).double()
                own = supernet._own[weight.name]
                line = squares * own.double().square().sum([d for d in range(own.ndim) if d != 1])
                for group, score in _by_unit(len(batch) * line, parts, groups):
                    scores[group] = scores[group] + score if group in scores else score
    return scores


def _read(supernet: Supernet, images: Tensor) -> Iterator[tuple[Weight, Tensor, int]]:
    """Run the largest network without dropout; yield each weight, the tensor it is applied to, and that tensor's channel dim."""
    tensors = supernet._own
    mode = Mode(training=False, batch_statistics=supernet.forgotten)
    x: Any = images
    for segment in supernet.space.lower(supernet.space.largest(of_sides(*images.shape[2:])), supernet.num_classes).segments:
        values = {"in": x}
        for op in segment.ops:
            assert isinstance(op, Call)
            kind = op.target.split(".")[0]
            if kind in ("conv1d", "conv2d", "conv3d", "linear") and isinstance(weight := op.args[1], Weight):
                source = values[op.args[0].name] if isinstance(op.args[0], Input) else torch.zeros(())
                dim = source.ndim - 1 if kind == "linear" else 1
                if source.ndim > 1 and source.shape[dim] == weight.shape[1]:  # not in groups
                    yield weight, source, dim
            x = values[op.name] = prepared(op)(values, tensors, mode)


def _taylor(
    supernet: Supernet, graph: Graph, batches: Sequence[Tensor], groups: set[int], reading: Mapping[str, tuple[int, ...]]
) -> Scores:
    """|weight · gradient| for the weights that read each unit, summed over the batches."""
    parameters = {name: supernet.get_parameter(name) for name in reading}
    found = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
    mode = supernet.training
    supernet.eval()
    try:
        for batch in batches:
            with torch.enable_grad():
                loss = _own_prediction(supernet(batch, supernet.space.largest(of_sides(*batch.shape[2:]))))
                gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None:
                    found[name] += (parameter.detach() * gradient).abs()
    finally:
        supernet.train(mode)
    return _summed(graph, found, groups) | _summed(graph, found, groups, reading)


def _own_prediction(output: Any) -> Tensor:
    """The loss with the network's own prediction as label; for outputs other than logits, half their mean square."""
    total = torch.zeros(())
    for value in leaves(output):
        if isinstance(value, Tensor) and value.is_floating_point():
            classes = value.ndim > 1 and value.shape[1] > 1
            loss = F.cross_entropy(value, value.detach().argmax(1)) if classes else value.square().mean() / 2
            total = total.to(loss) + loss
    return total
