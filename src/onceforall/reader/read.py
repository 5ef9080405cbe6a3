"""`read`: turn a model into a `Graph`."""

from collections import Counter
from collections.abc import Collection, Sequence
from keyword import iskeyword
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import ModelError
from ..graph import DimPart, Graph, Group, Node, Own, Piece, Size, Value, WeightSpec, each
from ..ops import ancestors, leaves
from ..resolutions import Resolution
from .blocks import Chain, Stretch, common_prefix, find_blocks, stage_streams
from .follow import follow
from .labels import Reason
from .positions import fitted
from .rules import factors_of
from .sizes import sized
from .trace import Step, Trace
from .units import OrderError, Units, resolve

LARGEST_KERNEL = 9  # for larger kernels, the matrices that shrink them could be larger than the network


def read(
    model: nn.Module,
    resolutions: Sequence[Resolution],
    taken: Collection[str] = (),
    *,
    streams: bool = False,
    channels: int | None = None,
) -> tuple[Graph, dict[str, Tensor]]:
    """Read the graph of a model for images (n, channels, height, width), and its tensors by name.

    Args:
        model: the model, which is not changed.
        resolutions: in pixels, ascending.
        taken: reserved names; parts of the model with such a name get a "_" appended.
        streams: also make the residual stream of each stage elastic.
        channels: channels of the images; None for 3, or the first convolution's if the model does not accept 3.

    Raises:
        ModelError: torch.export cannot read it, or it behaves differently at another resolution.
    """
    traced = _renamed(fitted(model, resolutions, channels), taken)
    labels = follow(traced)
    for _ in range(50):
        units = resolve(traced, labels)
        found, chain, spans = find_blocks(traced, units)
        places = _places(traced, found)
        by_stage = stage_streams(found, places, chain, spans, units) if streams else ()
        elastic = {group for part in found for group in part.groups}.union(*by_stage, {units.classes} - {-1})
        try:
            return _graph(traced, units, found, places, chain, elastic, by_stage), traced.tensors
        except OrderError as error:
            where = np.flatnonzero(units.group == error.group)
            labels.fixed.append((where, Reason("", "", "its channels are in an order that cannot be cut")))
    raise ModelError("the channels of the model are tied in a way that cannot be cut, with no known workaround: report this model")


def _renamed(traced: Trace, taken: Collection[str]) -> Trace:
    """The trace, with a "_" appended to parts of tensor names that cannot be attributes of a network."""

    def free(name: str) -> str:
        first, *rest = name.split(".")
        parts = [f"{first}_" if first in taken else first, *rest]
        return ".".join(f"{part}_" if iskeyword(part) else part for part in parts)

    def renamed(leaf: Any) -> Any:
        return Own(free(leaf.name)) if isinstance(leaf, Own) else leaf

    for step in traced.steps:
        step.args, step.kwargs = each(step.args, renamed), each(dict(step.kwargs), renamed)
    traced.tensors = {free(name): tensor for name, tensor in traced.tensors.items()}
    traced.grids = {free(name): grids for name, grids in traced.grids.items()}
    traced.output = each(traced.output, renamed)
    return traced


def _graph(
    traced: Trace,
    units: Units,
    found: list[Stretch],
    places: list[tuple[int, int] | None],
    chain: Chain,
    elastic: set[int],
    streams: Sequence[set[int]],
) -> Graph:
    numbers = {group: i for i, group in enumerate(sorted(elastic))}
    nodes = {}
    for step in traced.steps:
        op, args, kwargs, shapes = sized(step, units, elastic)
        nodes[step.name] = Node(
            op, _numbered(args, numbers), _numbered(dict(kwargs), numbers), _numbered(shapes[0] if shapes else (), numbers),
            step.dtype, step.module,
        )  # fmt: skip
    kernels = _kernels(traced)
    weights = {
        name: WeightSpec(
            tuple(tensor.shape),
            tuple(_parts(units, name, dim, size, elastic, numbers) for dim, size in enumerate(tensor.shape)),
            "float32" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch."),
            isinstance(tensor, nn.Parameter),
            kernels.get(name, ()),
            traced.grids.get(name, ()),
        )
        for name, tensor in traced.tensors.items()
    }
    groups = tuple(_group(units, group) for group in sorted(elastic))
    classes = numbers.get(units.classes, -1)
    pieces = tuple(_named(traced, found, places, chain, kernels, numbers))
    fixed = (*_reasons(units, found, elastic, traced, bool(streams)), *traced.notes)
    by_stage = tuple(tuple(numbers[group] for group in sorted(stage)) for stage in streams)
    return Graph(
        tuple(traced.resolutions), classes, nodes, weights, groups, pieces, traced.output, fixed,
        streams=by_stage, channels=traced.channels,
    )  # fmt: skip


