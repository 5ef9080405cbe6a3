"""Stochastic depth: find where a model drops branches in training, which its operations in eval mode do not show."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from ..graph import Graph, Node, Size, Value
from ..ops import ancestors, leaves

KINDS = {"DropPath": "drop_prob", "StochasticDepth": "p"}  # class of timm, torchvision or a copy → attribute with the rate
PER_IMAGE = (Size(((1, -1),), batch=True),)  # a first dimension of one entry per image


def with_dropped(graph: Graph, model: nn.Module) -> Graph:
    """Mark the residual sums in the graph that end branches with stochastic depth.

    Layers of stochastic depth are assigned to the sums of their parent module in order. A sum of two branches neither of which is
    computed from the other has no shortcut and is not marked.
    """
    rates: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        attribute = KINDS.get(type(module).__name__)
        if attribute is not None and isinstance(rate := vars(module).get(attribute), int | float):
            rates.setdefault(name.rpartition(".")[0], []).append(float(rate))
    sums: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        if node.module in rates and node.op == "add.Tensor" and node.shape[:1] == PER_IMAGE and _branch(graph, node) is not None:
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


def _branch(graph: Graph, node: Node) -> int | None:
    """Index of the operand that is computed from the other one."""
    match node.args[:2]:
        case Value(first), Value(second):
            if first == second:
                return None
            if first in ancestors([second], lambda name: _reads(graph, name)):
                return 1
            return 0 if second in ancestors([first], lambda name: _reads(graph, name)) else None
    return None


def _reads(graph: Graph, name: str) -> Iterable[str]:
    node = graph.nodes.get(name)
    return [] if node is None else [leaf.name for leaf in leaves((node.args, node.kwargs)) if isinstance(leaf, Value)]
