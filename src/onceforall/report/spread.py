"""A chart of the spread of values within classes: each value is a dot, the quartiles a box, the median a line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from markupsafe import Markup, escape

from .drawing import BOTTOM, COLORS, HEIGHT, Axis, Frame, frame_of, key_marker, marker, nothing, svg

Values = Mapping[float, Sequence[float]]  # class -> values
DOT = 2.2
ROOM = 0.8  # share of a class's width for its boxes


def spread_chart(
    series: Sequence[tuple[str, Values]],
    x: Axis,
    y: Axis,
    *,
    name: str,
    description: str = "",
    text: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Values by class, with several series side by side; a series has a name, and the values of each class."""
    finite = [(label, {key: [v for v in values if isfinite(v)] for key, values in by_class.items()}) for label, by_class in series]
    classes = sorted({key for _, by_class in finite for key, values in by_class.items() if values})
    if not classes:
        return nothing(name)
    everything = [v for _, by_class in finite for values in by_class.values() for v in values]
    frame = replace(frame_of([0.0, 1.0], everything, x, y), x_ticks=[], x_range=(-0.5, len(classes) - 0.5))
    parts = frame.axes()
    parts += [
        f'<text class="m" x="{frame.x(place):.1f}" y="{HEIGHT - BOTTOM + 18}">{text(key)}</text>'
        for place, key in enumerate(classes)
    ]
    width = ROOM / len(finite)
    for index, (label, by_class) in enumerate(finite):
        for place, key in enumerate(classes):
            if values := by_class.get(key):
                middle = place - ROOM / 2 + width * (index + 0.5)
                parts.append(_box(frame, values, middle, 0.38 * width, index, f"{label} {x.label} {text(key)} {x.unit}".strip()))
    legend = [(label, key_marker(index)) for index, (label, by_class) in enumerate(finite) if label and any(by_class.values())]
    legend.append(("box: middle half, line: median", '<path class="axis" d="M2 -10h16v11h-16ZM2 -5h16"/>'))
    return svg(parts, name, legend, description=description)


def quartiles(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Smallest, lower quartile, median, upper quartile, largest."""
    low, q1, median, q3, high = np.quantile(np.array(values), (0, 0.25, 0.5, 0.75, 1)).tolist()
    return low, q1, median, q3, high


def _box(frame: Frame, values: Sequence[float], middle: float, half: float, index: int, name: str) -> str:
    low, q1, median, q3, high = quartiles(values)
    left, right, center = frame.x(middle - half), frame.x(middle + half), frame.x(middle)
    top, line, bottom = frame.y(q3), frame.y(median), frame.y(q1)
    color = index % COLORS
    dots = "".join(
        marker(index, center + 0.8 * (right - center) * (2 * ((i * 0.618034) % 1) - 1), frame.y(v), DOT)
        for i, v in enumerate(sorted(values))
    )
    y = frame.y_axis
    a, b, c, d, e = (f"{y.scale * value:.4g}" for value in (low, q1, median, q3, high))
    tip = f"{name}\nn = {len(values)}\n{y.label}: median {c} {y.unit}, middle half {b} to {d}, all {a} to {e}"
    return (
        f'<g class="p"><title>{escape(tip)}</title><path class="wash f{color}" d="{dots}"/>'
        f'<path class="line s{color}" style="stroke-width:1.4" d="M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z"/>'
        f'<path class="line s{color}" style="stroke-width:2.6" d="M{left:.1f} {line:.1f}H{right:.1f}"/></g>'
    )
