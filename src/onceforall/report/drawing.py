"""Drawing functions for all charts, which return SVG text: axes with round ticks, lines, points with error bars, legends."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 350
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 24, 50
MOST_MARKERS = 60  # on a line; with more points it is drawn without markers
COLORS = 7
GRAY = 6  # the last of them
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "1 4", "12 4")


@dataclass(frozen=True)
class Axis:
    """Label and unit of one axis, and the factor that converts values to that unit."""

    label: str
    unit: str = ""
    scale: float = 1.0

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, value: float, interval: tuple[float, float] | None = None) -> str:
        """A value, with its interval, for a tooltip."""
        text = f"{self.label}: {self.scale * value:.4g}"
        if interval:
            text += f" ({self.scale * interval[0]:.4g} to {self.scale * interval[1]:.4g})"
        return f"{text} {self.unit}".rstrip()


TOP1, MS, MACS = Axis("top-1", "%", 100), Axis("latency", "ms"), Axis("MACs", "M", 1e-6)


@dataclass(frozen=True)
class Series:
    """One line. Color and dash are numbers; None for the line's index in the chart."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: int | None = None
    dash: int | None = None


@dataclass(frozen=True)
class Point:
    """One point with its tooltip, and its intervals (low, high) if known."""

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None

    @property
    def finite(self) -> bool:
        return isfinite(self.x) and isfinite(self.y)


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = floor(low / step + 1e-9)
    values = [first * step]
    while values[-1] < high - 1e-9 * step:
        values.append((first + len(values)) * step)
    return values


@dataclass(frozen=True)
class Frame:
    """Maps values to the plot. Ticks and ranges are in the axes' units; the y ticks span the plot's height."""

    x_axis: Axis
    y_axis: Axis
    x_ticks: list[float]
    y_ticks: list[float]
    x_range: tuple[float, float]

    def x(self, value: float) -> float:
        return self._x(self.x_axis.scale * value)

    def y(self, value: float) -> float:
        return self._y(self.y_axis.scale * value)

    def _x(self, tick: float) -> float:
        low, high = self.x_range
        return LEFT + (tick - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, tick: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (tick - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> list[str]:
        """Grid, ticks with numbers, and titles of both axes."""
        floor_y, parts = HEIGHT - BOTTOM, []
        for tick in self.y_ticks:
            at = self._y(tick)
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="e" x="{LEFT - 8}" y="{at + 4:.1f}">{_label(tick, self.y_ticks)}</text>')
        for tick in self.x_ticks:
            at = self._x(tick)
            parts.append(f'<path class="axis" d="M{at:.1f} {floor_y}v4"/>')
            parts.append(f'<text class="m" x="{at:.1f}" y="{floor_y + 18}">{_label(tick, self.x_ticks)}</text>')
        parts.append(f'<path class="axis" d="M{LEFT} {floor_y}H{WIDTH - RIGHT}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text class="m soft" x="{middle:.0f}" y="{floor_y + 38}">{escape(self.x_axis.title)}</text>')
        turned = f"translate(14 {(TOP + floor_y) / 2:.0f}) rotate(-90)"
        parts.append(f'<text class="m soft" transform="{turned}">{escape(self.y_axis.title)}</text>')
        return parts


def frame_of(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis, *, tight_x: bool = False) -> Frame:
    """Axes for the values, which are finite; `tight_x` ends the axis at the last value, not at a tick."""
    range_x, range_y = (_widened([axis.scale * value for value in values]) for axis, values in ((x, xs), (y, ys)))
    x_ticks, y_ticks = ticks(*range_x), ticks(*range_y)
    if not tight_x:
        return Frame(x, y, x_ticks, y_ticks, (x_ticks[0], x_ticks[-1]))
    low, high = range_x
    return Frame(x, y, [tick for tick in x_ticks if low <= tick <= high], y_ticks, range_x)


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    half = abs(low) * 0.05 or 0.5
    return low - half, high + half


def line(frame: Frame, series: Series) -> list[str]:
    """One line in its color and dash; if there are few points, each has a marker and a tooltip."""
    path, pen, marks = [], "M", []
    for a, b in zip(series.xs, series.ys, strict=True):
        if not (isfinite(a) and isfinite(b)):
            pen = "M"
            continue
        path.append(f"{pen}{frame.x(a):.1f} {frame.y(b):.1f}")
        pen = "L"
        marks.append(Point(series.name, a, b))
    few = len(marks) <= MOST_MARKERS
    color, dash = (series.color or 0) % COLORS, (series.dash or 0) % len(DASHES)
    pattern = f'stroke-dasharray="{DASHES[dash]}"' + ("" if few else ' style="stroke-width:1.3"')
    parts = [f'<path class="line s{color}" {pattern} d="{"".join(path)}"><title>{escape(series.name)}</title></path>']
    if few:
        parts += [dot(frame, mark, dash, size=3.4, color=color) for mark in marks]
    return parts


def dot(frame: Frame, point: Point, index: int, *, size: float = 4.2, color: int | None = None, hollow: bool = False) -> str:
    """One marker with its tooltip and error bars, if known. `index` is its shape, and its color if `color` is None."""
    at, up, color = frame.x(point.x), frame.y(point.y), (index if color is None else color) % COLORS
    bars = ""
    if interval := finite(point.y_interval):
        low, high = map(frame.y, interval)
        bars += f"M{at:.1f} {low:.1f}V{high:.1f}M{at - 3:.1f} {low:.1f}h6M{at - 3:.1f} {high:.1f}h6"
    if interval := finite(point.x_interval):
        low, high = map(frame.x, interval)
        bars += f"M{low:.1f} {up:.1f}H{high:.1f}M{low:.1f} {up - 3:.1f}v6M{high:.1f} {up - 3:.1f}v6"
    bar = f'<path class="bar s{color}" d="{bars}"/>' if bars else ""
    look = f"open s{color}" if hollow else f"f{color}"
    tip = f"{point.name}\n{frame.x_axis.text(point.x, point.x_interval)}\n{frame.y_axis.text(point.y, point.y_interval)}"
    return (
        f'<g class="p"><title>{escape(tip)}</title>{bar}<circle class="hit" cx="{at:.1f}" cy="{up:.1f}" r="9"/>'
        f'<path class="mark {look}" d="{marker(index, at, up, size)}"/></g>'
    )


def marker(index: int, x: float, y: float, r: float) -> str:
    """Marker number `index`: circle, diamond, square, triangle or inverted triangle, in turn."""
    d, kind = 1.3 * r, index % 5
    if kind == 0:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r:.1f} 0a{r} {r} 0 1 0 {-2 * r:.1f} 0Z"
    if kind == 1:
        return f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}Z"
    if kind == 2:
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}Z"
    up = 1 if kind == 3 else -1
    return f"M{x:.1f} {y - 1.2 * up * r:.1f}l{1.2 * r:.1f} {2.1 * up * r:.1f}h{-2.4 * r:.1f}Z"


