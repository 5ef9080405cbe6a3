"""The space of a user's own network: shares of each block's widths and heads, depths, kernel caps, resolutions.

Choices are relative, so that different blocks can share a stage: an expand ratio is a share of the block's full hidden widths,
`heads` is a share of its attention heads, and a kernel is the maximum size of its convolutions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from ..arch import Arch, Block
from ..errors import ArchError, SpaceError
from ..graph import DimPart, Graph, Group, Node, Own, Piece, Size, Value, each
from ..looks import channels
from ..ops import Batch, Call, Fields, Input, Shape, Weight, leaves
from ..plan import Plan, Segment
from ..resolutions import Resolution, ascending, height_width
from ..space import Choices, Space
from .checks import choices, none_of, sizes

WIDTHS = (0.25, 0.5, 0.75, 1.0)  # shares of a block's hidden channels, hidden units and heads
KERNELS = (3, 5, 7)
DEPTHS = 4  # maximum number of depth choices of a stage by default


def graph_space(
    *,
    graph: Mapping[str, Any],
    resolutions: Sequence[Resolution] | None = None,
    widths: Sequence[float] = WIDTHS,
    heads: Sequence[float] | None = None,
    depths: Sequence[int] | None = None,
    kernels: Sequence[int] = KERNELS,
    stage_widths: Sequence[float] = (),
) -> Space:
    """The space of a network that `onceforall.elastic` read.

    Args:
        graph: result of `onceforall.graph.Graph.to_json`.
        resolutions: input sizes in pixels, among those that the network was read at; by default all.
        widths: shares in (0, 1] of a block's full hidden widths. The full width is always a choice; () for no others.
        heads: shares of a block's attention heads; by default the same as `widths`.
        depths: numbers of blocks that a stage may have; larger ones are ignored, and its full depth is always a choice. By
            default up to 4 numbers, from a third of the blocks to all; () for no others.
        kernels: odd sizes to which depthwise kernels may be cropped. The full kernel is always a choice; () for no others.
        stage_widths: shares in (0, 1] of the width of the residual stream, which all blocks of a stage read and write. The full
            width is always a choice. Only for a network that was read with elastic streams.

    Raises:
        SpaceError: an argument that does not describe a space, or a damaged graph.
    """
    read = Graph.from_json(graph)
    known = read.resolutions
    chosen = known if resolutions is None else sizes(resolutions, at_least=1)
    if unknown := set(chosen) - set(known):
        raise SpaceError(f"resolutions holds {ascending(unknown)[0]}: the network was read at {', '.join(map(str, known))}")
    shares = _shares("widths", widths)
    head_shares = shares if heads is None else _shares("heads", heads)
    allowed = None if depths is None else _values("depths", depths)
    caps = _values("kernels", kernels, odd=True)
    stream_shares = _shares("stage_widths", stage_widths)
    stages: dict[int, list[Piece]] = {}
    for piece in read.pieces:
        if piece.name.startswith("stages."):
            stages.setdefault(int(piece.name.split(".")[1]), []).append(piece)
    if len(stream_shares) > 1 and stages and not read.streams:
        raise SpaceError(
            "stage_widths: the network was read without elastic residual streams: give stage_widths to onceforall.elastic"
        )
    arguments = {
        "graph": read.to_json(),
        "resolutions": chosen,
        "widths": shares,
        "heads": head_shares,
        "depths": allowed,
        "kernels": caps,
        **({"stage_widths": stream_shares} if read.streams else {}),  # absent in older files
    }
    longest = max(map(len, stages.values()), default=0)
    if allowed and allowed[-1] > longest:
        raise SpaceError(f"depths holds {allowed[-1]}: the longest stage has {longest} blocks, so give smaller numbers")
    made = tuple(_stage(read, s, pieces, shares, head_shares, allowed, caps, stream_shares) for s, pieces in stages.items())
    modules = {piece.name: piece.module for piece in read.pieces}
    lowering = _Lowering(read, tuple(_stream_shares(read, s, pieces, stream_shares) for s, pieces in stages.items()))
    positions = {pixels: names for i, pixels in enumerate(known) if (names := _interpolated(read, i))}
    classes = read.groups[read.classes].units if read.classes >= 0 else 1
    return Space(
        "graph", arguments, tuple(chosen), made, lowering,
        classes=classes, modules=modules, fixed=read.fixed, interpolated=positions,
    )  # fmt: skip


def _interpolated(graph: Graph, resolution: int) -> tuple[str, ...]:
    """Position embeddings that are interpolated at the resolution with this index."""
    return tuple(name for name, spec in graph.weights.items() if spec.grids and not spec.grids[resolution].same)


def _stage(
    graph: Graph,
    number: int,
    pieces: Sequence[Piece],
    widths: tuple[float, ...],
    heads: tuple[float, ...],
    depths: tuple[int, ...] | None,
    kernels: tuple[int, ...],
    streams: tuple[float, ...],
) -> Choices:
    kinds = {graph.groups[group].kind for piece in pieces for group in piece.groups}
    elastic, most = max(piece.kernel for piece in pieces), len(pieces)
    if depths is None:
        least = max(1, round(most / 3))
        count = min(DEPTHS, most - least + 1)
        kept = {round(least + i * (most - least) / max(1, count - 1)) for i in range(count)} | {most}
    else:
        kept = {depth for depth in depths if depth <= most} | {most}
    return Choices(
        widths=tuple(sorted(_stream_shares(graph, number, pieces, streams))),
        depths=tuple(sorted(kept)),
        kernels=(*(kernel for kernel in kernels if kernel < elastic), elastic) if elastic else (1,),
        expand_ratios=widths if "width" in kinds else (1,),
        heads=heads if "heads" in kinds else (1,),
    )


def _stream_shares(graph: Graph, number: int, pieces: Sequence[Piece], shares: Sequence[float]) -> dict[int, float]:
    """The possible widths of a stage's residual stream, each with the share of its groups that gives this width.

    A stream may also contain fixed channels, so the width is not simply that share of the full width.
    """
    own = graph.streams[number] if graph.streams else ()
    shape = graph.nodes[pieces[-1].result].shape[1:]
    found = {}
    for share in shares:
        units = [units_kept(group, share) if i in own else group.units for i, group in enumerate(graph.groups)]
        found[max(1, channels(tuple(size.of(units, -1) for size in shape)))] = share
    return found


def _shares(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if none_of(values):
        return (1,)
    found = choices(name, values, at_least=0.01)
    if found[-1] > 1:
        raise SpaceError(f"{name} holds {found[-1]}: each is a share of a block's full width, above 0 and at most 1")
    return tuple(found) if found[-1] == 1 else (*found, 1)


def _values(name: str, values: Sequence[int], odd: bool = False) -> tuple[int, ...]:
    return () if none_of(values) else tuple(choices(name, values, whole=True, odd=odd, at_least=1))


def units_kept(group: Group, share: float) -> int:
    """Number of units in a share of a group: a multiple of `Group.step`, at least one step; all units for a share of 1."""
    if share >= 1:
        return group.units
    step = group.step
    return min(group.units, max(step, int(share * group.units / step + 0.5) * step))


def graph_of(space: Space) -> Graph:
    """The network that a space of this family was made from."""
    return _lowering_of(space).graph


def _lowering_of(space: Space) -> "_Lowering":
    assert isinstance(space.lowering, _Lowering)
    return space.lowering


def kept_units(space: Space, largest: int) -> dict[int, list[int]]:
    """For each group, the numbers of units kept at the `largest` largest shares of its stage."""
    lowering = _lowering_of(space)
    graph = lowering.graph
    kept: dict[int, list[int]] = {}
    for s, groups in enumerate(graph.streams):
        streams = [lowering.streams[s][width] for width in space.stages[s].widths[-largest:]] if largest else []
        for number in groups:
            kept[number] = [units_kept(graph.groups[number], share) for share in streams]
    for piece in graph.pieces:
        for number in piece.groups if piece.name.startswith("stages.") else ():
            group, stage = graph.groups[number], space.stages[int(piece.name.split(".")[1])]
            shares = stage.heads if group.kind == "heads" else stage.expand_ratios
            kept[number] = [units_kept(group, share) for share in shares[len(shares) - min(largest, len(shares)) :]]
    return kept


def classifier_weights(space: Space) -> set[str]:
    """Names of the tensors with one entry per class; empty if no classifier was found."""
    graph = graph_of(space)
    return {
        name
        for name, spec in graph.weights.items()
        if any(part.group == graph.classes >= 0 for parts in spec.dims for part in parts)
    }


@dataclass
class _Lowering:
    """(arch, num_classes) → Plan; each segment is made only once for each combination of its choices."""

    graph: Graph
    streams: tuple[Mapping[int, float], ...]  # by stage, see `_stream_shares`
    _made: dict[tuple[Any, ...], Segment] = field(default_factory=dict, repr=False)

    def __call__(self, arch: Arch, num_classes: int) -> Plan:
        if self.graph.classes < 0 and num_classes != 1:
            raise ArchError(f"num_classes is {num_classes}: no classifier was found at the end of this network, so omit it")
        blocks = {f"stages.{s}.{i}": block for s, stage in enumerate(arch.stages) for i, block in enumerate(stage.blocks)}
        segments = []
        for piece in self.graph.pieces:
            block = blocks.get(piece.name)
            if block is None and piece.name.startswith("stages."):
                continue
            streams = tuple((s, self.streams[s][arch.stages[s].width]) for s in self._stages_of[piece.name])
            key = piece.name, arch.resolution, block, streams, num_classes
            if key not in self._made:
                self._made[key] = self._segment(piece, arch.resolution, block, streams, num_classes)
            segments.append(self._made[key])
        return Plan(tuple(segments))

    def _segment(
        self, piece: Piece, pixels: Resolution, block: Block | None, streams: tuple[tuple[int, float], ...], num_classes: int
    ) -> Segment:
        graph = self.graph
        kept = [group.units for group in graph.groups]
        if graph.classes >= 0:
            kept[graph.classes] = num_classes
        for stage, share in streams:
            for group in graph.streams[stage]:
                kept[group] = units_kept(graph.groups[group], share)
        if block is not None:
            for group in piece.groups:
                share = block.heads if graph.groups[group].kind == "heads" else block.expand_ratio
                kept[group] = units_kept(graph.groups[group], share)
        making = _Making(graph, kept, graph.resolutions.index(pixels), block.kernel if block else 0)
        return making.segment(piece, self._first_uses)

    @cached_property
    def _stages_of(self) -> dict[str, list[int]]:
        """For each piece, the stages whose residual streams it reads or writes."""
        stage_of = {group: stage for stage, groups in enumerate(self.graph.streams) for group in groups}
        found = {}
        for piece in self.graph.pieces:
            groups: set[int] = set()
            for name in (piece.source, *piece.nodes) if piece.source != "x" else piece.nodes:
                node = self.graph.nodes[name]
                for leaf in leaves((node.shape, node.args, node.kwargs)):
                    match leaf:
                        case Size():
                            groups |= leaf.groups
                        case Own(weight):
                            groups |= {part.group for parts in self.graph.weights[weight].dims for part in parts}
            found[piece.name] = sorted({stage_of[group] for group in groups if group in stage_of})
        return found

    @cached_property
    def _first_uses(self) -> Mapping[str, str]:
        """For each weight, the piece that counts its parameters: the first one that is always present, else the first one."""
        found: dict[str, str] = {}
        always = [piece for piece in self.graph.pieces if not piece.name.startswith("stages.") or piece.name.endswith(".0")]
        for piece in (*always, *self.graph.pieces):
            for name in piece.nodes:
                node = self.graph.nodes[name]
                for leaf in leaves((node.args, node.kwargs)):
                    if isinstance(leaf, Own):
                        found.setdefault(leaf.name, piece.name)
        return found


@dataclass
class _Making:
    """Makes one segment, given the number of units to keep of each group."""

    graph: Graph
    kept: Sequence[int]
    resolution: int
    kernel: int

    def segment(self, piece: Piece, first_uses: Mapping[str, str]) -> Segment:
        names = {piece.source: "in"}
        counted: set[str] = set()
        ops: list[Call] = []

        def resolved(leaf: Any) -> Any:
            match leaf:
                case Value(name):
                    return Input(names[name])
                case Size(_, batch):
                    number = leaf.of(self.kept, self.resolution)
                    return Batch(number) if batch else number
                case Own(name):
                    first = first_uses[name] == piece.name and name not in counted
                    counted.add(name)
                    return self.weight(name, first)
            return leaf

        if piece.source == "x":
            in_shape: Shape = (self.graph.channels, *height_width(self.graph.resolutions[self.resolution]))
        else:
            in_shape = self.passed(piece.source)
        shapes = {"in": in_shape}
        if at := self.images_at(piece.source):  # between segments, images are the first dimension
            shape = shapes["turned"] = self.shape(self.graph.nodes[piece.source])
            names[piece.source] = "turned"
            ops.append(Call("turned", ("in",), shape, "transpose.int", (Input("in"), 0, at), fused=True, whole=True))
        if self.rows(piece.source) != 1:  # between segments, the rows of an image are a separate dimension
            shape = tuple(size.of(self.kept, self.resolution) for size in self.graph.nodes[piece.source].shape)
            names[piece.source] = "rows"
            ops.append(Call("rows", ("in",), shape, "reshape.default", (Input("in"), (Batch(shape[0]), *shape[1:])), fused=True))
            shapes["rows"] = shape
        for number, name in enumerate(piece.nodes):
            node = self.graph.nodes[name]
            names[name] = f"{node.op.split('.')[0]}_{number}"
            args, kwargs = each(node.args, resolved), each(dict(node.kwargs), resolved)
            shape = self.shape(node)
            inputs = tuple(leaf.name for leaf in leaves((args, kwargs)) if isinstance(leaf, Input))
            adapted = self.smaller_kernel(node.op, args)
            work = _work(node.op, adapted, shapes, shape)
            fused = bool(inputs) and _fused(node.op, adapted, shapes, shape)
            whole = len(shape) == len(node.shape)
            more = tuple(kwargs.items())
            ops.append(Call(names[name], inputs, shape, node.op, adapted, more, work, fused, whole, node.dropped))
            shapes[names[name]] = shape
        output = self.graph.output
        if piece is self.graph.pieces[-1] and output != Value(piece.result):
            given = _hashable(each(output, resolved))
            inputs = tuple(leaf.name for leaf in leaves(given) if isinstance(leaf, Input))
            ops.append(Call("output", inputs, shapes[inputs[0]], "output", (given,), fused=True))
        elif self.rows(piece.result) != 1 and piece is not self.graph.pieces[-1]:
            shape, last = ops[-1].shape, ops[-1].name
            ops.append(Call("images", (last,), shape, "reshape.default", (Input(last), (Batch(), *shape)), fused=True))
        elif (at := self.images_at(piece.result)) and piece is not self.graph.pieces[-1]:
            turned = Input(ops[-1].name), 0, at
            ops.append(Call("images", (ops[-1].name,), self.passed(piece.result), "transpose.int", turned, fused=True))
        return Segment(piece.name, in_shape, tuple(ops))

    def rows(self, name: str) -> int:
        """Rows per image of a value passed between segments."""
        node = self.graph.nodes.get(name)
        return node.shape[0].of(self.kept, self.resolution) if node is not None and node.shape and node.shape[0].batch else 1

    def images_at(self, name: str) -> int:
        """Index of the batch dimension, 0 for values without one."""
        node = self.graph.nodes.get(name)
        return next((dim for dim, size in enumerate(node.shape) if size.batch), 0) if node is not None else 0

    def passed(self, name: str) -> Shape:
        """Shape of a value between segments, for one image."""
        shape, at = list(self.shape(self.graph.nodes[name])), self.images_at(name)
        if at:
            shape[0], shape[at] = shape[at], shape[0]
        return tuple(shape[1:] if at else shape)

    def shape(self, node: Node) -> Shape:
        """Shape for one image, without the batch dimension if it is the first one."""
        sizes = tuple(size.of(self.kept, self.resolution) for size in node.shape)
        first = node.shape[0] if node.shape else None
        return sizes[1:] if first is not None and first.batch and sizes[0] == 1 else sizes

    def weight(self, name: str, first: bool) -> Weight:
        spec = self.graph.weights[name]
        cut = tuple(_ranges(parts, self.kept) for parts in spec.dims)
        shape = tuple(
            size if ranges is None else sum(stop - start for start, stop in ranges)
            for size, ranges in zip(spec.shape, cut, strict=True)
        )
        kernels: tuple[int, ...] = ()
        if spec.kernels and self.kernel and self.kernel < spec.kernels[-1]:
            kernels = tuple(kernel for kernel in reversed(spec.kernels) if kernel >= self.kernel)
            shape = (*shape[:2], kernels[-1], kernels[-1])
        if len(kernels) == 1:
            kernels = ()
        grid = spec.grids[self.resolution] if spec.grids and not spec.grids[self.resolution].same else None
        if grid is not None:
            shape = grid.shape(shape, grid.after)
        return Weight(shape, name, cut, kernels, spec.dtype, spec.trained, first, spec.kernels, grid)

    def smaller_kernel(self, op: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a convolution, with less padding if its kernel is smaller."""
        if not (op.startswith("conv2d") and isinstance(args[1], Weight) and args[1].kernels):
            return args
        less = (args[1].kernels[0] - args[1].kernels[-1]) // 2
        return (*args[:4], tuple(pad - less for pad in args[4]), *args[5:])


