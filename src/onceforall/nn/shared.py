"""Several sub-networks of one supernet on the same tensors, each stored once.

A shared tensor is as large as the largest of the networks needs, in every dimension. A network's own is the first entries of it, a
view; only a kernel that is smaller than the shared one is computed, like `ElasticConv.cut`. Names are those of a state dict.

Tensors of networks that someone brought are kept whole, since what a network has of one need not be its first entries: it is a
view where it is in one piece, else it is put together.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, fx

from ..errors import CheckpointError
from ..ops import Call, Shape, Weight
from ..plan import Plan
from .calls import STATISTICS, cut_weight
from .layers import matrix_name, smaller_kernel
from .static import build


def share(tensors: Mapping[str, Tensor], plans: Sequence[Plan]) -> dict[str, Tensor]:
    """What the plans' networks need of a supernet's tensors, or of tensors shared before.

    Kernels have the largest size that a network has; the matrices that make smaller ones are kept where one needs them.

    Raises:
        CheckpointError: a tensor is missing or too small.
    """
    needed: dict[str, list[Shape]] = {}
    shared: dict[str, Tensor] = {}
    for plan in plans:
        parts = parts_of(plan)
        for name, part in parts.items():
            if not name.endswith(STATISTICS):
                shared |= {each: _found(tensors, each) for each in (name, *matrices(part))}
        for name, shape in own_shapes(plan)[0].items():
            if name in parts:
                continue
            needed.setdefault(name, []).append(shape)
    for name, shapes in needed.items():
        largest = tuple(map(max, zip(*shapes, strict=True)))
        shared[name] = _own(tensors, name, largest)
        if len(largest) == 4:
            kernel, least = largest[-1], min(shape[-1] for shape in shapes)
            while kernel > least:
                kernel, matrix = _step(tensors, name, kernel)
                shared[matrix] = tensors[matrix]
    return shared


def own_weights(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights and biases of the plan's network: views of the shared tensors, but for smaller kernels and interpolated positions.

    Raises:
        CheckpointError: a tensor is missing or too small.
    """
    parts = parts_of(plan)
    return {
        name: _part(tensors, parts[name]) if name in parts else _own(tensors, name, shape)
        for name, shape in own_shapes(plan)[0].items()
    }


def network_on(plan: Plan, weights: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> fx.GraphModule:
    """The plan's network in eval mode, on these tensors themselves.

    Weights need no gradients: a step on those of one network would change the others.

    Args:
        weights: from `own_weights`.
        statistics: the running means and variances of every batch norm.
    """
    with torch.device("meta"):
        network = build(plan)
    counts = [name for name in network.state_dict() if name.endswith("num_batches_tracked")]
    network.load_state_dict({**weights, **statistics, **{name: torch.zeros((), dtype=torch.long) for name in counts}}, assign=True)
    return network.requires_grad_(False).eval()


def own_shapes(plan: Plan) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Shapes of the weights and of the BatchNorm statistics that the plan's network has, by the names of its state dict."""
    weights: dict[str, Shape] = {}
    statistics: dict[str, Shape] = {}
    for segment in plan.segments:
        for op in segment.ops:
            if isinstance(op, Call):
                for tensor in op.tensors:
                    own = statistics if tensor.name.endswith(STATISTICS) else weights
                    own[tensor.name] = tensor.shape
            layer = f"{segment.name}.{op.name}"
            weights |= {f"{layer}.{name}": shape for name, shape in op.weights.items()}
            statistics |= {f"{layer}.{name}": shape for name, shape in op.statistics.items()}
    return weights, statistics


def parts_of(plan: Plan) -> dict[str, Weight]:
    """What networks that someone brought use of the supernet's tensors, by name."""
    return {weight.name: weight for op in plan.ops if isinstance(op, Call) for weight in op.tensors}


def constants_of(plan: Plan) -> set[str]:
    """Names of tensors that are neither trained nor measured, such as masks and positions."""
    return {name for name, part in parts_of(plan).items() if not part.trained and not name.endswith(STATISTICS)}


def matrices(part: Weight) -> list[str]:
    """Names of the matrices that make its kernels."""
    layer = part.name.removesuffix("weight")
    return [f"{layer}{matrix_name(big, small)}" for big, small in pairwise(part.kernels)]


def _part(tensors: Mapping[str, Tensor], part: Weight) -> Tensor:
    for name in (part.name, *matrices(part)):
        _found(tensors, name)
    try:
        own = cut_weight(part, tensors)
    except (RuntimeError, IndexError):  # beyond the edge
        own = None
    if own is None or tuple(own.shape) != part.shape:
        raise CheckpointError(
            f"{part.name} has shape {tuple(tensors[part.name].shape)}, of which a network cannot have {part.shape}"
        )
    return own


def _found(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"{name} is missing")
    return tensors[name]


def _own(tensors: Mapping[str, Tensor], name: str, shape: Shape) -> Tensor:
    """The first entries of a tensor in every dimension, its kernels brought to the size of `shape`."""
    found = _found(tensors, name)
    if found.ndim != len(shape) or any(have < need for have, need in zip(found.shape, shape, strict=True)):
        raise CheckpointError(f"{name} has shape {tuple(found.shape)}, a network needs {shape}")
    if found.ndim < 4:
        return found[tuple(map(slice, shape))]
    found = found[: shape[0], : shape[1]]
    while (big := found.shape[-1]) > shape[-1]:
        small, matrix = _step(tensors, name, big)
        found = smaller_kernel(found, tensors[matrix], small)
    if tuple(found.shape) != shape:
        raise CheckpointError(f"{name}: no matrix leads to kernels of {shape[-1]}, which a network needs")
    return found


def _step(tensors: Mapping[str, Tensor], name: str, big: int) -> tuple[int, str]:
    """The kernel size below `big`, and the name of the matrix that leads to it."""
    layer = name.removesuffix("weight")
    for small in range(big - 1, 0, -1):
        matrix = f"{layer}{matrix_name(big, small)}"
        if matrix in tensors and tensors[matrix].shape == (small**2, small**2):
            return small, matrix
    raise CheckpointError(f"{name}: no matrix leads from kernels of {big} to smaller ones, which a network needs")
