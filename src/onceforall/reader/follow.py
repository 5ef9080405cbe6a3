"""`follow`: propagate the labels of all tensors through the steps of a trace."""

from ..resolutions import height_width
from . import moves, products  # noqa: F401, they register their rules
from .labels import Labels
from .rules import RULES, element_by_element, opaque, pointwise
from .trace import BATCH, Trace


def follow(trace: Trace) -> Labels:
    """Label all tensors and propagate the labels through the steps."""
    labels = Labels()
    for name, tensor in trace.tensors.items():
        shape = labeled = tuple(tensor.shape)
        if name in trace.grids:
            grid = trace.grids[name][-1]
            shape = grid.shape(shape, grid.after)
            labeled = tuple(1 if dim in grid.dims else size for dim, size in enumerate(shape))  # position maps are never cut
        labels.weights[name] = labels.fresh(labeled)
        labels.shapes[f"own {name}"] = [shape]
    labels.values["x"], labels.shapes["x"] = [[]], [(BATCH, trace.channels, *height_width(trace.resolutions[-1]))]
    labels.indexed = {step.args[0].name for step in trace.steps if step.op == "getitem" and step.args[1] == 1}
    for step in trace.steps:
        labels.shapes[step.name] = step.shapes
        rule = RULES.get(step.kind, pointwise if element_by_element(step.op) else opaque)
        labels.values[step.name] = rule(labels, step)
    return labels
