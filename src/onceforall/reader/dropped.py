"""Stochastic depth: find where a model drops branches in training, which its operations in eval mode do not show."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from ..graph import Graph, Node, Size, Value
from ..ops import leaves

KINDS = {
    "DropPath": "drop_prob",
    "StochasticDepth": "p",
}  # classes of timm, torchvision and their copies, and the attribute with the rate


def with_dropped(graph: Graph, model: nn.Module) -> Graph:
    """Mark the residual sums in the graph that end branches with stochastic depth.

    Layers of stochastic depth are assigned to the sums of their parent module in order. Sums of two branches, neither of which is
    computed from the other, have no shortcut and are not marked.
    """
    rates: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        attribute = KINDS.get(type(module).__name__)
        if attribute is not None and isinstance(rate := vars(module).get(attribute), int | float):
            rates.setdefault(name.rpartition(".")[0], []).append(float(rate))
    sums: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        if node.module in rates and node.op == "add.Tensor" and _for_each_image(node) and _branch(graph, node) is not None:
            sums.setdefault(node.module, []).append(name)
    marked = {}
    for module, own in rates.items():
        found = sums.get(module, [])
        if len(found) > len(own):  # one layer shared by all of them
            own = own * len(found) if len(own) == 1 else []
        for name, rate in zip(found, own, strict=False):
            which = _branch(graph, graph.nodes[name])
            if which is not None and 0 < rate < 1:
                marked[name] = replace(graph.nodes[name], dropped=(which, rate))
    return replace(graph, nodes={**graph.nodes, **marked})


def _for_each_image(node: Node) -> bool:
    return bool(node.shape) and node.shape[0] == Size(((1, -1),), batch=True)


def _branch(graph: Graph, node: Node) -> int | None:
    """Which of two operands is computed from the other."""
    match node.args[:2]:
        case Value(first), Value(second):
            if _made_of(graph, second, first):
                return 1
            return 0 if _made_of(graph, first, second) else None
    return None


def _made_of(graph: Graph, name: str, source: str) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        for read in _reads(graph, waiting.pop()):
            if read == source:
                return True
            if read not in seen:
                seen.add(read)
                waiting.append(read)
    return False


def _reads(graph: Graph, name: str) -> Iterable[str]:
    node = graph.nodes.get(name)
    return [] if node is None else [leaf.name for leaf in leaves((node.args, dict(node.kwargs))) if isinstance(leaf, Value)]
