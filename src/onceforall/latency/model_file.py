"""Third-party ONNX files."""

from typing import Any

from ..common.packages import import_package
from ..errors import DeviceError
from ..ops import Shape


def input_shape(model: bytes, name: str, given: Shape | None, batch: int) -> Shape:
    """The shape of one input of a model, without the batch.

    Args:
        name: file name, for messages.
        given: shape to use where the model leaves it open.
        batch: required batch size.

    Raises:
        DeviceError: not a model with one float32 input, an open shape, or a shape that differs from the given one.
        MissingExtraError: the package onnx is not installed.
    """
    onnx = import_package("onnx", "onnx")
    try:
        proto: Any = onnx.load_from_string(model)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and onnx's errors have no common base class
        text = " ".join(str(error).split())[:200]
        raise DeviceError(f"{name}: not an ONNX model that is self-contained: {text}") from None
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise DeviceError(f"{name}: needs one float32 input, the model has {', '.join(v.name for v in inputs) or 'none'}")
    dims = [d.dim_value or None for d in inputs[0].type.tensor_type.shape.dim]
    if not dims:
        raise DeviceError(f"{name}: the input has no batch dimension: export the model with one")
    if dims[0] not in (None, batch):
        raise DeviceError(f"{name}: made for batches of {dims[0]}, not {batch}: use --device RUNTIME:batch={dims[0]}")
    if given is not None and (len(given) != len(dims) - 1 or any(a not in (None, b) for a, b in zip(dims[1:], given, strict=True))):
        raise DeviceError(f"{name}: the shape {_text(given)} does not fit the model's input {_text(dims[1:])}: change --shape")
    shape = given or tuple(d for d in dims[1:] if d is not None)
    if len(shape) != len(dims) - 1:
        raise DeviceError(f"{name}: the input's shape is {_text(dims[1:])}: complete it with --shape, such as --shape 3x224x224")
    return shape


def tiny_model() -> bytes:
    """A trivial model: the relu of its input (batch, 1, 8, 8).

    Raises:
        MissingExtraError: the package onnx is not installed.
    """
    onnx = import_package("onnx", "onnx")
    helper: Any = onnx.helper
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 1, 8, 8]) for name in ("images", "logits")]
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["logits"])], "tiny", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _text(dims: Any) -> str:
    return "x".join("?" if d is None else str(d) for d in dims)
