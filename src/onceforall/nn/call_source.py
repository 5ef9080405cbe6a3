"""Write a network of calls as Python source: one function per segment, and all tensors in a tree by their names.

Segments with the same source share a function. The source calls torch's public functions, like `nn.calls`.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import DeviceError
from ..ops import Batch, Call, Input, Weight, leaves
from ..plan import Plan, Segment
from .calls import function_of, modules_of

VERSION = torch.__version__.partition("+")[0]
NEEDS = f"Python 3.8 or later, and was written with torch {VERSION}: an older version must have all functions that it calls"

PART = '''class Part(nn.Module):
    """Layers, tensors and other parts, by their names in the file of weights."""

    def __init__(self, members: dict) -> None:
        super().__init__()
        for name, member in members.items():
            if isinstance(member, Tensor) and not isinstance(member, nn.Parameter):
                self.register_buffer(name, member)
            else:
                setattr(self, name, member)

    def __getitem__(self, name: str):
        return getattr(self, name)


def weight(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A parameter to load weights into."""
    return nn.Parameter(torch.zeros(shape, dtype=dtype))
'''
METHODS = {
    "reshape", "view", "flatten", "unflatten", "transpose", "permute", "unsqueeze", "squeeze", "mean", "sum", "softmax", "chunk",
    "split", "unbind", "select", "narrow", "expand", "contiguous", "type_as", "repeat", "amax",
}  # fmt: skip
SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
Tree = dict[str, Any]  # values are expressions or trees
TAKEN = {"Bundle", "F", "Network", "Part", "Path", "Tensor", "json", "load", "nn", "read", "torch", "weight"}


def functions_of(plans: Sequence[Plan]) -> tuple[list[str], list[list[str]]]:
    """Sources of the functions for the plans' segments, and for each plan the lines that call them.

    Raises:
        DeviceError: an operation cannot be written as Python.
    """
    functions: dict[str, tuple[str, list[Segment]]] = {}
    calls: list[list[str]] = []
    taken = set(TAKEN)
    for plan in plans:
        layers = _layers(plan)
        calls.append([])
        for segment in plan.segments:
            writing = _Writing(segment, layers)
            body = writing.body()
            if body not in functions:
                name, count = re.sub(r"\W", "_", segment.name), 1
                while name in taken:
                    count += 1
                    name = f"{re.sub(r'[^a-zA-Z0-9]', '_', segment.name)}_{count}"
                taken.add(name)
                functions[body] = name, []
            name, members = functions[body]
            members.append(segment)
            owner = _access("self", writing.prefix)
            calls[-1].append(f"x = {name}({owner}, x)")
    texts = []
    for body, (name, members) in functions.items():
        shapes = " → ".join("×".join(map(str, shape)) for shape in (members[0].in_shape, members[0].out_shape))
        what = ", ".join(dict.fromkeys(segment.name for segment in members))
        head, rest = body.split("\n", 1)
        texts.append(f'def {name}{head}\n    """{what}: {shapes}."""\n{rest}\n')
    return texts, calls


def network_of_calls(name: str, plan: Plan, calls: Sequence[str]) -> str:
    """Source of the class of a whole network, given the lines that call its functions."""
    layers = _layers(plan)
    tree = tree_of(_members(plan, layers))
    shape = ", ".join(map(str, plan.input_shape))
    lines = [f"class {name}(Part):", f'    """Images (n, {shape}) → {_returned(plan)}."""', "", "    def __init__(self) -> None:"]
    lines += ["        super().__init__({", *_entries(tree, 3), "        })"]
    lines += ["", "    def forward(self, x: Tensor):", *(f"        {line}" for line in calls)]
    return "\n".join([*lines, "        return x"]) + "\n"


def tree_of(texts: Mapping[str, str]) -> Tree:
    """Turn expressions by dotted name into nested dictionaries."""
    tree: Tree = {}
    for path, text in texts.items():
        *above, leaf = path.split(".")
        at = tree
        for key in above:
            at = at.setdefault(key, {})
        at[leaf] = text
    return tree


def _returned(plan: Plan) -> str:
    last = plan.ops[-1]
    if isinstance(last, Call) and last.target == "output":
        return "the outputs of the original model"
    return f"({', '.join(map(str, ('n', *plan.output_shape)))})"


def _layers(plan: Plan) -> dict[str, nn.Module]:
    with torch.device("meta"):
        return modules_of(plan)


def _members(plan: Plan, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """For each layer or tensor, by name, the expression that creates it, in order of use."""
    found: dict[str, str] = {}
    for op in plan.ops:
        for tensor in op.tensors if isinstance(op, Call) else ():
            layer = tensor.name.rpartition(".")[0]
            if layer in layers:
                found[layer] = _layer(layers[layer])
            else:
                found[tensor.name] = _tensor(tensor)
    return found


def _tensor(tensor: Weight) -> str:
    dtype = [] if tensor.dtype == "float32" else [f"dtype=torch.{tensor.dtype}"]
    arguments = [*map(str, tensor.shape), *dtype] if tensor.trained else [repr(tensor.shape), *dtype]
    return f"{'weight' if tensor.trained else 'torch.zeros'}({', '.join(arguments)})"


def _layer(layer: nn.Module) -> str:
    """The expression that creates a layer of `modules_of`, without default arguments."""
    match layer:
        case nn.Conv2d():
            options = {
                "stride": (layer.stride, 1),
                "padding": (layer.padding, 0),
                "dilation": (layer.dilation, 1),
                "groups": (layer.groups, 1),
            }
            given = [f"{name}={_few(value)}" for name, (value, default) in options.items() if _few(value) != str(default)]
            given += [] if layer.bias is not None else ["bias=False"]
            return f"nn.Conv2d({', '.join([f'{layer.in_channels}, {layer.out_channels}, {_few(layer.kernel_size)}', *given])})"
        case nn.Linear():
            return f"nn.Linear({layer.in_features}, {layer.out_features}{'' if layer.bias is not None else ', bias=False'})"
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            momentum = "" if layer.momentum == 0.1 else f", momentum={layer.momentum!r}"
            affine = "" if layer.affine else ", affine=False"
            return f"nn.{type(layer).__name__}({layer.num_features}, eps={layer.eps!r}{momentum}{affine})"
        case nn.LayerNorm(normalized_shape=shape):
            return f"nn.LayerNorm({shape[0] if len(shape) == 1 else shape}, eps={layer.eps!r})"
    raise TypeError(layer)  # `modules_of` makes no others


def _few(value: Any) -> str:
    """A tuple as a single number if all its numbers are equal."""
    return str(value[0]) if isinstance(value, tuple) and len(set(value)) == 1 else str(value)


def _entries(tree: Mapping[str, Any], depth: int) -> list[str]:
    indent, lines = "    " * depth, []
    for key, value in tree.items():
        if isinstance(value, str):
            lines.append(f'{indent}"{key}": {value},')
        else:
            lines += [f'{indent}"{key}": Part({{', *_entries(value, depth + 1), f"{indent}}}),"]
    return lines


def _access(owner: str, path: Sequence[str]) -> str:
    return owner + "".join(f'["{key}"]' for key in path)


class _Writing:
    """Writes the function of one segment."""

    def __init__(self, segment: Segment, layers: Mapping[str, nn.Module]) -> None:
        self.segment = segment
        self.layers = layers
        paths = [self.path(weight) for op in segment.ops if isinstance(op, Call) for weight in op.tensors]
        above = zip(*(path[:-1] for path in paths), strict=False)
        self.prefix = [keys[0] for keys in takewhile(lambda keys: len(set(keys)) == 1, above)]
        self.owner = "part" if self.prefix else "network"
        self.variables: dict[str, str] = {}

    def path(self, weight: Weight) -> list[str]:
        """Path of the layer that a tensor belongs to, or of the tensor itself."""
        layer = weight.name.rpartition(".")[0]
        return (layer if layer in self.layers else weight.name).split(".")

    def body(self) -> str:
        """The function's signature and all its lines."""
        ops = self.segment.ops
        readers: dict[str, list[int]] = {}
        for i, op in enumerate(ops):
            for source in op.inputs:
                readers.setdefault(source, []).append(i)
        self.variables["in"] = "x" if set(readers.get("in", [0])) <= {0} else "inputs"
        first = self.variables["in"]
        found = [leaf for op in ops if isinstance(op, Call) for leaf in leaves((op.args, op.kwargs))]
        lines = [f"({self.owner}: nn.Module, {first}: Tensor):"]
        lines += [f"    n = {first}.shape[0]"] if any(isinstance(leaf, Batch) for leaf in found) else []
        lines += [f"    {word} = {first}.{word}" for word in ("device", "dtype") if f"<{word}>" in found]
        for i, op in enumerate(ops):
            assert isinstance(op, Call)
            text = self.call(op)
            if i == len(ops) - 1:
                return "\n".join([*lines, f"    return {text}"])
            own = re.sub(r"\W", "_", op.name)
            self.variables[op.name] = "x" if set(readers.get(op.name, [])) == {i + 1} else own
            lines.append(f"    {self.variables[op.name]} = {text}")
        return "\n".join([*lines, f"    return {first}"])

    def call(self, op: Call) -> str:
        """The expression for one operation."""
        for weight in op.tensors:
            if weight.name.rpartition(".")[0] in self.layers:
                return f"{self.own(weight)}({self.variables[op.inputs[0]]})"
        kind = op.target.partition(".")[0]
        args = [self.text(arg) for arg in op.args]
        named = [f"{name}={self.text(value)}" for name, value in op.kwargs]
        if kind == "output":
            return args[0]
        if kind == "getitem":
            return f"{args[0]}[{args[1]}]"
        if kind in SIGNS and len(args) == 2 and not named:
            return f"{args[0]} {SIGNS[kind]} {args[1]}"
        if kind in METHODS and isinstance(op.args[0], Input):
            return f"{args[0]}.{'reshape' if kind == 'view' else kind}({', '.join([*args[1:], *named])})"
        return f"{self.function(op.target)}({', '.join([*args, *named])})"

    def function(self, target: str) -> str:
        """The name of an operation's function in the source."""
        found = function_of(target)
        for place, names in (("F", vars(F)), ("torch", vars(torch)), ("torch.Tensor", vars(torch.Tensor))):
            for name, value in names.items():
                if value is found and not name.startswith("_"):
                    return f"{place}.{name}"
        kind, _, overload = target.partition(".")
        space, _, name = kind.rpartition("::")
        if space not in ("", "aten"):
            raise DeviceError(f"model.py cannot call {kind}, which is not part of torch: remove it from the model")
        return f"torch.ops.aten.{name}.{overload}"

    def own(self, weight: Weight) -> str:
        return _access(self.owner, self.path(weight)[len(self.prefix) :])

    def text(self, value: Any) -> str:
        """An argument as source."""
        match value:
            case Input(name):
                return self.variables[name]
            case Weight():
                return self.own(value)
            case Batch(times):
                return "n" if times == 1 else f"{times} * n"
            case "<training>":
                return f"{self.owner}.training"
            case "<device>" | "<dtype>":
                return str(value).strip("<>")
            case str() if value.startswith("dtype:"):
                return f"torch.{value.removeprefix('dtype:')}"
            case tuple() | list():
                return f"({', '.join(map(self.text, value))}{',' if len(value) == 1 else ''})"
            case Mapping():
                return f"{{{', '.join(f'{key!r}: {self.text(item)}' for key, item in value.items())}}}"
            case float() if value != value or value in (float("inf"), float("-inf")):
                return f'float("{value}")'
        return repr(value)
