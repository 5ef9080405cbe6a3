"""Write a plan as a Python file that only needs torch: one class per kind of block, and one for the network.

Boards have old software, so the file supports Python 3.8 and torch 1.10, the oldest versions that it was tested with.

Segments with the same structure share a class; numbers that differ between them are its arguments. Layers have the same names as in
`nn.static.build`, so both load the same state dict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..ops import Call, Op
from ..plan import Plan, Segment
from .call_source import NEEDS as NEEDS_OF_CALLS
from .call_source import PART, Tree, functions_of, network_of_calls, tree_of
from .operations import OPERATIONS

NEEDS = "Python 3.8 or later with torch 1.10 or later"
Number = tuple[str, str]  # name of an operation, and of a field

IMPORTS = """from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
"""

READ = '''def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    state = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = {
                "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool,
                "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
            }[entry["dtype"]]
            state[name] = torch.frombuffer(bytearray(data[start + begin : start + end]), dtype=dtype).reshape(entry["shape"])
    return state
'''

LOAD = '''def load(path: str | Path) -> Network:
    """The network with the weights of a safetensors file, in eval mode."""
    network = Network()
    network.load_state_dict(read(path))
    return network.eval()
'''


def to_source(plan: Plan, *, about: str) -> str:
    """Source of a file with `Network`, a torch module with newly initialized weights, and `load(path)`, which reads safetensors.

    Raises:
        DeviceError: an operation of the network cannot be written as Python.
    """
    if of_calls(plan):
        functions, lines = functions_of([plan])
        return "\n\n".join([opening(about), PART, *functions, network_of_calls("Network", plan, lines[0]), READ, LOAD])
    classes, calls = classes_of([plan])
    return "\n\n".join([opening(about), *classes, network_class("Network", plan, calls), READ, LOAD])


def of_calls(plan: Plan) -> bool:
    """Whether the network was read from a model."""
    return any(isinstance(op, Call) for op in plan.ops)


def needs_of(plan: Plan) -> str:
    """Requirements of the file, as text."""
    return NEEDS_OF_CALLS if of_calls(plan) else NEEDS


def opening(about: str) -> str:
    """The file's docstring and imports."""
    about = about.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{about}"""\n\n{IMPORTS}'


def classes_of(plans: Sequence[Plan]) -> tuple[list[str], dict[Segment, str]]:
    """Sources of the classes for the plans' segments, and for each segment the call that creates it."""
    alike: dict[tuple[Any, ...], list[Segment]] = {}
    for segment in dict.fromkeys(segment for plan in plans for segment in plan.segments):
        # segments that differ only in numbers have the same key
        key = tuple((type(op), op.name, op.inputs, _text(op, {number: number for number in _numbers(op)})) for op in segment.ops)
        alike.setdefault(key, []).append(segment)
    classes, calls, taken = [], dict[Segment, str](), {"Bundle", "Network"}
    for segments in alike.values():
        name = _class_name(segments, taken)
        taken.add(name)
        text, made = _class(name, segments)
        classes.append(text)
        calls |= made
    return classes, calls


def _numbers(op: Op) -> dict[str, int]:
    """The numbers that may differ between segments of a class."""
    return OPERATIONS[type(op)].numbers(op)


def _text(op: Op, n: Mapping[str, str]) -> str:
    """The expression that creates a layer or, with {0} for the first input, computes the operation."""
    return OPERATIONS[type(op)].text(op, n)


def _class_name(segments: Sequence[Segment], taken: set[str]) -> str:
    """The segment's name if it is the only one, else a name from its operations."""
    first = segments[0]
    words = first.name.split(".")
    if len({segment.name for segment in segments}) > 1 or any(word.isdecimal() for word in words):
        words = list(dict.fromkeys(op.name.split(".")[0] for op in first.ops)) or ["identity"]
    stem = "".join(part.capitalize() for word in words for part in word.split("_"))
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}{count}"
    return name