def _numbered(value: Any, numbers: dict[int, int]) -> Any:
    """Replace groups by their indices in the graph."""
    if isinstance(value, Size):
        return Size(tuple((times, numbers.get(group, -1)) for times, group in value.terms), value.batch)
    if isinstance(value, tuple):
        return tuple(_numbered(item, numbers) for item in value)
    if isinstance(value, dict):
        return {key: _numbered(item, numbers) for key, item in value.items()}
    return value


def _parts(units: Units, name: str, dim: int, size: int, elastic: set[int], numbers: dict[int, int]) -> tuple[DimPart, ...]:
    line = units.along(units.labels.weights[name], dim, elastic)
    if line is None:
        return (DimPart(-1, size, 1),)
    return tuple(DimPart(numbers.get(part.group, -1), part.units, part.each) for part in units.parts(line, elastic))


def _group(units: Units, group: int) -> Group:
    if group == units.classes:
        return Group(units.sizes[group], "classes")
    if group in units.heads:
        return Group(units.sizes[group], "heads")
    single = int((units.group == group).sum())
    alone = _longest_run(units, group) == 1  # plain channels and hidden units, not tied groups of channels
    return Group(units.sizes[group], "width", 8 if alone and units.sizes[group] >= 16 and single else 1)


def _longest_run(units: Units, group: int) -> int:
    """Maximum number of adjacent entries of a unit in any weight."""
    most = 1
    for factors in units.labels.weights.values():
        for factor in factors:
            line = factor.ravel()
            inside = units.group[line] == group
            if inside.any():
                ranks = units.rank[line[inside]]
                most = max(most, int(np.bincount(ranks).max())) if (np.diff(ranks) == 0).any() else most
    return most


