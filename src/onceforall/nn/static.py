"""A plain torch network from a plan: a `torch.fx.GraphModule` of `torch.nn` layers, without code of this library."""

import torch
from torch import fx, nn

from ..ops import Call
from ..plan import Plan
from .calls import add_call, channels_last_, module_place, modules_of, put_tensor
from .operations import OPERATIONS

DROPOUTS = {torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout}


def build(plan: Plan, *, dropout: float = 0.0) -> fx.GraphModule:
    """Build the network of a plan with newly initialized weights, in channels-last format.

    Submodules are named "segment.operation", so its state dict has the supernet's names. `network.code` is readable.
    Input (batch, *plan.input_shape), output (batch, *plan.output_shape). Activations work in place if nothing else reads
    their input.
    """
    root = nn.Module()
    graph = fx.Graph()
    last = graph.placeholder("x")
    layers = modules_of(plan)
    for name, layer in layers.items():
        put(root, name, layer)
    for segment in plan.segments:
        values = {"in": last}
        for op in segment.ops:
            if isinstance(op, Call):
                for weight in op.tensors:
                    if weight.name.rpartition(".")[0] not in layers:
                        tensor = torch.empty(weight.shape, dtype=vars(torch)[weight.dtype])
                        put_tensor(root, weight.name, tensor, weight.trained)
                last = values[op.name] = add_call(graph, root, op, values)
                continue
            inputs = tuple(values[source] for source in op.inputs)
            made = OPERATIONS[type(op)].module(op, dropout, op.inputs[0] in segment.read_once)
            if isinstance(made, nn.Module):
                name = f"{segment.name}.{op.name}"
                put(root, name, made)
                values[op.name] = graph.call_module(name, inputs)
            else:
                values[op.name] = graph.call_function(made, inputs)
            last = values[op.name]
    graph.output(last)
    if any(isinstance(op, Call) for op in plan.ops):
        network = fx.GraphModule(root, graph, "Subnet")
        channels_last_(network, plan)
        return network
    network = fx.GraphModule(nn.Module(), fx.Graph(), "Subnet")  # given the root, it would copy every used layer
    for name, child in root.named_children():
        network.add_module(name, child)
    network.graph = graph
    return network.to(memory_format=torch.channels_last)


def without_dropout(network: fx.GraphModule) -> None:
    """Remove the dropout operations of a network that was read from a model, in place."""
    for node in list(network.graph.nodes):
        if node.op == "call_function" and node.target in DROPOUTS:
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    network.recompile()


def put(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Register a layer under a dotted name, creating the modules on the way."""
    holder, leaf = module_place(root, name)
    holder.add_module(leaf, layer)