def key_line(index: int, *, color: int | None = None, marked: bool = True) -> str:
    """A line's sample for the legend."""
    dash, color = DASHES[index % len(DASHES)], (index if color is None else color) % COLORS
    sample = f'<path class="f{color}" d="{marker(index, 11, -4, 3.4)}"/>' if marked else ""
    return f'<path class="line s{color}" stroke-dasharray="{dash}" d="M0 -4H22"/>{sample}'


def key_marker(index: int, *, color: int | None = None, hollow: bool = False) -> str:
    """A marker's sample for the legend."""
    color = (index if color is None else color) % COLORS
    look = f"open s{color}" if hollow else f"f{color}"
    return f'<path class="{look}" d="{marker(index, 10, -4, 4.6)}"/>'


def svg(parts: Sequence[str], name: str, legend: Sequence[tuple[str, str]], *, description: str = "") -> Markup:
    """The chart with its legend below; text widths are estimated at 6.7 units per letter. `description` is for screen readers."""
    keys, x, y = [], float(LEFT), HEIGHT + 12
    for text, symbol in legend:
        text = shorten(text, 60)
        width = 30 + 6.7 * len(text) + 18
        if x > LEFT and x + width > WIDTH:
            x, y = float(LEFT), y + 20
        keys.append(f'<g transform="translate({x:.0f} {y})">{symbol}<text x="30">{escape(text)}</text></g>')
        x += width
    about = [f"<desc>{escape(description)}</desc>"] if description else []
    return _svg(name, y + 10, "\n".join([*about, *parts, *keys]))


def nothing(name: str) -> Markup:
    """A placeholder for a chart without values."""
    return _svg(f"{name}: no values yet", 80, f'<text class="m soft" x="{WIDTH / 2:.0f}" y="40">no values yet</text>')


def _svg(name: str, height: int, body: str) -> Markup:
    """Wrap `body`, whose texts are already escaped."""
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}">\n{body}\n</svg>')


def finite(interval: tuple[float, float] | None) -> tuple[float, ...]:
    """The interval, or () if it is unknown or not finite."""
    return interval if interval and all(map(isfinite, interval)) else ()


def _label(value: float, among: Sequence[float]) -> str:
    """A tick's text, with as many digits as the step between ticks needs."""
    step = abs(among[1] - among[0]) if len(among) > 1 else abs(value) or 1.0
    return f"{0.0 if abs(value) < 1e-9 * step else value:,.{max(0, -floor(log10(step) + 1e-9))}f}"


def shorten(text: str, most: int) -> str:
    """The text, cut to at most `most` letters."""
    return text if len(text) <= most else text[: most - 1] + "…"
