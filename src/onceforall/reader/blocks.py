"""Find where a network can be cut, which parts of it can be skipped, and how they form stages.

A *cut* is a value after which no operation reads an earlier one. A cut that adds something to an earlier cut ends a block that can
be skipped: without the block, the network is still valid.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from ..graph import Own, Size, Value
from ..ops import leaves
from .trace import Step, Trace
from .units import Units

HEAVY = {"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul", "bmm", "mm", "baddbmm", "addmm", "einsum"}
VIEWS = {"view", "reshape", "flatten", "unflatten", "permute", "transpose", "unsqueeze", "squeeze"}
MOST_JOINED = 4  # more sums than this in one module are separate blocks


@dataclass
class Stretch:
    """A part of the network between two cuts.

    Args:
        source: the value that it reads.
        result: the value that it produces.
        steps: its steps that depend on the images, in order.
        skippable: whether it can be skipped, see above.
        groups: elastic groups that occur only in it.
        module: path in the model.
    """

    source: str
    result: str
    steps: list[str]
    skippable: bool = False
    groups: set[int] = field(default_factory=set)
    module: str = ""


class Chain:
    """The steps that depend on the images, in order, with their cuts."""

    def __init__(self, trace: Trace) -> None:
        self.steps: dict[str, Step] = {}
        self.free: dict[str, Step] = {}
        for step in trace.steps:
            depends = any(name == "x" or name in self.steps for name in step.reads)
            (self.steps if depends else self.free)[step.name] = step
        self.names = list(self.steps)
        self.position = {name: i for i, name in enumerate(self.names)} | {"x": -1}
        last = dict.fromkeys(self.position, -2)
        self.readers = Counter(read for step in trace.steps for read in step.reads)
        for i, name in enumerate(self.names):
            for read in self.steps[name].reads:
                if read in last:
                    last[read] = i
        last |= {leaf.name: len(self.names) for leaf in leaves(trace.output) if isinstance(leaf, Value)}
        self.cuts = [-1]
        reach = last["x"]
        for i, name in enumerate(self.names):
            step = self.steps[name]
            sizes = step.sizes[0] if step.sizes else ()
            batched = bool(sizes) and (sizes[0].batch or Size(((1, -1),), batch=True) in sizes)  # or the tokens come first
            if reach <= i and not step.several and batched and step.dtype.startswith(("float", "bfloat")):
                self.cuts.append(i)
            reach = max(reach, last[name])
        self.is_cut = set(self.cuts)

    def skippable(self) -> list[tuple[int, int]]:
        """Positions of the input and the final sum of each skippable block, in order."""
        blocks = []
        for i in self.cuts:
            step = self.steps.get(self.names[i]) if i >= 0 else None
            if step is None or step.kind != "add" or step.kwargs.get("alpha", 1) != 1 or len(step.args) < 2:
                continue
            operands = [arg for arg in step.args[:2] if isinstance(arg, Value) and arg.name in self.position and arg.name != "x"]
            if len(operands) < 2 or operands[0] == operands[1]:
                continue
            terms = self._terms(step)
            starts = [p for p in terms if p in self.is_cut and terms.count(p) == 1]
            starts = [p for p in starts if self.steps[self.names[p]].sizes == step.sizes]
            if starts:
                blocks.append((min(starts), i))
        return blocks

    def _terms(self, step: Step) -> list[int]:
        """Positions of a sum's operands, including those of inner sums that nothing else reads; -1 for any other operand."""
        found = []
        for arg in step.args[:2]:
            position = self.position.get(arg.name, -1) if isinstance(arg, Value) else -1
            inner = self.steps[self.names[position]] if position >= 0 and position not in self.is_cut else None
            plain = inner is not None and inner.kind == "add" and inner.kwargs.get("alpha", 1) == 1 and len(inner.args) > 1
            within = self._terms(inner) if inner is not None and plain and self.readers[inner.name] == 1 else [-1]
            found += within if min(within) >= 0 else [position]
        return found


