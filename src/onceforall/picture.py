"""Draw a network, from its plan, as a self-contained SVG.

Segments are boxes from left to right. Width and color show the kernel size, which is also written on the box (the number of heads
for an attention block without a spatial convolution); height shows the square root of the middle width. The ribbon through the
boxes is as thick as the square root of the tensor's channels. An arc is a shortcut, a dot is squeeze-and-excitation. The bars below
show shares of latency, or of MACs if no latency is given.

The SVG uses no ids and every class starts with "ofa-net", so that many pictures fit on one page. A page sets the colors with
the CSS variables --ofa-ink and --ofa-paper; on its own, the picture follows the reader's light or dark mode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from math import isfinite, sqrt

from .arch import Arch, Block
from .common.readable import amount, plural
from .errors import ArchError
from .looks import Look, channels, look_of, pixels
from .plan import Plan, Segment
from .resolutions import by_sides, height_width

KERNEL_COLOURS = {3: "#56b4e9", 5: "#e69f00", 7: "#2fb58a"}  # Okabe-Ito, the green lightened so that dark text reads on it
OTHER_COLOUR = "#cc79a7"
PLAIN_COLOUR = "#b8bec8"  # no spatial convolution

MARGIN, GAP, STAGE_GAP = 18, 9, 30
TOP, TALLEST, SHORTEST, BARS = 96, 150, 30, 46
LEGEND_WIDTH = 800
STYLE = """
.ofa-net{color:#1b1f24;color:var(--ofa-ink,#1b1f24);background:#fff;background:var(--ofa-paper,#fff);font:11px system-ui,sans-serif}
.ofa-net text{fill:currentColor;text-anchor:middle}
.ofa-net .ofa-net-left{text-anchor:start}
.ofa-net .ofa-net-title{font-size:15px;font-weight:600}
.ofa-net .ofa-net-strong{font-weight:600}
.ofa-net .ofa-net-faint{opacity:.72}
.ofa-net .ofa-net-on{fill:#10141a;font-size:12px;font-weight:650}
.ofa-net .ofa-net-box{stroke:currentColor;stroke-opacity:.55}
.ofa-net .ofa-net-line{fill:none;stroke:currentColor}
.ofa-net .ofa-net-block:hover .ofa-net-box{stroke-opacity:1;stroke-width:2}
@media screen and (prefers-color-scheme:dark){
.ofa-net{color:#e8ebf0;color:var(--ofa-ink,#e8ebf0);background:#14181e;background:var(--ofa-paper,#14181e)}}
@media print{.ofa-net{color:#000;background:none;print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """One segment and what the picture shows of it; x is the left edge."""

    segment: Segment
    block: Block | None
    look: Look
    x: float
    width: float
    height: float

    @property
    def centre(self) -> float:
        return self.x + self.width / 2

    @property
    def colour(self) -> str:
        return PLAIN_COLOUR if self.look.kernel is None else KERNEL_COLOURS.get(self.look.kernel, OTHER_COLOUR)


def draw(plan: Plan, arch: Arch, *, shares: Mapping[str, float] | None = None, title: str = "") -> str:
    """The network as SVG text.

    Args:
        plan: the lowered architecture.
        arch: the architecture; its expand ratios are written below the blocks.
        shares: segment name -> share of the latency in [0, 1]; by default the bars show shares of MACs.
        title: heading, as plain text.

    Raises:
        ArchError: plan and architecture do not belong to the same network.
        ValueError: a share for a segment that the plan lacks, or a share outside [0, 1].
    """
    _check_shares(plan, shares)
    boxes = _layout(plan, arch)
    top = TOP if title else TOP - 24
    middle_y = top + TALLEST / 2
    floor = top + TALLEST + 34 + BARS
    width = max(LEGEND_WIDTH, boxes[-1].x + boxes[-1].width + MARGIN + 26)
    height = floor + 52
    total = f"{amount(plan.macs)} MACs, {amount(plan.params)} parameters, {by_sides(arch.resolution)} pixels"
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    label = escape(f"{title or 'network'}: {total}")
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" class="ofa-net" role="img" {size} aria-label="{label}">']
    parts.append(f"<style>{STYLE}</style>")
    if title:
        parts.append(f'<text class="ofa-net-left ofa-net-title" x="{MARGIN}" y="26">{escape(title)}</text>')
    parts.append(f'<text class="ofa-net-left ofa-net-faint" x="{MARGIN}" y="{46 if title else 22}">{total}</text>')
    parts += _ribbon(boxes, middle_y)
    parts += _captions(boxes, top, floor)
    parts += [_block(box, middle_y, shares) for box in boxes]
    parts += _bars(plan, boxes, shares, floor)
    parts += _legend(boxes, height - 16)
    parts.append("</svg>")
    return "\n".join(parts)


def _layout(plan: Plan, arch: Arch) -> list[_Box]:
    expected = {f"stages.{s}.{i}": block for s, stage in enumerate(arch.stages) for i, block in enumerate(stage.blocks)}
    found = {segment.name for segment in plan.segments if segment.name.startswith("stages.")}
    if found != set(expected) or plan.input_shape[1:] != height_width(arch.resolution):
        raise ArchError("the plan was not lowered from this architecture: draw the result of space.lower(arch)")
    looks = [look_of(segment) for segment in plan.segments]
    widest = max(look.hidden for look in looks)
    boxes: list[_Box] = []
    x = float(MARGIN + 26)
    for segment, look in zip(plan.segments, looks, strict=True):
        if boxes:
            x += boxes[-1].width + (GAP if _group(boxes[-1].segment) == _group(segment) else STAGE_GAP)
        width, height = 28 + 3 * min(look.kernel or 3, 11), max(SHORTEST, TALLEST * sqrt(look.hidden / widest))
        boxes.append(_Box(segment, expected.get(segment.name), look, x, width, height))
    return boxes


def _group(segment: Segment) -> str:
    """The group a segment is drawn in: each stage is one group, every other segment its own."""
    return ".".join(segment.name.split(".")[:2]) if segment.name.startswith("stages.") else segment.name


def _ribbon(boxes: list[_Box], y: float) -> list[str]:
    """The tensor between the boxes: as thick as the square root of its channels."""
    parts = []
    edges = [(float(MARGIN), boxes[0].x + 4, boxes[0].segment.in_shape)]
    edges += [(a.x + a.width - 4, b.x + 4, b.segment.in_shape) for a, b in pairwise(boxes)]
    end = boxes[-1].x + boxes[-1].width
    edges.append((end - 4, end + 26, boxes[-1].segment.out_shape))
    for left, right, shape in edges:
        thick = min(TALLEST, 1.6 * sqrt(channels(shape)))
        parts.append(
            f'<rect x="{left:.1f}" y="{y - thick / 2:.1f}" width="{right - left:.1f}" height="{thick:.1f}" '
            f'fill="currentColor" fill-opacity=".22"><title>{_shape(shape)}</title></rect>'
        )
    return parts


def _captions(boxes: list[_Box], top: float, floor: float) -> list[str]:
    """Name, resolution and width of each group above it, and a dotted line where the resolution falls."""
    parts = []
    before = boxes[0].segment.in_shape
    for name, members in groupby(boxes, key=lambda box: _group(box.segment)):
        group = list(members)
        shape = group[-1].segment.out_shape
        x = (group[0].x + group[-1].x + group[-1].width) / 2
        label = f"stage {int(name.split('.')[1]) + 1}" if name.startswith("stages.") else name
        size, map_of = _size(shape), pixels(shape)
        parts.append(f'<text class="ofa-net-strong" x="{x:.1f}" y="{top - 31}">{escape(label)}</text>')
        detail = f"{size} · {channels(shape)} ch" if len(shape) > 1 and len(group) > 1 else size
        parts.append(f'<text class="ofa-net-faint" x="{x:.1f}" y="{top - 17}">{detail}</text>')
        if (map_of or shape[-1]) != (pixels(before) or before[-1]) and group[0] is not boxes[0]:
            line = group[0].x - STAGE_GAP / 2
            parts.append(
                '<path class="ofa-net-line" stroke-opacity=".3" stroke-dasharray="2 4" '
                f'd="M{line:.1f} {top - 40}V{floor - BARS - 6:.1f}"/>'
            )
        before = shape
    return parts


def _size(shape: tuple[int, ...]) -> str:
    """The size of a map in pixels, the number of tokens, or the number of outputs."""
    if (found := pixels(shape)) is not None:
        return f"{found[0]}×{found[1]}"
    return f"{shape[0]} tokens" if len(shape) == 2 else f"{shape[0]} out" if len(shape) == 1 else _shape(shape)


def _block(box: _Box, y: float, shares: Mapping[str, float] | None) -> str:
    half, look = box.height / 2, box.look
    label = f"{look.kernel}×{look.kernel}" if look.kernel else f"{look.heads} h" if look.heads else "1×1"
    parts = [f'<g class="ofa-net-block"><title>{escape(_tooltip(box, shares))}</title>']
    parts.append(
        f'<rect class="ofa-net-box" x="{box.x:.1f}" y="{y - half:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6" '
        f'fill="{box.colour}"/>'
    )
    parts.append(f'<text class="ofa-net-on" x="{box.centre:.1f}" y="{y + 4.5:.1f}">{label}</text>')
    if look.squeeze:
        parts.append(f'<circle cx="{box.centre:.1f}" cy="{y - half + 7:.1f}" r="3" fill="#10141a"/>')
    if look.shortcut:
        up = y - half - 9
        parts.append(
            f'<path class="ofa-net-line" stroke-width="1.4" stroke-opacity=".75" '
            f'd="M{box.x - 3:.1f} {y - half + 8:.1f}C{box.x - 3:.1f} {up:.1f} {box.x + box.width + 3:.1f} {up:.1f} '
            f'{box.x + box.width + 3:.1f} {y - half + 8:.1f}"/>'
        )
    under = f"e{box.block.expand_ratio:g}{_heads(box.block, ' h')}" if box.block else ""
    if under:
        parts.append(f'<text class="ofa-net-strong" x="{box.centre:.1f}" y="{y + half + 14:.1f}">{under}</text>')
    parts.append(
        f'<text class="ofa-net-faint" x="{box.centre:.1f}" y="{y + half + (26 if under else 14):.1f}">{look.hidden}</text></g>'
    )
    return "\n".join(parts)


def _bars(plan: Plan, boxes: list[_Box], shares: Mapping[str, float] | None, floor: float) -> list[str]:
    """Bars on a common scale: the largest share has the full height."""
    values = dict(shares) if shares is not None else {s.name: s.macs / max(1, plan.macs) for s in plan.segments}
    largest = max(values.values(), default=0.0) or 1.0
    what = "share of latency" if shares is not None else "share of MACs"
    parts = [
        f'<path class="ofa-net-line" stroke-opacity=".4" d="M{boxes[0].x:.1f} {floor:.1f}H{boxes[-1].x + boxes[-1].width:.1f}"/>'
    ]
    for box in boxes:
        if box.segment.name not in values:
            continue
        value = values[box.segment.name]
        tall = (BARS - 14) * value / largest
        percent = f"{100 * value:.0f}" if value >= 0.095 else f"{100 * value:.1f}"
        parts.append(
            f"<g><title>{escape(box.segment.name)}: {100 * value:.1f} % {what[9:]}</title>"
            f'<rect x="{box.x:.1f}" y="{floor - tall:.1f}" width="{box.width:.1f}" height="{tall:.1f}" '
            'fill="currentColor" fill-opacity=".5"/>'
            f'<text x="{box.centre:.1f}" y="{floor + 13:.1f}">{percent}</text></g>'
        )
    parts.append(f'<text class="ofa-net-left ofa-net-faint" x="{MARGIN}" y="{floor - BARS + 2:.1f}">{what}, %</text>')
    return parts


def _legend(boxes: list[_Box], y: float) -> list[str]:
    parts, x = [], float(MARGIN)
    for kernel in sorted({box.look.kernel for box in boxes if box.look.kernel}):
        colour = KERNEL_COLOURS.get(kernel, OTHER_COLOUR)
        parts.append(f'<rect class="ofa-net-box" x="{x:.0f}" y="{y - 9:.0f}" width="12" height="11" rx="2.5" fill="{colour}"/>')
        parts.append(f'<text class="ofa-net-left" x="{x + 18:.0f}" y="{y:.0f}">{kernel}×{kernel}</text>')
        x += 58
    heads = " · h: share of attention heads" if any(box.block and box.block.heads != 1 for box in boxes) else ""
    words = f"e: expand ratio{heads} · number: middle width, the box's height · arc: shortcut"
    if any(box.look.squeeze for box in boxes):
        words += " · dot: squeeze-and-excitation"
    if any(box.look.heads and not box.look.kernel for box in boxes):
        words += " · h: attention heads"
    parts.append(f'<text class="ofa-net-left ofa-net-faint" x="{x + 4:.0f}" y="{y:.0f}">{words}</text>')
    return parts


def _tooltip(box: _Box, shares: Mapping[str, float] | None) -> str:
    segment, look = box.segment, box.look
    lines = [segment.name, f"{_shape(segment.in_shape)} → {_shape(segment.out_shape)}"]
    if look.kernel:
        ratio = f", expand ratio {box.block.expand_ratio:g}{_heads(box.block, ', heads ')}" if box.block else ""
        lines.append(f"kernel {look.kernel}×{look.kernel}{ratio}, middle width {look.hidden}")
    elif look.heads and box.block:
        lines.append(f"expand ratio {box.block.expand_ratio:g}, middle width {look.hidden}")
    if look.heads:
        share = f", {box.block.heads:g} of all" if box.block and box.block.heads != 1 else ""
        lines.append(f"{plural(look.heads, 'attention head')}{share}")
    extras = [word for on, word in ((look.squeeze, "squeeze-and-excitation"), (look.shortcut, "shortcut")) if on]
    if extras:
        lines.append(", ".join(extras))
    lines.append(f"{segment.macs:,} MACs, {segment.params:,} parameters")
    if shares is not None and segment.name in shares:
        lines.append(f"{100 * shares[segment.name]:.1f} % of the latency")
    return "\n".join(lines)


def _heads(block: Block, before: str) -> str:
    """The share of its attention heads, if some are dropped."""
    return "" if block.heads == 1 else f"{before}{block.heads:g}"


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _check_shares(plan: Plan, shares: Mapping[str, float] | None) -> None:
    names = {segment.name for segment in plan.segments}
    for name, share in (shares or {}).items():
        if name not in names:
            raise ValueError(
                f"a share of latency is given for {name!r}, and the plan has no such segment: use {', '.join(sorted(names))}"
            )
        if not isfinite(share) or not 0 <= share <= 1:
            raise ValueError(f"the share of latency of {name} is {share}: it must lie in [0, 1]")
