"""Sub-networks as a tree of their segments: what they begin with alike is one path, which has to be computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ..arch import Arch
from ..plan import Plan, Segment

TRAFFIC = 60  # multiply-accumulates in the time that writing a number takes: 10 to 190, by space (benchmarks/accuracy_data.py)


@dataclass(eq=False)
class PrefixNode:
    """A segment after one that others may follow as well.

    Args:
        children: what is computed on its output.
        archs: the networks that end here; several that compute the same thing have one end.
    """

    segment: Segment
    children: list["PrefixNode"] = field(default_factory=list)
    archs: list[Arch] = field(default_factory=list)

    @property
    def work(self) -> float:
        """The work of this segment and all that follow."""
        return work(self.segment) + sum(child.work for child in self.children)


def grow(plans: Mapping[Arch, Plan]) -> list[PrefixNode]:
    """The first segments of these networks, each with all that follows it."""
    roots: list[PrefixNode] = []
    known: dict[tuple[int, Segment], PrefixNode] = {}  # by the node before and the segment
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
    """The networks in the order of the tree, so that those that share much are neighbours."""
    return [arch for node in nodes for arch in (*node.archs, *networks_below(node.children))]


def units(nodes: Sequence[PrefixNode], most: int) -> list[list[Arch]]:
    """The networks in groups of at most `most`, cut where little is shared."""
    groups: list[list[Arch]] = []
    for node in nodes:
        own = networks_below([node])
        parts = [own] if len(own) <= most else [*([node.archs] if node.archs else []), *units(node.children, most)]
        for part in parts:
            if groups and len(groups[-1]) + len(part) <= most:
                groups[-1] = groups[-1] + part
            else:
                groups.append(part)
    return groups


def share_out(works: Sequence[float], workers: int) -> list[list[int]]:
    """Which units each worker does, so that all are done at about the same time: the largest first, each to who has least."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [0.0] * workers
    for unit in sorted(range(len(works)), key=lambda i: -works[i]):
        least = load.index(min(load))
        shares[least].append(unit)
        load[least] += works[unit]
    return [sorted(share) for share in shares]


def work(segment: Segment) -> float:
    """What a segment costs to compute, in multiply-accumulates, counting what it writes to memory as well."""
    return segment.macs + TRAFFIC * sum(prod(op.shape) for op in segment.ops)