def find_blocks(trace: Trace, units: Units) -> tuple[list[Stretch], Chain, dict[int, tuple[int, int]]]:
    """The parts of the network in order, its steps, and the first and last step of each group.

    Parts that are skippable or have groups are blocks.
    """
    chain = Chain(trace)
    parts = _parts(chain)
    spans = _spans(chain, units)
    stream: set[int] = set()
    for part in parts:
        if part.skippable:
            stream |= units.groups_of(part.source) | units.groups_of(part.result)
    elastic = set(spans) - stream - {units.classes}
    found: list[Stretch] = []
    for part in parts:
        first, last = chain.position[part.steps[0]], chain.position[part.steps[-1]]
        own = {g for g in elastic if first <= spans[g][0] and spans[g][1] <= last}
        if part.skippable:
            part.groups = own
            found.append(part)
        else:
            found += _pieces(chain, part, own, spans)
    return _joined(found), chain, spans


def stage_streams(
    found: list[Stretch],
    places: Sequence[tuple[int, int] | None],
    chain: Chain,
    spans: Mapping[int, tuple[int, int]],
    units: Units,
) -> list[set[int]]:
    """For each stage, the groups that occur only in its blocks, adjacent fixed parts and the next stage's first block.

    Their sizes depend only on the stage's width. Groups that reach further stay fixed.

    Args:
        found: the parts, in order.
        places: stage and index of each part, None if it is fixed.
        chain: the steps of the network.
        spans: positions of the first and last step of each group.
        units: their classifier outputs are not part of a stream.
    """
    ends = [chain.position[part.result] for part in found]
    streams: list[set[int]] = [set() for place in places if place is not None and place[1] == 0]
    inside = {group for part in found for group in part.groups} | {units.classes}
    for group, (first, last) in spans.items():
        touched = places[bisect_left(ends, first) : bisect_left(ends, last) + 1]
        blocks = [place for place in touched if place is not None]
        if group in inside or not blocks:
            continue
        stage = blocks[0][0]
        further = [place for place in blocks if place[0] != stage]
        if len(further) <= 1 and all(place == (stage + 1, 0) for place in further):
            streams[stage].add(group)
    return streams


def _parts(chain: Chain) -> list[Stretch]:
    """Skippable blocks and the parts between them."""
    end = len(chain.names) - 1
    parts: list[Stretch] = []
    at = -1
    for start, stop in [*chain.skippable(), (end, end)]:
        if start > at:
            between = Stretch(_name(chain, at), chain.names[start], chain.names[at + 1 : start + 1])
            kinds = {chain.steps[name].kind for name in between.steps}
            same = bool(parts) and chain.steps[parts[-1].result].sizes == chain.steps[between.result].sizes
            if parts and parts[-1].skippable and same and not kinds & HEAVY and start != end:
                parts[-1].steps += between.steps  # an activation or a norm after the sum belongs to the block
                parts[-1].result = between.result
            else:
                parts.append(between)
        if stop > start:
            steps = chain.names[start + 1 : stop + 1]
            parts.append(Stretch(chain.names[start], chain.names[stop], steps, True, module=chain.steps[chain.names[stop]].module))
        at = stop
    return _halves(parts, chain)


def _name(chain: Chain, position: int) -> str:
    return chain.names[position] if position >= 0 else "x"


def _halves(parts: list[Stretch], chain: Chain) -> list[Stretch]:
    """Join adjacent blocks that form one layer, such as the attention and the MLP of a transformer.

    Either the layers of the blocks belong to the same entry of a list of modules and differ in kind, or one module computes all
    sums.
    """

    def entry(run: list[Stretch], other: Stretch) -> str:
        if other.module != run[0].module or any(_kinds(part, chain) == _kinds(other, chain) for part in run):
            return ""
        shared = common_prefix([_layers(part, chain) for part in (*run, other)])
        made = other.module.split(".") if other.module else []
        same = len(run) == 1 or shared == common_prefix([_layers(part, chain) for part in run])
        return ".".join(shared) if same and len(shared) > len(made) and shared[-1].isdigit() else ""

    def module(run: list[Stretch], other: Stretch) -> str:
        return run[0].module if other.module == run[0].module else ""

    return _joined_runs(_joined_runs(parts, chain, entry), chain, module)


def _kinds(part: Stretch, chain: Chain) -> list[str]:
    return [chain.steps[name].op for name in part.steps]


def _layers(part: Stretch, chain: Chain) -> list[str]:
    """Path of the innermost module that contains all layers of a block."""
    modules = {chain.steps[name].module for name in part.steps} - {"", part.module}
    return common_prefix([module.split(".") for module in modules])


