"""Several sub-networks of one supernet on the same tensors, each stored once.

A shared tensor has, in every dimension, the size that the largest of the networks needs. A network uses a view of its first
entries; only kernels smaller than the shared one are computed, as in `ElasticConv.cut`. Names are those of a state dict.

Tensors of users' own networks are stored whole, since a network may use other entries than the first: its slice is a view if it is
contiguous, otherwise a copy.
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
    """The parts of a supernet's tensors, or of shared tensors, that the plans' networks need.

    Kernels have the largest size in any network; matrices for smaller kernels are included where needed.

    Raises:
        CheckpointError: a tensor is missing or too small.
    """
    needed: dict[str, list[Shape]] = {}
    shared: dict[str, Tensor] = {}
    for plan in plans:
        parts = parts_of(plan)
        for name, part in parts.items():
            if not name.endswith(STATISTICS):
                shared |= {each: _required(tensors, each) for each in (name, *matrices(part))}
        for name, shape in own_shapes(plan)[0].items():
            if name not in parts:
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
    """Weights and biases of the plan's network: views of shared tensors, except smaller kernels and interpolated positions.

    Raises:
        CheckpointError: a tensor is missing or too small.
    """
    parts = parts_of(plan)
    return {
        name: _part(tensors, parts[name]) if name in parts else _own(tensors, name, shape)
        for name, shape in own_shapes(plan)[0].items()
    }


def network_on(plan: Plan, weights: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> fx.GraphModule:
    """The plan's network in eval mode, on these tensors without copying them.

    Weights have no gradients, since an optimizer step on one network would change the others.

    Args:
        weights: result of `own_weights`.
        statistics: running means and variances of all batch norms.
    """
    with torch.device("meta"):
        network = build(plan)
    counts = [name for name in network.state_dict() if name.endswith("num_batches_tracked")]
    network.load_state_dict({**weights, **statistics, **{name: torch.zeros((), dtype=torch.long) for name in counts}}, assign=True)
    return network.requires_grad_(False).eval()


def own_shapes(plan: Plan) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Shapes of the weights and of the BatchNorm statistics of the plan's network, by the names of its state dict."""
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
    """The slices of the supernet's tensors that a user's own network uses, by name."""
    return {weight.name: weight for op in plan.ops if isinstance(op, Call) for weight in op.tensors}


def constants_of(plan: Plan) -> set[str]:
    """Names of tensors that are neither trained nor running statistics, such as masks."""
    return {name for name, part in parts_of(plan).items() if not part.trained and not name.endswith(STATISTICS)}


def matrices(part: Weight) -> list[str]:
    """Names of the matrices that a smaller kernel is computed with."""
    return [matrix_name(big, small, part.name) for big, small in pairwise(part.kernels)]


def _part(tensors: Mapping[str, Tensor], part: Weight) -> Tensor:
    for name in (part.name, *matrices(part)):
        _required(tensors, name)
    try:
        own = cut_weight(part, tensors)
    except (RuntimeError, IndexError):  # beyond the edge
        own = None
    if own is None or tuple(own.shape) != part.shape:
        raise CheckpointError(
            f"{part.name} has shape {tuple(tensors[part.name].shape)}, which does not contain the {part.shape} that a network needs"
        )
    return own


def _required(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"{name} is missing")
    return tensors[name]


def _own(tensors: Mapping[str, Tensor], name: str, shape: Shape) -> Tensor:
    """The first entries of a tensor in every dimension, with kernels reduced to the size in `shape`."""
    found = _required(tensors, name)
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
    for small in range(big - 1, 0, -1):
        matrix = matrix_name(big, small, name)
        if matrix in tensors and tensors[matrix].shape == (small**2, small**2):
            return small, matrix
    raise CheckpointError(f"{name}: no matrix leads from kernels of {big} to smaller ones, which a network needs")
