"""`Graph`: a user's own network as data: its operations, its blocks, and which of its sizes are elastic.

It is read from a model once (`onceforall.reader`) and is JSON from then on. `onceforall.spaces.graph` turns it into a space, which
lowers architectures to plans of `Call`s without the model, its code or torch.

Sizes are sums: a number of entries that always stay, plus a number for each unit kept of a group. A *unit* can only be removed as a
whole, wherever it appears: one channel of a convolution with everything tied to it, one attention head, one group of a grouped
convolution. Similar units form a *group*; a narrower network keeps the first units of each group.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .errors import SpaceError
from .ops import Grid, leaves
from .resolutions import Resolution

FORMAT = "onceforall.graph/1"
Kind = Literal["width", "heads", "classes"]
Number = int | tuple[int, ...]  # one per resolution where they differ


@dataclass(frozen=True, slots=True)
class Size:
    """A number that depends on the sub-network: the sum of `times` · units kept of `group` (-1: 1), per image if `batch`."""

    terms: tuple[tuple[Number, int], ...]
    batch: bool = False

    def of(self, kept: Sequence[int], resolution: int) -> int:
        """The size for one image, given the units kept of each group and the index of the resolution."""
        return sum(
            (times if isinstance(times, int) else times[resolution]) * (1 if group < 0 else kept[group])
            for times, group in self.terms
        )

    @property
    def groups(self) -> set[int]:
        return {group for _, group in self.terms if group >= 0}


@dataclass(frozen=True, slots=True)
class Value:
    """An argument: the result of a node."""

    name: str


@dataclass(frozen=True, slots=True)
class Own:
    """An argument: a weight, buffer or constant."""

    name: str


@dataclass(frozen=True, slots=True)
class DimPart:
    """Entries along one dimension of a weight: `each` per unit of the group, in order (group -1: always kept)."""

    group: int
    units: int
    each: int


@dataclass(frozen=True)
class WeightSpec:
    """A tensor of the network.

    Args:
        shape: shape in the largest network.
        dims: for each dimension, the groups that its entries belong to.
        dtype: torch's name, without "torch.".
        trained: whether it is a parameter; otherwise a buffer or a constant.
        kernels: sizes that its last two dimensions can have, ascending, if there are several.
        grids: for a position embedding: how it is interpolated at each resolution (not at all at its own size).
    """

    shape: tuple[int, ...]
    dims: tuple[tuple[DimPart, ...], ...]
    dtype: str = "float32"
    trained: bool = True
    kernels: tuple[int, ...] = ()
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class Node:
    """One operation: its ATen name with the overload, its arguments, and the shape of its result.

    `dropped` is set for the sum that ends a branch with stochastic depth: which argument is the branch, and the rate at which it is
    dropped for an image in train mode.

    Arguments are numbers, strings, `Value`, `Own`, `Size`, "dtype:…" and the words "<training>", "<device>" and "<dtype>"; the last
    two refer to the images.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[Size, ...]
    dtype: str = "float32"
    module: str = ""
    dropped: tuple[int, float] | None = None


@dataclass(frozen=True)
class Group:
    """Similar units: how many the largest network has, their kind, and the multiple to which their number is rounded."""

    units: int
    kind: Kind
    step: int = 1


@dataclass(frozen=True)
class Piece:
    """A segment of the network: nodes that read one value, `source`, and produce one, `result`.

    Args:
        name: "stages.S.I" for an elastic block, any other name otherwise.
        skippable: whether the network is still valid without it.
        nodes: names of its nodes, in execution order.
        groups: groups that occur only in it.
        kernel: its largest elastic kernel, 0 if there is none.
        module: the module of the model that it comes from.
    """

    name: str
    source: str
    result: str
    nodes: tuple[str, ...]
    skippable: bool = False
    groups: tuple[int, ...] = ()
    kernel: int = 0
    module: str = ""


