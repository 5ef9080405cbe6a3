"""Charts as inline SVG: lines, points, predicted against measured, Pareto fronts. No scripts; tooltips are <title> elements.

Their style is templates/charts.css, which uses the page's CSS variables --ink, --paper, --soft and --c0 … --c6. Series differ in
color (Okabe-Ito), dash and marker. Points that are not finite are left out; a line breaks there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from math import copysign, isfinite

from markupsafe import Markup, escape

from .drawing import (
    BOTTOM,
    GRAY,
    HEIGHT,
    LEFT,
    TOP,
    WIDTH,
    Axis,
    Frame,
    Point,
    Series,
    dot,
    finite,
    frame_of,
    key_line,
    key_marker,
    line,
    marker,
    nothing,
    shorten,
    svg,
)

MOST_POINTS = 300  # with more, a line's points are averaged in runs of equal length
ROOM_OF_PHASE, ROOM_OF_BUDGET = 40.0, 50.0  # minimum distance between the names of two marks
WIDER = 1.25  # budgets beyond this multiple of the largest cost are not shown
# Places of a name beside its marker: left or right of it, and shifted up or down; from the far ones a line leads to the marker.
NEAR = tuple((side * 11.0, shift) for shift in (-9.0, 4.0, 18.0) for side in (-1, 1))
FAR = tuple((side * 24.0, shift) for shift in (-26.0, 34.0, -44.0, 52.0, -62.0, 70.0, -80.0, 88.0) for side in (-1, 1))
SHAPES = {  # marker, color with one run, and what it is
    "published": (2, 3, "other networks, as published"),
    "elsewhere": (3, 4, "architectures published for other devices, predicted"),
    "measured": (0, 2, "found and measured, held-out images"),
    "chosen": (1, 1, "chosen, measured, test images, 95 % intervals"),
    "fixed": (4, 5, "fixed, each fine-tuned alone, test images, 95 % intervals"),
}
FILLED = ("chosen", "fixed")

Groups = Sequence[tuple[str, Sequence[Point]]]


@dataclass(frozen=True)
class Mark:
    """A labeled vertical line. If it has the color of a series, its name is only a tooltip."""

    name: str
    x: float
    color: int | None = None


@dataclass(frozen=True)
class FrontSeries:
    """One run's data in a chart of fronts. `name` is "" if there is only one run."""

    name: str
    random: Sequence[tuple[float, float]] = ()
    front: Sequence[tuple[float, float]] = ()
    measured: Sequence[Point] = ()
    elsewhere: Sequence[Point] = ()
    published: Sequence[Point] = ()
    chosen: Sequence[Point] = ()
    fixed: Sequence[Point] = ()


def line_chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    name: str,
    marks: Sequence[Mark] = (),
    legend: Sequence[tuple[str, str]] | None = None,
    description: str = "",
) -> Markup:
    """Lines over a common axis, e.g. training curves.

    Args:
        marks: vertical lines, such as the beginnings of phases.
        legend: texts and signs; None for one per line.
    """
    lines = [
        replace(_thin(one), color=index if one.color is None else one.color, dash=index if one.dash is None else one.dash)
        for index, one in enumerate(series)
    ]
    points = [(a, b) for one in lines for a, b in zip(one.xs, one.ys, strict=True) if isfinite(a) and isfinite(b)]
    if not points:
        return nothing(name)
    frame = frame_of([p[0] for p in points] + [m.x for m in marks], [p[1] for p in points], x, y, tight_x=True)
    parts = frame.axes() + _marks(frame, marks, ROOM_OF_PHASE, centered=False)
    parts += [part for one in lines for part in line(frame, one)]
    if legend is None:
        legend = [(one.name, key_line(one.dash or 0, color=one.color)) for one in lines]
    return svg(parts, name, legend, description=description)


