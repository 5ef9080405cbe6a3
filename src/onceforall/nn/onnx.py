"""Write an ONNX file from a plan and its weights, without tracing and without torch's exporters (0.6 s per block).

Every batch norm is folded in float64 into the preceding convolution. The batch dimension is free unless it is given.

Where ONNX allows several forms, the file uses one that every program in docs/export.md reads correctly. Attributes with default
values are omitted: OpenCV's dnn mistakes a HardSigmoid with an explicit beta, followed by any Mul, for a HardSwish.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..common.onnx_options import ACTIVATIONS, INPUT, OPSET, OUTPUT, PROBABILITIES
from ..common.packages import import_package
from ..errors import DeviceError
from ..ops import Call, Norm, Op
from ..plan import Plan, Segment
from .onnx_calls import OPERATIONS as CALLS
from .onnx_calls import NotWrittenError, Writer
from .onnx_calls.writer import Array, Writing, affine, array
from .operations import OPERATIONS, Floats
from .torch_onnx import by_torch, names_of


def to_onnx(
    plan: Plan,
    network: nn.Module | Mapping[str, Tensor],
    *,
    batch: int | None = None,
    opset: int = OPSET,
    softmax: bool = False,
    activation: str = "softmax",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The network in eval mode as an ONNX model, verified by onnx's checker.

    Input "images" (batch, *plan.input_shape) float32, output "logits" or "probabilities" (batch, *plan.output_shape) float32.
    A network that returns several tensors has an output for each, named by the keys and positions that lead to it.

    If an operation cannot be written here, torch's exporter writes the whole network.

    Args:
        plan: a whole network or a piece of one (`Plan.piece`), whose input is then a feature map.
        network: the plain network of that plan (`nn.static.build`, `Supernet.extract`), or its state dict.
        batch: images per call; None leaves it free.
        opset: version of ONNX's operators, in `OPSETS`; the file format (IR) has the oldest version that supports it.
        softmax: for a whole network: end with a softmax over the classes, or another activation.
        activation: the final activation, a key of `ACTIVATIONS`.
        metadata: text to store in the model, by key.

    Raises:
        MissingExtraError: the package onnx is not installed.
        StatisticsError: a batch norm's statistics were never measured or are not finite.
        DeviceError: the installed onnx does not support the opset, or an operation of the network cannot be written with it.
        CheckpointError: a weight is missing, has a shape other than the plan's, or is not finite.
    """
    onnx = import_package("onnx", "onnx")
    require_known(opset)
    state = network.state_dict() if isinstance(network, nn.Module) else network
    try:
        model = _written(onnx, plan, state, batch, opset, activation if softmax else None)
    except NotWrittenError as error:
        ending = activation if softmax else None
        model = onnx.load_model_from_string(by_torch(plan, state, str(error), batch=batch, opset=opset, ending=ending))
    onnx.helper.set_model_props(model, dict(metadata or {}))
    content = bytes(model.SerializeToString())
    onnx.checker.check_model(content, full_check=True)  # given the model object, it would serialize it again
    return content


def _written(onnx: ModuleType, plan: Plan, state: Mapping[str, Tensor], batch: int | None, opset: int, ending: str | None) -> Any:
    """The model. Raises NotWrittenError if an operation cannot be written."""
    graph = _Graph(onnx, state, opset, batch)
    last: Any = INPUT
    for segment in plan.segments:
        last = graph.add(segment, last)
    tensor, first = onnx.helper.make_tensor_value_info, batch or "batch"
    if isinstance(last, str):
        output = PROBABILITIES if ending else OUTPUT
        graph.end(last, output, ending)
        end, shape = plan.ops[-1], plan.output_shape
        whole = isinstance(end, Call) and end.whole  # several rows per image, or a single number
        outputs = [tensor(output, onnx.TensorProto.FLOAT, ["rows", *shape[1:]][: len(shape)] if whole else [first, *shape])]
    else:
        outputs = [tensor(name, *about) for name, about in graph.end_several(last, ending).items()]
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "onceforall", [tensor(INPUT, onnx.TensorProto.FLOAT, [first, *plan.input_shape])], outputs, graph.constants
        ),
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
        producer_name="onceforall",
    )