def _class(name: str, segments: Sequence[Segment]) -> tuple[str, dict[Segment, str]]:
    """Source of a structure's class, and for each segment the call that creates it."""
    ops = segments[0].ops
    columns: dict[Number, list[int]] = {
        (op.name, field): [_numbers(segment.ops[i])[field] for segment in segments]
        for i, op in enumerate(ops)
        for field in _numbers(op)
    }
    arguments = dict[str, list[int]]()
    texts = dict[Number, str]()
    for (op_name, field), values in columns.items():
        end = (field,) if field in ("kernel", "stride") else ("channels", "features")  # merge only numbers with the same meaning
        same = [other for other, known in arguments.items() if known == values and other.endswith(end)]
        if len(set(values)) == 1:
            texts[op_name, field] = str(values[0])
        elif same:
            texts[op_name, field] = same[0]
        else:
            word = op_name.removesuffix(".conv").removesuffix(".norm").replace(".", "_")
            argument = field if field not in arguments and field != "channels" else f"{word}_{field}"
            arguments[argument] = values
            texts[op_name, field] = argument
    layers = {op.name: _text(op, {field: texts[op.name, field] for field in _numbers(op)}) for op in ops}
    tree = tree_of({name: layer for name, layer in layers.items() if "{0}" not in layer})
    signature = f"self, *, {', '.join(f'{argument}: int' for argument in arguments)}" if arguments else "self"
    lines = [f"class {name}(nn.Module):", f'    """{_about(segments)}."""', ""]
    lines += [f"    def __init__({signature}) -> None:", "        super().__init__()"]
    for key, value in tree.items():
        lines += _assigned(f"        self.{key} = ", value)
    lines += ["", *_forward(ops)]
    calls = {
        segment: f"{name}({', '.join(f'{argument}={values[i]}' for argument, values in arguments.items())})"
        for i, segment in enumerate(segments)
    }
    return "\n".join(lines) + "\n", calls


def _about(segments: Sequence[Segment]) -> str:
    """The name and shapes of one segment, or the names of several, for a docstring."""
    first = segments[0]
    if len(segments) > 1:
        return ", ".join(dict.fromkeys(segment.name for segment in segments))
    return f"{first.name}: {' → '.join('×'.join(map(str, shape)) for shape in (first.in_shape, first.out_shape))}"


def _forward(ops: Sequence[Op]) -> list[str]:
    """The lines of `forward`. A value that only the next operation reads is named x, any other after its operation."""
    readers: dict[str, list[int]] = {}
    for i, op in enumerate(ops):
        for source in op.inputs:
            readers.setdefault(source, []).append(i)
    names = {"in": "x" if readers.get("in", [0]) == [0] else "inputs"}
    lines = [f"    def forward(self, {names['in']}: Tensor) -> Tensor:"]
    for i, op in enumerate(ops):
        last = i == len(ops) - 1
        names[op.name] = "x" if last or readers.get(op.name) == [i + 1] else op.name.replace(".", "_")
        lines.append(f"        {names[op.name]} = {_call(op, [names[source] for source in op.inputs])}")
    return [*lines, "        return x"]


def _call(op: Op, inputs: Sequence[str]) -> str:
    text = _text(op, {number: number for number in _numbers(op)})
    return text.format(*inputs) if "{0}" in text else f"self.{_access(op.name)}({', '.join(inputs)})"


def network_class(name: str, plan: Plan, calls: Mapping[Segment, str]) -> str:
    """Source of the class of a whole network."""
    tree = tree_of({segment.name: calls[segment] for segment in plan.segments})
    shape = ", ".join(map(str, plan.input_shape))
    lines = [f"class {name}(nn.Module):", f'    """Images (n, {shape}) → logits (n, {plan.output_shape[0]})."""']
    lines += ["", "    def __init__(self) -> None:", "        super().__init__()"]
    for key, value in tree.items():
        lines += _assigned(f"        self.{key} = ", value)
    lines += ["", "    def forward(self, x: Tensor) -> Tensor:"]
    for segment in plan.segments:
        lines.append(f"        x = self.{_access(segment.name)}(x)")
    return "\n".join([*lines, "        return x"]) + "\n"


def _access(name: str) -> str:
    """A dotted name as an attribute followed by dictionary keys."""
    first, *path = name.split(".")
    return first + "".join(f'["{key}"]' for key in path)


def _assigned(start: str, value: str | Tree) -> list[str]:
    """Lines of an assignment or a dictionary entry, with nested trees as `nn.ModuleDict`."""
    indent = " " * (len(start) - len(start.lstrip()))
    end = "" if start.endswith("= ") else ","
    if isinstance(value, str):
        return [f"{start}{value}{end}"]
    lines = [f"{start}nn.ModuleDict({{"]
    for key, inner in value.items():
        lines += _assigned(f'{indent}    "{key}": ', inner)
    return [*lines, f"{indent}}}){end}"]