def scatter_chart(
    groups: Groups, x: Axis, y: Axis, *, name: str, equal: str = "", band: float | None = None, description: str = ""
) -> Markup:
    """Points of several groups.

    Args:
        groups: names and points, in the order of their colors and markers.
        equal: name of the diagonal y = x; if given, it is drawn and both axes have the same scale.
        band: also draw the lines where x differs from y by this fraction of y.
    """
    shown = [(kind, [point for point in some if point.finite]) for kind, some in groups]
    points = [point for _, some in shown for point in some]
    if not points:
        return nothing(name)
    xs = [v for p in points for v in (p.x, *finite(p.x_interval))]
    ys = [v for p in points for v in (p.y, *finite(p.y_interval))]
    frame = frame_of(xs + ys, xs + ys, x, y) if equal else frame_of(xs, ys, x, y)
    legend = [(kind, key_marker(index)) for index, (kind, some) in enumerate(shown) if kind and some]
    parts = frame.axes()
    if equal:
        low, high = (tick / x.scale for tick in (frame.x_ticks[0], frame.x_ticks[-1]))
        parts.append(f'<path class="dash" d="{_segment(frame, low, high, 1.0)}"/>')
        legend.append((equal, '<path class="dash" d="M0 -4H20"/>'))
        if band is not None and isfinite(band) and low >= 0:
            slopes = [1 / (1 + band), *([1 / (1 - band)] if band < 1 else [])]
            parts += [f'<path class="grid" d="{_segment(frame, low, high, slope)}"/>' for slope in slopes]
            legend.append((f"± {100 * band:.2g} %", '<path class="grid" d="M0 -6H20M0 -2H20"/>'))
    parts += [dot(frame, point, index) for index, (_, some) in enumerate(shown) for point in some]
    return svg(parts, name, legend, description=description)


def front_chart(
    series: Sequence[FrontSeries], x: Axis, y: Axis, *, name: str, marks: Sequence[Mark] = (), description: str = ""
) -> Markup:
    """Random networks as a cloud, the Pareto front as a line, other networks as markers; chosen and fixed ones have labels."""
    shown = [_finite(one) for one in series]
    pairs = [pair for one in shown for pair in (*one.random, *one.front)]
    named = [point for one in shown for kind in SHAPES for point in _points(one, kind)]
    picked = [point for one in shown for point in (*one.chosen, *one.fixed)]
    if not pairs and not named:
        return nothing(name)
    across = [a for a, _ in pairs] + [p.x for p in named]
    marks = [mark for mark in marks if mark.x <= WIDER * max(across)]  # a budget far beyond all networks would squeeze the chart
    frame = frame_of(
        across + [v for p in picked for v in finite(p.x_interval)] + [m.x for m in marks],
        [b for _, b in pairs] + [p.y for p in named] + [v for p in picked for v in finite(p.y_interval)],
        x,
        y,
    )
    parts, legend = frame.axes(), list[tuple[str, str]]()
    parts += _marks(frame, marks, ROOM_OF_BUDGET, centered=True)
    for index, one in enumerate(shown):
        if one.random:
            parts.append(_cloud(frame, one, index))
    for index, one in enumerate(shown):
        if one.front:
            xs, ys = zip(*sorted(one.front), strict=True)
            parts += line(frame, Series(f"{one.name} front".strip(), xs, ys, index, index))
            legend.append((one.name or "Pareto front, predicted", key_line(index)))
    if number := sum(len(one.random) for one in shown):
        legend.append((f"random networks, predicted, n = {number:,}", '<path class="dots" d="M6 -4h0M11 -7h0M15 -2h0"/>'))
    neutral = any(one.name for one in shown)
    for kind, (shape, color, words) in SHAPES.items():
        hollow = kind not in FILLED
        if any(_points(one, kind) for one in shown):
            legend.append((words, key_marker(shape, color=GRAY if neutral else color, hollow=hollow)))
        for index, one in enumerate(shown):
            fill, size = index if one.name else color, 4.4 if hollow else 6.5
            parts += [dot(frame, point, shape, size=size, color=fill, hollow=hollow) for point in _points(one, kind)]
    parts += _labels(frame, picked, named)
    return svg(parts, name, legend, description=description)


def _points(one: FrontSeries, kind: str) -> Sequence[Point]:
    points: Sequence[Point] = getattr(one, kind)
    return points


def _finite(one: FrontSeries) -> FrontSeries:
    random, front = ([pair for pair in pairs if all(map(isfinite, pair))] for pairs in (one.random, one.front))
    return FrontSeries(one.name, random, front, **{kind: [p for p in _points(one, kind) if p.finite] for kind in SHAPES})