def require_known(opset: int) -> None:
    """Check that the installed onnx supports the opset.

    Raises:
        MissingExtraError: the package onnx is not installed.
        DeviceError: it does not support the opset.
    """
    onnx = import_package("onnx", "onnx")
    known = onnx.defs.onnx_opset_version()
    if opset > known:
        raise DeviceError(
            f"opset {opset}: the installed onnx {onnx.__version__} supports up to {known}: choose a lower one, or update onnx"
        )


def smallest_model(opset: int) -> bytes:
    """A model with one node, to test whether a program reads files of this opset."""
    onnx = import_package("onnx", "onnx")
    images, same = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in (INPUT, OUTPUT))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", [INPUT], [OUTPUT])], "onceforall", [images], [same])
    opsets = [onnx.helper.make_opsetid("", opset)]
    ir = onnx.helper.find_min_ir_version_for(opsets)
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir).SerializeToString())


class _Graph:
    """Collects the nodes and constants of a graph."""

    def __init__(self, onnx: ModuleType, state: Mapping[str, Tensor], opset: int, batch: int | None) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.calls = Writer(CALLS, self.node, self._store, state, opset=opset, batch=batch)

    def add(self, segment: Segment, source: str) -> Any:
        """Add the operations of a segment that reads tensor `source`; return the name of its output tensor.

        The last segment of a network of calls may return nested names.
        """
        if any(isinstance(op, Call) for op in segment.ops):
            return self.calls.add(segment, source)
        folded = {norm.name for norm in segment.folds.values()}
        tensors, last = {"in": array(source, segment.in_shape)}, source
        for op in segment.ops:
            inputs = [tensors[name] for name in op.inputs]
            if op.name in folded:
                last = inputs[0].name
            else:
                last = self._operation(segment.name, op, inputs, segment.folds.get(op.name))
            tensors[op.name] = array(last, op.shape)
        return last

    def end(self, last: str, output: str, ending: str | None) -> None:
        """Rename the last tensor, after an optional activation, to the graph's output."""
        if ending:
            self.node(ACTIVATIONS[ending], [last], output)
        elif self.nodes and self.nodes[-1].output[0] == last:
            self.nodes[-1].output[0] = output
        else:  # a piece without operations
            self.node("Identity", [last], output)

    def end_several(self, last: Any, ending: str | None) -> dict[str, tuple[int, list[Any]]]:
        """Like `end`, for nested tensors; returns their types and shapes by name."""
        if ending:
            raise DeviceError(f"{ending}: the network returns several tensors, and it is unknown which are logits: omit {ending}")
        found: dict[str, tuple[int, list[Any]]] = {}
        for name, tensor in names_of(last).items():
            self.node("Identity", [tensor], name)
            found[name] = self.calls.kinds[tensor], self.calls.shapes[tensor]
        return found

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _operation(self, segment: str, op: Op, inputs: Sequence[Array], norm: Norm | None) -> str:
        """Write one operation, with a norm folded into it if given."""
        row, own = OPERATIONS[type(op)], self._tensors(segment, op)
        to_fold = None if norm is None else affine(*self._tensors(segment, norm).values(), eps=norm.eps)
        writing = Writing(self.calls, f"{segment}.{op.name}", type(op).__name__, ())
        if isinstance(row.onnx, str):
            return writing.node(row.onnx, inputs)
        return row.onnx(writing, op, inputs, own, to_fold)

    def _tensors(self, segment: str, op: Op) -> dict[str, Floats]:
        """The weights and statistics of an operation, checked, in float64."""
        trained, read, at = op.weights, self.calls.read, f"{segment}.{op.name}"
        return {
            name: read(f"{at}.{name}", shape, name in trained).numpy() for name, shape in (*trained.items(), *op.statistics.items())
        }

    def _store(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name
