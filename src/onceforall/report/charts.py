"""Charts as inline SVG: lines, predicted against measured, Pareto front. No script; tooltips are <title> elements.

Put `STYLE` once into the page; it reads the CSS variables --ink, --paper and --c0 … --c6 that the page sets. Series differ in
colour (Okabe-Ito), dash and marker. Points that are not finite are left out and break a line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import isfinite

from .drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    STYLE,
    TOP,
    Axis,
    Frame,
    Point,
    Series,
    axes,
    dot,
    finite,
    frame_of,
    key_line,
    key_marker,
    line,
    nothing,
    shorten,
    svg,
)

__all__ = ["STYLE", "Axis", "Mark", "Point", "Series", "front_chart", "line_chart", "scatter_chart"]

MOST_POINTS = 300  # of a line; more are averaged in runs of equal length


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line."""

    name: str
    x: float


def line_chart(series: Sequence[Series], x: Axis, y: Axis, *, name: str, marks: Sequence[Mark] = ()) -> str:
    """Lines over a common axis, e.g. curves of training; `marks` are where phases begin."""
    lines = [_thin(one) for one in series]
    points = [(a, b) for one in lines for a, b in zip(one.xs, one.ys, strict=True) if isfinite(a) and isfinite(b)]
    if not points:
        return nothing(name)
    frame = frame_of([p[0] for p in points] + [m.x for m in marks], [p[1] for p in points], tight_x=True)
    parts = axes(frame, x, y)
    for index, mark in enumerate(marks):
        at = frame.x(mark.x)
        parts.append(f'<path class="dash" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(mark.name)}</title></path>')
        parts.append(
            f'<text class="soft" x="{at + 4:.1f}" y="{TOP - 8 + 12 * (index % 2):.1f}">{escape(shorten(mark.name, 18))}</text>'
        )
    for index, one in enumerate(lines):
        parts += line(frame, one, index, x, y)
    return svg(parts, name, [(one.name, key_line(i)) for i, one in enumerate(lines)])


def scatter_chart(points: Sequence[Point], x: Axis, y: Axis, *, name: str) -> str:
    """Predicted (x) against measured (y) with the diagonal of equality; both axes have one scale."""
    shown = [point for point in points if point.finite]
    if not shown:
        return nothing(name)
    both = [v for p in shown for v in (p.x, p.y, *finite(p.y_interval), *finite(p.x_interval))]
    frame = frame_of(both, both)
    low, high = frame.x_ticks[0], frame.x_ticks[-1]
    parts = axes(frame, x, y)
    parts.append(f'<path class="dash" d="M{frame.x(low):.1f} {frame.y(low):.1f}L{frame.x(high):.1f} {frame.y(high):.1f}"/>')
    for point in shown:
        parts.append(dot(frame, point, 0, x, y))
    legend = [("network not used for fitting", key_marker(0)), ("predicted = measured", '<path class="dash" d="M0 -4H20"/>')]
    if any(point.y_interval for point in shown):
        legend.append(("95 % interval", '<path class="line s0" style="stroke-width:1.4" d="M10 -10V2M7 -10h6M7 2h6"/>'))
    return svg(parts, name, legend)


def front_chart(
    random: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
    chosen: Sequence[Point],
    x: Axis,
    y: Axis,
    *,
    name: str,
    marks: Sequence[Mark] = (),
) -> str:
    """Random networks as a cloud, the Pareto front as a line of points, chosen networks as labelled diamonds."""
    cloud = [pair for pair in random if all(map(isfinite, pair))]
    edge = sorted(pair for pair in front if all(map(isfinite, pair)))
    picked = [point for point in chosen if point.finite]
    spots = cloud + edge + [(p.x, p.y) for p in picked]
    if not spots:
        return nothing(name)
    frame = frame_of(
        [s[0] for s in spots] + [v for p in picked for v in finite(p.x_interval)] + [m.x for m in marks],
        [s[1] for s in spots] + [v for p in picked for v in finite(p.y_interval)],
    )
    parts, legend = axes(frame, x, y), []
    for mark in marks:
        at = frame.x(mark.x)
        parts.append(f'<path class="dash" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(mark.name)}</title></path>')
        parts.append(f'<text class="soft m" x="{at:.1f}" y="{TOP - 8}">{escape(shorten(mark.name, 14))}</text>')
    if cloud:
        dots = "".join(f"M{frame.x(a):.1f} {frame.y(b):.1f}h0" for a, b in cloud)
        parts.append(f'<path class="dots" d="{dots}"/>')
        legend.append((f"random networks, predicted, n = {len(cloud):,}", '<path class="dots" d="M6 -4h0M11 -7h0M15 -2h0"/>'))
    if edge:
        parts += line(frame, Series("Pareto front", [e[0] for e in edge], [e[1] for e in edge]), 0, x, y)
        legend.append(("Pareto front, predicted", key_line(0)))
    if picked:
        parts += [dot(frame, point, 1, x, y, size=6.5) for point in picked]
        parts += _labels(frame, picked)
        legend.append(("chosen, measured, 95 % interval", key_marker(1)))
    return svg(parts, name, legend)


def _labels(frame: Frame, points: Sequence[Point]) -> list[str]:
    """Names of the chosen networks, above and left of them where the front leaves room, clear of each other."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: -p.y):
        at, up = frame.x(point.x), frame.y(point.y)
        left = at - LEFT > 7 * len(point.name) + 16
        x, y = (at - 11 if left else at + 11), max(TOP + 12, up - 9)
        while any(abs(x - a) < 90 and abs(y - b) < 14 for a, b in taken):
            y += 15
        taken.append((x, y))
        parts.append(f'<text class="halo{" e" if left else ""}" x="{x:.1f}" y="{y:.1f}">{escape(shorten(point.name, 28))}</text>')
    return parts


def _thin(series: Series) -> Series:
    n = len(series.xs)
    if n <= MOST_POINTS:
        return series
    cuts = [round(i * n / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    pairs = [(series.xs[a:b], [v for v in series.ys[a:b] if isfinite(v)]) for a, b in pairwise(cuts)]
    return Series(
        series.name, [sum(xs) / len(xs) for xs, _ in pairs], [sum(ys) / len(ys) if ys else float("nan") for _, ys in pairs]
    )
