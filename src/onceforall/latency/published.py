"""The original project's published latency tables, as costs of the segments of a space.

Each file is for one resolution. Its keys name a layer or block with its shapes (height × width × channels):

    Conv-input:224x224x3-output:112x112x24
    expanded_conv-input:56x56x32-output:28x28x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0

`expand` is the number of middle channels, `hs` means h-swish. Older tables have no `se` and `hs`; in these, `expand` is the ratio,
and the average pool is part of the classifier (`Logits`). Source: mit-han-lab/once-for-all, ofa/tutorial/latency_table.py.
"""

from collections.abc import Mapping, Sequence, Set
from math import prod

import numpy as np

from ..costs import CostTable, SegmentTable
from ..errors import DeviceError
from ..genes import Genes
from ..ops import Activation, Add, Conv, Dropout, Flatten, GlobalPool, Linear, Norm, Scale, Shape
from ..plan import Segment
from ..resolutions import Resolution
from .lookup_file import LookupFile

Place = tuple[int, int]  # index of a slot, and code within it


def segment_keys(segment: Segment, *, older: bool) -> list[str]:
    """Keys of the entries that sum to the segment's time.

    Raises:
        DeviceError: the tables have no entries for this kind of segment.
    """
    depthwise = [op for op in segment.ops if isinstance(op, Conv) and op.groups == op.in_channels > 1]
    if len(depthwise) == 1:
        return [_block_key(segment, depthwise[0], older)]
    head = any(isinstance(op, Linear) for op in segment.ops)
    shape, convs, keys = segment.in_shape, int(head), []
    known = head or sum(isinstance(op, Conv) for op in segment.ops) == 1
    for op in segment.ops:
        match op:
            case Conv():
                keys.append(_key(f"Conv_{convs}" if convs else "Conv", shape, op.shape))
                shape, convs = op.shape, convs + 1
            case GlobalPool() if not older:
                keys.append(_key("AvgPool2D", shape, op.shape))
                shape = op.shape
            case Linear():
                keys.append(_key("Logits", shape, op.shape))
            case Norm() | Activation() | GlobalPool() | Flatten() | Dropout():
                pass
            case _:
                known = False
    if not known:
        raise DeviceError(
            f"segment {segment.name!r} is not in the published tables, which only have first convolutions, inverted residual "
            "blocks and classifiers: measure this space with ofa profile"
        )
    return keys


def published_costs(files: Sequence[LookupFile], segments: SegmentTable) -> tuple[CostTable, dict[Place, str]]:
    """Milliseconds of every segment, NaN where an entry is missing, and the first missing key of each such segment.

    Raises:
        DeviceError: no network of the space can be estimated.
    """
    by_resolution: dict[Resolution, LookupFile] = {file.resolution: file for file in files}
    older = not any("-se:" in key for file in files for key in file.ms)
    values = tuple(np.zeros(len(slot.segments)) for slot in segments.slots)
    missing: dict[Place, str] = {}
    for s, slot in enumerate(segments.slots):
        for code, segment in enumerate(slot.segments):
            if segment is None:
                continue
            file = by_resolution.get(segments.space.resolutions[code // prod(slot.sizes[1:]) - 1])
            for key in segment_keys(segment, older=older):
                ms = file.ms.get(key) if file else None
                if ms is None:
                    missing.setdefault((s, code), key)
                values[s][code] += np.nan if ms is None else ms
    if place := _lacking(segments, missing, set(by_resolution)):
        measured = ", ".join(str(file.resolution) for file in files)
        source = files[0].path if len(files) == 1 else files[0].path.parent
        raise DeviceError(
            f"{source}: no entry {missing[place]!r}, so no network of this space can be estimated: choose the family, width and "
            f"number of classes that were measured (at {measured} pixels)"
        )
    return CostTable(segments, values), missing


def missing_entry(segments: SegmentTable, missing: Mapping[Place, str], genes: Genes) -> str:
    """Error message with the first missing key that a row needs, and what to do."""
    codes = [slot.codes(genes).tolist() for slot in segments.slots]
    needed = ((s, codes[s][row]) for row in range(len(genes)) for s in range(len(codes)))
    key = next(missing[place] for place in needed if place in missing)
    kept = ", ".join(f"{name}=[{', '.join(f'{v:g}' for v in values)}]" for name, values in _measured(segments, missing).items())
    advice = f"space.restrict({kept}) keeps what was measured" if kept else "leave out networks with this block"
    return f"no entry {key!r}, and a latency is never guessed: {advice}"


def _measured(segments: SegmentTable, missing: Mapping[Place, str]) -> dict[str, list[float]]:
    """For kinds of choices where some values have no entries: the values that have them, by their names in `Space.restrict`."""
    offered: dict[str, set[float]] = {}
    measured: dict[str, set[float]] = {}
    for s, slot in enumerate(segments.slots):
        for code, segment in enumerate(slot.segments):
            if segment is not None and slot.name.startswith("stages."):
                for c, digit in zip(slot.columns, np.unravel_index(code, slot.sizes), strict=True):
                    column = segments.space.columns[c]
                    name, value = f"{column.kind}s", column.choices[int(digit) - 1]
                    offered.setdefault(name, set()).add(value)
                    if (s, code) not in missing:
                        measured.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in measured.items() if values < offered[name]}


def _lacking(segments: SegmentTable, missing: Mapping[Place, str], measured: Set[Resolution]) -> Place | None:
    """None if some network has all its entries; else the most informative place without one: at a measured resolution, late in
    the network. Widths are checked one by one, not in combination.
    """
    space = segments.space
    lacking: list[tuple[bool, Place]] = []
    for r in range(len(space.resolutions)):
        for s, slot in enumerate(segments.slots):
            if slot.name.startswith("stages."):
                stage, block = map(int, slot.name.split(".")[1:])
                if block >= space.stages[stage].depths[0]:
                    continue
            size = prod(slot.sizes[1:])
            places = [(s, code) for code in range((r + 1) * size, (r + 2) * size) if slot.segments[code] is not None]
            if all(place in missing for place in places):
                lacking.append((space.resolutions[r] in measured, places[0]))
                break
        else:
            return None
    return max(lacking)[1]


def _block_key(segment: Segment, depthwise: Conv, older: bool) -> str:
    kinds = {type(op) for op in segment.ops}
    middle = depthwise.in_channels
    facts = {
        "expand": middle / segment.in_shape[0] if older else middle,
        "kernel": depthwise.kernel,
        "stride": depthwise.stride,
        "idskip": int(Add in kinds),
    }
    se, hs = Scale in kinds, any(isinstance(op, Activation) and op.function == "h_swish" for op in segment.ops)
    if not older:
        facts |= {"se": int(se), "hs": int(hs)}
    elif se or hs:
        raise DeviceError(
            f"segment {segment.name!r} has {'squeeze-excite' if se else 'h-swish'}, which keys of this older table do not show: "
            "choose the family that was measured, or measure this space with ofa profile"
        )
    return "-".join(
        [_key("expanded_conv", segment.in_shape, segment.out_shape), *(f"{name}:{fact:.9g}" for name, fact in facts.items())]
    )


def _key(kind: str, in_shape: Shape, out_shape: Shape) -> str:
    read, written = ("x".join(map(str, (*shape[1:], shape[0]))) for shape in (in_shape, out_shape))
    return f"{kind}-input:{read}-output:{written}"