def _kernels(traced: Trace) -> dict[str, tuple[int, ...]]:
    """The sizes that each depthwise kernel can be cropped to, by weight."""
    uses = Counter(leaf.name for step in traced.steps for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Own))
    found = {}
    for step in traced.steps:
        if step.op != "conv2d.default" or len(step.args) < 7 or not isinstance(step.args[1], Own):
            continue
        name = step.args[1].name
        shape, padding, dilation, groups = traced.tensors[name].shape, step.args[4], step.args[5], step.args[6]
        if any(isinstance(pad, Size) for pad in padding):
            continue
        k = shape[-1]
        square = shape[-2] == k and k % 2 == 1 and 5 <= k <= LARGEST_KERNEL and shape[1] == 1 and groups == shape[0] > 1
        smaller = [size for size in range(3, k + 1, 2) if all(pad >= (k - size) // 2 for pad in padding)]
        if square and uses[name] == 1 and set(dilation) == {1} and len(smaller) > 1 and name.endswith("weight"):
            found[name] = tuple(smaller)
    return found


def _places(traced: Trace, found: list[Stretch]) -> list[tuple[int, int] | None]:
    """The stage (consecutive blocks with one output shape) and the index in it of each part; None for fixed parts."""
    sizes = {step.name: step.sizes for step in traced.steps}
    places: list[tuple[int, int] | None] = []
    stage, block, shape = -1, 0, None
    for part in found:
        if not (part.skippable or part.groups):
            places.append(None)
            shape = None
            continue
        stage, block = (stage, block + 1) if part.skippable and shape == sizes[part.result] else (stage + 1, 0)
        shape = sizes[part.result]
        places.append((stage, block))
    return places


def _named(
    traced: Trace,
    found: list[Stretch],
    places: list[tuple[int, int] | None],
    chain: Chain,
    kernels: dict[str, tuple[int, ...]],
    numbers: dict[int, int],
) -> list[Piece]:
    """Turn the parts into named pieces."""
    order = {step.name: i for i, step in enumerate(traced.steps)}
    steps = {step.name: step for step in traced.steps}
    pieces: list[Piece] = []
    fixed = 0

    def free_reads(name: str) -> list[str]:
        """The values that a step reads and that do not depend on the images."""
        return [read for read in steps[name].reads if read in chain.free]

    for i, (part, place) in enumerate(zip(found, places, strict=True)):
        if place is not None:
            name = "stages.{}.{}".format(*place)
        else:
            fixed += 1
            name = "stem" if i == 0 else "head" if i == len(found) - 1 else f"between.{fixed}"
        needed = ancestors(part.steps, free_reads)
        nodes = [*sorted(needed - {part.result}, key=order.__getitem__), part.result]
        largest = [
            kernels[leaf.name][-1]
            for node in nodes
            for leaf in leaves(steps[node].args)
            if isinstance(leaf, Own) and leaf.name in kernels
        ]
        groups = tuple(numbers[g] for g in sorted(part.groups))
        inside = [steps[name].module for name in part.steps if steps[name].module]
        common = ".".join(common_prefix([module.split(".") for module in inside]))
        module = part.module if part.skippable else common or " … ".join(dict.fromkeys((*inside[:1], *inside[-1:])))
        kernel = max(largest, default=0) if name.startswith("stages.") else 0
        pieces.append(Piece(name, part.source, part.result, tuple(nodes), part.skippable, groups, kernel, module or part.module))
    return pieces


def _computed(step: Step, traced: Trace) -> str:
    """Why a layer with a computed weight cannot be cut."""
    made = next(other for other in traced.steps if other.name == step.args[1].name)
    text = f"its weight is computed by {made.kind} in {made.module or 'the model'}"
    if ".parametrizations" not in made.module and made.kind != "_weight_norm":
        return text
    remover = "remove_parametrizations" if ".parametrizations" in made.module else "remove_weight_norm"
    return f"{text}; remove it first (torch.nn.utils.parametrize.{remover})"


def _reasons(units: Units, found: list[Stretch], elastic: set[int], traced: Trace, streams: bool) -> list[str]:
    """Lines about layers that are not elastic, each with the operation and module that is the reason."""
    labels = units.labels
    why: dict[int, Reason] = {}
    for array, reason in labels.fixed:
        for component in np.unique(units.components[array]).tolist():
            why.setdefault(component, reason)
    stream: set[int] = set()
    for part in found:
        if part.skippable:
            stream |= units.groups_of(part.source) | units.groups_of(part.result)
    lines: Counter[str] = Counter()
    for step in traced.steps:
        if step.kind not in ("conv2d", "linear", "conv1d", "conv_transpose2d"):
            continue
        factors = [f for f in factors_of(labels, step.args[1]) if f.shape[0] > 1]
        if not factors and isinstance(step.args[1], Value):
            lines[f"{step.module or 'the model'}: {_computed(step, traced)}"] += 1
        if not factors or step.kind == "conv_transpose2d":
            continue
        line = factors[0].ravel()
        groups = set(np.unique(units.group[line]).tolist())
        if groups & elastic:
            continue
        where = step.module or "the model"
        reasons = [why[c] for c in np.unique(units.components[line]).tolist() if c in why]
        if groups & stream:
            stays = "several stages share" if streams else "all blocks of a stage share, and stage_widths= makes elastic"
            lines[f"{where}: its outputs are the residual stream, which {stays}"] += 1
        elif reasons:
            reason = reasons[0]
            by = f"{reason.step} in {reason.module or 'the model'}" if reason.step else "the order of its channels"
            lines[f"{where}: fixed by {by}" + (f" ({reason.text})" if reason.text else "")] += 1
        else:
            lines[f"{where}: its outputs reach into several blocks"] += 1
    return list(lines)