def common_prefix(paths: Sequence[Sequence[str]]) -> list[str]:
    """The longest sequence that all paths begin with."""
    return [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]


def _joined_runs(parts: list[Stretch], chain: Chain, common_module: Callable[[list[Stretch], Stretch], str]) -> list[Stretch]:
    """Join runs of adjacent blocks. The tensor may be reshaped between them if its shape is restored at the end.

    Args:
        parts: the parts, in order.
        chain: the steps of the network.
        common_module: returns the module of a run of blocks and the next block, "" if that block does not belong to the run.
    """

    def view(i: int) -> bool:
        return i < len(parts) and not parts[i].skippable and {chain.steps[name].kind for name in parts[i].steps} <= VIEWS

    def sizes(name: str) -> list[tuple[Size, ...]]:
        return chain.steps[name].sizes if name in chain.steps else []

    result: list[Stretch] = []
    i = 0
    while i < len(parts):
        first, end, module = parts[i], i + 1, ""
        blocks = [first]
        while first.skippable and end < len(parts):
            after = end + 1 if view(end) else end
            if after < len(parts) and parts[after].skippable and (shared := common_module(blocks, parts[after])):
                end, module = after + 1, shared
                blocks.append(parts[after])
            else:
                break
        if len(blocks) > 1 and sizes(parts[end - 1].result) != sizes(first.source) and view(end):
            end += 1
        run = parts[i:end]
        if 1 < len(blocks) <= MOST_JOINED and sizes(run[-1].result) == sizes(first.source):
            steps = [name for part in run for name in part.steps]
            result.append(Stretch(first.source, run[-1].result, steps, True, module=module))
        else:
            result += run
        i = end
    return result


def _spans(chain: Chain, units: Units) -> dict[int, tuple[int, int]]:
    """For each group, the positions of the first and last step that reads or produces any of it."""
    spans: dict[int, tuple[int, int]] = {}
    of_free: dict[str, set[int]] = {}

    def groups_read(step: Step) -> set[int]:
        found = set(units.groups_of(step.name))
        for leaf in leaves((step.args, step.kwargs)):
            if isinstance(leaf, Value):
                found |= of_free.get(leaf.name, set()) | units.groups_of(leaf.name)
            elif isinstance(leaf, Own):
                found |= units.groups_of_weight(leaf.name)
        return found

    for name, step in chain.free.items():
        of_free[name] = groups_read(step)
    for i, name in enumerate(chain.names):
        for group in groups_read(chain.steps[name]):
            first, _ = spans.get(group, (i, i))
            spans[group] = (first, i)
    return spans


def _pieces(chain: Chain, part: Stretch, groups: set[int], spans: dict[int, tuple[int, int]]) -> list[Stretch]:
    """Split a part that cannot be skipped, at cuts that no elastic group spans."""
    first, last = chain.position[part.steps[0]], chain.position[part.steps[-1]]
    if not groups:
        return [part]
    crossed = [any(spans[g][0] <= i < spans[g][1] for g in groups) for i in range(first, last + 1)]
    edges = [i for i in range(first, last) if i in chain.is_cut and not crossed[i - first]] + [last]
    pieces: list[Stretch] = []
    start = first
    for edge in edges:
        own = {g for g in groups if start <= spans[g][0] and spans[g][1] <= edge}
        steps = chain.names[start : edge + 1]
        if pieces and not own and not pieces[-1].groups:
            pieces[-1].steps += steps
            pieces[-1].result = steps[-1]
        else:
            pieces.append(Stretch(_name(chain, start - 1), steps[-1], steps, groups=own, module=chain.steps[steps[-1]].module))
        start = edge + 1
    return pieces


def _joined(found: list[Stretch]) -> list[Stretch]:
    """Append a fixed part between a block that changes the shape and the next skippable block to the former."""
    result: list[Stretch] = []
    for i, part in enumerate(found):
        plain = not part.skippable and not part.groups
        before = result[-1] if result else None
        after = found[i + 1] if i + 1 < len(found) else None
        if plain and before and before.groups and not before.skippable and after and after.skippable:
            before.steps += part.steps
            before.result = part.result
        else:
            result.append(part)
    return result