def _hashable(value: Any) -> Any:
    """The same nested value with `Fields` in place of mappings."""
    if isinstance(value, Mapping):
        return Fields(tuple((key, _hashable(item)) for key, item in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, tuple) else value


def _ranges(parts: tuple[DimPart, ...], kept: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """Ranges of the entries to keep, merged where adjacent; None for all entries."""
    found: list[tuple[int, int]] = []
    at, whole = 0, True
    for part in parts:
        units = part.units if part.group < 0 else min(part.units, kept[part.group])
        if part.group >= 0 and kept[part.group] != part.units:
            whole = False
            units = kept[part.group]
        if units and found and found[-1][1] == at:
            found[-1] = found[-1][0], at + units * part.each
        elif units:
            found.append((at, at + units * part.each))
        at += part.units * part.each
    return None if whole else tuple(found)


MATRIX = {"matmul", "bmm", "baddbmm", "addmm", "mm", "addmv", "mv"}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
FUSED = {"dropout", "batch_norm", "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "clone", "alias", "contiguous"}


def _work(op: str, args: tuple[Any, ...], shapes: Mapping[str, Shape], shape: Shape) -> int:
    """Multiply-accumulates; torch.utils.flop_counter counts two FLOPs for each."""
    kind = op.split(".")[0]

    def dims(arg: Any) -> Shape:
        return shapes[arg.name] if isinstance(arg, Input) else arg.shape if isinstance(arg, Weight) else ()

    if kind in {"conv1d", "conv2d", "conv3d"}:
        return prod(shape) * prod(dims(args[1])[1:])
    if kind.startswith("conv_transpose"):
        return prod(dims(args[0])) * prod(dims(args[1])[1:])
    if kind == "linear":
        return prod(shape) * dims(args[1])[-1]
    if kind in MATRIX:
        factor = args[1] if kind in {"baddbmm", "addmm", "addmv"} else args[0]
        return prod(shape) * dims(factor)[-1]
    if kind == "scaled_dot_product_attention":
        query, key, value = (dims(arg) for arg in args[:3])
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    if kind == "einsum":
        return _einsum(args, dims)
    if kind in RECURRENT:
        return prod(dims(args[0])[:-1]) * sum(
            prod(leaf.shape) for leaf in leaves(args) if isinstance(leaf, Weight) and leaf.shape[1:]
        )
    return 0


def _einsum(args: tuple[Any, ...], dims: Any) -> int:
    """Multiply-accumulates of an einsum that contracts one operand after the other; products without a sum are not counted."""
    terms, result = args[0].split("->")
    names = terms.split(",")
    sizes: dict[str, int] = {}
    for own, operand in zip(names, args[1], strict=True):
        shape = dims(operand)
        sizes |= dict(zip(own[len(own) - len(shape) :], shape, strict=True))
    total, known = 0, names[0]
    for i, own in enumerate(names[1:], 1):
        later = result + "".join(names[i + 1 :])
        summed = {c for c in known if c in own and c not in later}
        total += prod(sizes.get(c, 1) for c in {*known, *own} if c in later or c in summed) if summed else 0
        known = "".join(c for c in {*known, *own} if c in later)
    return total


def _fused(op: str, args: tuple[Any, ...], shapes: Mapping[str, Shape], shape: Shape) -> bool:
    """Whether runtimes fold a call into its input: views, norms and element-wise functions of one tensor."""
    kind = op.split(".")[0]
    one = sum(isinstance(leaf, Input) for leaf in leaves(args)) == 1
    read = shapes[next(leaf.name for leaf in leaves(args) if isinstance(leaf, Input))] if one else None
    return one and (kind in FUSED or (kind in ELEMENTWISE and read == shape))


ELEMENTWISE = {
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "mish", "tanh", "elu", "leaky_relu",
    "prelu", "celu", "selu", "softplus", "exp", "neg", "abs", "sqrt", "rsqrt", "clamp", "clamp_min", "clamp_max",
}  # fmt: skip