def _marks(frame: Frame, marks: Sequence[Mark], room: float, *, centered: bool) -> list[str]:
    """Vertical lines, named where there is room after the previous name."""
    parts, free = list[str](), 0.0
    for mark in sorted(marks, key=lambda mark: mark.x):
        at = frame.x(mark.x)
        look = "dash" if mark.color is None else f"dash s{mark.color}"
        parts.append(f'<path class="{look}" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(mark.name)}</title></path>')
        if mark.color is None and at >= free:
            text, where = escape(shorten(mark.name, 18)), f'm" x="{at:.1f}' if centered else f'" x="{at + 4:.1f}'
            width = 7.2 * len(mark.name[:18])
            if at + (width / 2 if centered else width + 4) <= WIDTH:
                parts.append(f'<text class="soft {where}" y="{TOP - 8}">{text}</text>')
            free = at + max(room, width + 6)
    return parts


def _cloud(frame: Frame, one: FrontSeries, index: int) -> str:
    """Random networks: gray dots for one run, small markers in the runs' colors for several."""
    places = [(frame.x(a), frame.y(b)) for a, b in one.random]
    if not one.name:
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in places)
        return f'<path class="dots" d="{dots}"/>'
    return f'<path class="wash f{index}" d="{"".join(marker(index, a, b, 2.1) for a, b in places)}"/>'


def _segment(frame: Frame, low: float, high: float, slope: float) -> str:
    """The part of the line y = slope · x inside the frame."""
    left, right = (max(low, low / slope), min(high, high / slope))
    return f"M{frame.x(left):.1f} {frame.y(slope * left):.1f}L{frame.x(right):.1f} {frame.y(slope * right):.1f}"


def _labels(frame: Frame, points: Sequence[Point], marks: Sequence[Point]) -> list[str]:
    """Names of the chosen networks, each near its marker where it overlaps least with names, markers and edges.

    The hyphen-separated words that all names begin with are left out.
    """
    columns = zip(*(point.name.split("-")[:-1] for point in points), strict=False)
    shared = len(list(takewhile(lambda words: len(set(words)) == 1, columns))) if len(points) > 1 else 0
    parts: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []  # of names: left, right, top, bottom
    dots, named = ([(frame.x(mark.x), frame.y(mark.y)) for mark in some] for some in (marks, points))
    for point in sorted(points, key=lambda p: -p.y):
        at, up, text = frame.x(point.x), frame.y(point.y), shorten("-".join(point.name.split("-")[shared:]), 28)
        width = 7.0 * len(text)

        def overlap(place: tuple[float, float], at: float = at, up: float = up, width: float = width) -> float:
            left, right, top, bottom = _box(at, up, place, width)
            over = 4.0 * sum(left < b[1] and b[0] < right and top < b[3] and b[2] < bottom for b in boxes)
            over += sum(left - 5 < x < right + 5 and top - 5 < y < bottom + 5 for x, y in dots)
            if place in FAR:
                over += 1.5
            else:  # it would seem to be another marker's name
                beside = ((x - at - place[0], y - up - place[1] + 4) for x, y in named if (x, y) != (at, up))
                over += 3.0 * sum(abs(dx) < 24 and abs(dy) < 16 for dx, dy in beside)
            return over + 4.0 * (left < LEFT or right > WIDTH or top < TOP or bottom > HEIGHT - BOTTOM)

        place = min(NEAR + FAR, key=overlap)  # the first of equally good places
        boxes.append(_box(at, up, place, width))
        x, y = at + place[0], up + place[1]
        if place in FAR:
            parts.append(f'<path class="lead" d="M{at:.1f} {up:.1f}L{x - copysign(3, place[0]):.1f} {y - 4:.1f}"/>')
        parts.append(f'<text class="halo{" e" * (place[0] < 0)}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')
    return parts


def _box(at: float, up: float, place: tuple[float, float], width: float) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a name at a place beside a marker: it begins there, or ends if that is on the left."""
    x, y = at + place[0], up + place[1]
    return min(x, x + copysign(width, place[0])), max(x, x + copysign(width, place[0])), y - 11, y + 3


def _thin(series: Series) -> Series:
    n = len(series.xs)
    if n <= MOST_POINTS:
        return series
    cuts = [round(i * n / MOST_POINTS) for i in range(MOST_POINTS + 1)]
    pairs = [(series.xs[a:b], [v for v in series.ys[a:b] if isfinite(v)]) for a, b in pairwise(cuts)]
    xs, ys = [sum(xs) / len(xs) for xs, _ in pairs], [sum(ys) / len(ys) if ys else float("nan") for _, ys in pairs]
    return replace(series, xs=xs, ys=ys)
