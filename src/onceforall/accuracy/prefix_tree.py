"""Sub-networks as a prefix tree of their segments: a shared prefix is one path, which is computed only once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ..arch import Arch
from ..plan import Plan, Segment

TRAFFIC = 60  # MACs in the time of writing one number: 10 to 190, depending on the space (benchmarks/accuracy_data.py)


@dataclass(eq=False)
class PrefixNode:
    """A node of the tree: one segment after a given prefix.

    Args:
        children: segments that read its output.
        archs: networks that end here, several if they compute the same thing.
    """

    segment: Segment
    children: list["PrefixNode"] = field(default_factory=list)
    archs: list[Arch] = field(default_factory=list)

    @property
    def work(self) -> float:
        """The work of this segment and all its descendants."""
        return work(self.segment) + sum(child.work for child in self.children)


def grow(plans: Mapping[Arch, Plan]) -> list[PrefixNode]:
    """Build the tree of these networks; returns its roots."""
    roots: list[PrefixNode] = []
    known: dict[tuple[int, Segment], PrefixNode] = {}  # by parent node and segment
    for arch, plan in plans.items():
        level, before, end = roots, 0, list[Arch]()
        for segment in plan.segments:
            if (before, segment) not in known:
                known[before, segment] = PrefixNode(segment)
                level.append(known[before, segment])
            node = known[before, segment]
            level, before, end = node.children, id(node), node.archs
        end.append(arch)
    return roots


def networks_below(nodes: Sequence[PrefixNode]) -> list[Arch]:
    """The networks in tree order, so that networks with long shared prefixes are adjacent."""
    return [arch for node in nodes for arch in (*node.archs, *networks_below(node.children))]


def units(nodes: Sequence[PrefixNode], most: int) -> list[list[Arch]]:
    """Split the networks into groups of at most `most`, where little is shared."""
    groups: list[list[Arch]] = []
    for node in nodes:
        below = networks_below([node])
        parts = [below] if len(below) <= most else [*([node.archs] if node.archs else []), *units(node.children, most)]
        for part in parts:
            if groups and len(groups[-1]) + len(part) <= most:
                groups[-1] = groups[-1] + part
            else:
                groups.append(part)
    return groups


def share_out(works: Sequence[float], workers: int) -> list[list[int]]:
    """Assign units to workers with balanced load: the largest first, each to the worker with the least work."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [0.0] * workers
    for unit in sorted(range(len(works)), key=lambda i: -works[i]):
        least = load.index(min(load))
        shares[least].append(unit)
        load[least] += works[unit]
    return [sorted(share) for share in shares]


def work(segment: Segment) -> float:
    """Cost of computing a segment in multiply-accumulates, including its memory writes."""
    return segment.macs + TRAFFIC * sum(prod(op.shape) for op in segment.ops)
