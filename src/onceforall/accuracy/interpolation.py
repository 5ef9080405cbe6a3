"""Interpolate accuracy between two measured resolutions, linearly in MACs (Once-for-All paper, first version, section 3.4)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ..arch import Stage
from ..errors import SpaceError
from ..resolutions import Resolution
from ..space import Space
from .rows import AccuracyRow
from .sampling import Cost


def interpolate(space: Space, rows: Sequence[AccuracyRow], macs: Cost) -> list[AccuracyRow]:
    """Interpolate every network that was measured at two or more resolutions to the space's resolutions in between.

    Between adjacent measured resolutions l and h, top1 and loss at r are those at l plus their differences times
    (F(r) - F(l)) / (F(h) - F(l)), with F the MACs at a resolution. Measured resolutions are not interpolated. The rows are marked
    as interpolated.
    """
    measured: dict[tuple[Stage, ...], dict[Resolution, AccuracyRow]] = defaultdict(dict)
    for row in rows:
        if not row.interpolated:
            measured[row.arch.stages][row.arch.resolution] = row
    interpolated = []
    for known in measured.values():
        order = {resolution: place for place, resolution in enumerate(space.resolutions)}
        for low, high in pairwise(sorted(known, key=order.__getitem__)):
            between = space.resolutions[order[low] + 1 : order[high]]
            if not between:
                continue
            a, b = known[low], known[high]
            archs = [replace(a.arch, resolution=r) for r in between]
            first, last, *costs = macs.estimate(space.genes([a.arch, b.arch, *archs])).tolist()
            for arch, cost in zip(archs, costs, strict=True):
                t = (cost - first) / (last - first) if last != first else 0.5  # images of equal area but other shapes
                top1, loss = a.top1 + t * (b.top1 - a.top1), a.loss + t * (b.loss - a.loss)
                score = None if a.score is None or b.score is None else a.score + t * (b.score - a.score)
                images = min(a.images, b.images)
                interpolated.append(AccuracyRow(arch, top1, loss, images, 0.0, score=score, interpolated=True))
    return interpolated


def measured_resolutions(space: Space, every: int) -> tuple[Resolution, ...]:
    """The space's resolutions at steps of `every` pixels from the smallest, plus the largest.

    Raises:
        SpaceError: `every` skips no resolution, or the space has fewer than 3 resolutions, or some that are not square.
    """
    squares = [resolution for resolution in space.resolutions if isinstance(resolution, int)]
    if len(squares) < len(space.resolutions):
        raise SpaceError("steps in pixels need square resolutions, and this space has others: leave the option out to measure all")
    kept = tuple(r for r in squares if (r - squares[0]) % every == 0 or r == squares[-1]) if every > 0 else ()
    if not 2 <= len(kept) < len(space.resolutions):
        listed = ", ".join(map(str, space.resolutions))
        raise SpaceError(f"measuring every {every} pixels leaves no resolution out of {listed}: give a step that does")
    return kept