@dataclass(frozen=True)
class Graph:
    """A network as data.

    Args:
        resolutions: resolutions it was read at, in pixels, ascending; "HEIGHTxWIDTH" if not square.
        classes: index of the group of the classifier's outputs, or -1.
        weights: by their names in the model.
        groups: the groups that `Size` and `DimPart` refer to by index.
        output: what the network returns: values in tuples, lists and mappings.
        fixed: what is not elastic and why, one line each.
        about: where the network comes from, for its cards.
        streams: for each stage, the groups of its residual stream (the output of its blocks), if that was made elastic.
        channels: channels of the images.
    """

    resolutions: tuple[Resolution, ...]
    classes: int
    nodes: Mapping[str, Node]
    weights: Mapping[str, WeightSpec]
    groups: tuple[Group, ...]
    pieces: tuple[Piece, ...]
    output: Any
    fixed: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    streams: tuple[tuple[int, ...], ...] = ()
    channels: int = 3

    def to_json(self) -> dict[str, Any]:
        """As data for `json.dumps`."""
        return {
            "format": FORMAT,
            "resolutions": list(self.resolutions),
            "classes": self.classes,
            "nodes": {name: {**_fields(node), "kwargs": encoded(dict(node.kwargs))} for name, node in self.nodes.items()},
            "weights": {name: _spec(weight) for name, weight in self.weights.items()},
            "groups": [asdict(group) for group in self.groups],
            "pieces": [asdict(piece) for piece in self.pieces],
            "output": encoded(self.output),
            "fixed": list(self.fixed),
            "about": dict(self.about),
            **({"streams": [list(groups) for groups in self.streams]} if self.streams else {}),
            **({} if self.channels == 3 else {"channels": self.channels}),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Graph":
        """Read the result of `to_json`.

        Raises:
            SpaceError: not a graph, or one in an unknown format version.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise SpaceError(f"unknown graph format {found!r}: this version reads {FORMAT!r}")
        try:
            nodes = {name: _node(entry) for name, entry in data["nodes"].items()}
            weights = {name: _weight(entry) for name, entry in data["weights"].items()}
            graph = cls(
                resolutions=tuple(data["resolutions"]),
                classes=data["classes"],
                nodes=nodes,
                weights=weights,
                groups=tuple(Group(**entry) for entry in data["groups"]),
                pieces=tuple(Piece(**{key: _tuples(value) for key, value in entry.items()}) for entry in data["pieces"]),
                output=decoded(data["output"]),
                fixed=tuple(data["fixed"]),
                about=dict(data["about"]),
                streams=tuple(tuple(groups) for groups in data.get("streams", ())),
                channels=int(data.get("channels", 3)),
            )
            graph._check()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            raise SpaceError(f"a damaged graph of a network ({type(error).__name__}: {error}): read the model again") from None
        return graph

    def _check(self) -> None:
        """Check that every name in use exists."""
        for node in self.nodes.values():
            for found in leaves((node.args, node.kwargs)):
                if isinstance(found, Own):
                    self.weights[found.name]
                elif isinstance(found, Value) and found.name != "x":
                    self.nodes[found.name]
                elif isinstance(found, Size):
                    for group in found.groups:
                        self.groups[group]
        for piece in self.pieces:
            for name in piece.nodes:
                self.nodes[name]
        for weight in self.weights.values():
            if weight.grids and len(weight.grids) != len(self.resolutions):
                raise ValueError("a position embedding needs a grid for each resolution")
        for groups in self.streams:
            for group in groups:
                self.groups[group]


def encoded(value: Any) -> Any:
    """Encode arguments as JSON: anything other than a number, string or list becomes an object with one key."""
    match value:
        case Value(name):
            return {"value": name}
        case Own(name):
            return {"own": name}
        case Size(terms, batch):
            return {"size": [[list(t) if isinstance(t, tuple) else t, g] for t, g in terms], **({"batch": True} if batch else {})}
        case tuple() | list():
            return [encoded(item) for item in value]
        case Mapping():
            return {"map": [[key, encoded(item)] for key, item in value.items()]}
        case float() if value != value or value in (float("inf"), float("-inf")):
            return {"float": str(value)}
    return value


def decoded(value: Any) -> Any:
    """The inverse of `encoded`; lists become tuples."""
    match value:
        case {"value": name}:
            return Value(name)
        case {"own": name}:
            return Own(name)
        case {"size": terms, **more}:
            return Size(tuple((tuple(t) if isinstance(t, list) else t, g) for t, g in terms), bool(more.get("batch")))
        case {"map": items}:
            return {key: decoded(item) for key, item in items}
        case {"float": text}:
            return float(text)
        case list():
            return tuple(decoded(item) for item in value)
    return value


def _fields(node: Node) -> dict[str, Any]:
    fields = {"op": node.op, "args": encoded(node.args), "shape": encoded(node.shape), "dtype": node.dtype, "module": node.module}
    return fields if node.dropped is None else {**fields, "dropped": list(node.dropped)}


def _node(entry: Mapping[str, Any]) -> Node:
    drop = entry.get("dropped")
    dropped = None if drop is None else (int(drop[0]), float(drop[1]))
    return Node(
        entry["op"], decoded(entry["args"]), decoded(entry["kwargs"]), decoded(entry["shape"]), entry["dtype"], entry["module"],
        dropped,
    )  # fmt: skip


def _spec(weight: WeightSpec) -> dict[str, Any]:
    fields = {**asdict(weight), "dims": [[[p.group, p.units, p.each] for p in d] for d in weight.dims]}
    if not weight.grids:
        del fields["grids"]
    return fields


def _weight(entry: Mapping[str, Any]) -> WeightSpec:
    dims = tuple(tuple(DimPart(*part) for part in parts) for parts in entry["dims"])
    grids = tuple(Grid(**{key: _tuples(value) for key, value in grid.items()}) for grid in entry.get("grids", ()))
    return WeightSpec(tuple(entry["shape"]), dims, entry["dtype"], entry["trained"], tuple(entry["kernels"]), grids)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def each(value: Any, do: Callable[[Any], Any]) -> Any:
    """Apply `do` to every leaf of nested tuples, lists and mappings; return the results in the same structure."""
    if isinstance(value, tuple | list):
        return tuple(each(item, do) for item in value)
    if isinstance(value, Mapping):
        return {key: each(item, do) for key, item in value.items()}
    return do(value)
