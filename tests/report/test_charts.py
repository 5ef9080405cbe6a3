import re
from itertools import combinations
from math import inf, isfinite, nan
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.report.charts import Axis, FrontSeries, Mark, Point, Series, front_chart, line_chart, scatter_chart
from onceforall.report.drawing import HEIGHT, WIDTH, ticks
from onceforall.report.spread import quartiles, spread_chart

X, Y = Axis("latency", "ms"), Axis("top-1", "%")
ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


def by_class(svg, name):
    return [node for node in ElementTree.fromstring(svg).iter() if name in node.get("class", "").split()]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_span_the_range(low, width):
    high = low + width
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    values = ticks(low, high)
    step = values[1] - values[0]
    assert values[0] <= low + 1e-6 * step
    assert values[-1] >= high - 1e-6 * step
    assert 2 <= len(values) <= 9
    assert float(f"{step:.0e}") == pytest.approx(step, rel=1e-3)
    assert f"{step:.0e}"[0] in "125"


def test_known_ticks():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.7, 0.83) == pytest.approx([0.7, 0.75, 0.8, 0.85])


@given(st.lists(st.tuples(ANY, ANY), max_size=40))
def test_any_points_give_a_chart_with_finite_numbers(pairs):
    points = [Point(f"p{i}", x, y, (x, y), (y, x)) for i, (x, y) in enumerate(pairs)]
    xs, ys = [p[0] for p in pairs], [p[1] for p in pairs]
    usable = sum(isfinite(x) and isfinite(y) for x, y in pairs)
    charts = [
        line_chart([Series("a", xs, ys), Series("empty", [], [])], X, Y, name="lines"),
        scatter_chart([("", points)], X, Y, name="scatter", equal="same", band=0.1),
        scatter_chart([("a", points), ("b", [])], X, Y, name="scatter"),
        front_chart([FrontSeries("", pairs, pairs[:5], chosen=points[:3])], X, Y, name="front"),
        front_chart([FrontSeries("a", pairs), FrontSeries("b", elsewhere=points)], X, Y, name="front"),
        spread_chart([("a", {1: ys, 2: []}), ("b", {3: xs})], X, Y, name="spread"),
    ]
    for svg in charts:
        for node in ElementTree.fromstring(svg).iter():
            places = [node.get(name, "") for name in ("d", "x", "y", "cx", "cy", "transform")]
            assert not re.search("nan|inf", " ".join(places))
        if not usable and "spread" not in svg:
            assert "no values yet" in svg


def test_one_point_is_drawn_inside():
    for svg in (
        line_chart([Series("a", [5], [0.0])], X, Y, name="one"),
        scatter_chart([("", [Point("a", 3.0, 3.0)])], X, Y, name="one", equal="same"),
        front_chart([FrontSeries("", chosen=[Point("a", 3.0, 70.0)])], X, Y, name="one"),
    ):
        (hit,) = by_class(svg, "hit")
        assert 0 < float(hit.get("cx")) < WIDTH
        assert 0 < float(hit.get("cy")) < HEIGHT


def test_a_value_that_is_not_finite_breaks_the_line():
    svg = line_chart([Series("a", [0, 1, 2, 3, 4], [1, 2, nan, 4, inf])], X, Y, name="broken")
    path = by_class(svg, "line")[0].get("d")
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_long_lines_are_averaged_and_carry_no_markers():
    svg = line_chart([Series("a", list(range(10_000)), [1.0] * 5000 + [2.0] * 5000)], X, Y, name="long")
    assert not by_class(svg, "hit")
    assert len(svg) < 10_000


def test_series_differ_in_more_than_color():
    svg = line_chart([Series(name, [0, 1], [i, i + 1]) for i, name in enumerate("abcde")], X, Y, name="five")
    dashes = [node.get("stroke-dasharray") for node in by_class(svg, "line")]
    assert len(set(dashes[:5])) == 5


def test_error_bars_tooltips_diagonal_and_legend_of_a_scatter_chart():
    points = [Point("net <1>", 4.0, 5.0, None, (4.5, 5.5)), Point("net 2", 6.0, 6.0)]
    svg = scatter_chart([("network", points)], X, Y, name="s", equal="predicted = measured", description="two <networks>")
    root = ElementTree.fromstring(svg)
    titles = [node.text for node in root.iter() if node.tag.endswith("title")]
    assert titles[0] == "net <1>\nlatency: 4 ms\ntop-1: 5 (4.5 to 5.5) %"
    assert len(by_class(svg, "dash")) == 2  # the diagonal and its key
    (bar,) = by_class(svg, "bar")
    assert bar.get("d").count("M") == 3  # the bar and its two ends
    (told,) = [node.text for node in root.iter() if node.tag.endswith("desc")]
    assert told == "two <networks>"
    assert not by_class(scatter_chart([("network", points)], X, Y, name="s"), "dash")


def test_the_band_ends_at_errors_of_this_fraction_of_the_measurement():
    points = [Point("small", 2.0, 2.0), Point("over", 11.0, 10.0), Point("under", 9.0, 10.0)]
    svg = scatter_chart([("", points)], X, Y, name="s", equal="predicted = measured", band=0.1)
    ends = [[float(n) for n in re.findall(r"[\d.]+", node.get("d"))] for node in by_class(svg, "grid") if "L" in node.get("d")]
    places = [(float(node.get("cx")), float(node.get("cy"))) for node in by_class(svg, "hit")]
    for (x0, y0, x1, y1), (x, y) in zip(ends, places[1:], strict=True):
        assert y0 + (y1 - y0) * (x - x0) / (x1 - x0) == pytest.approx(y, abs=0.3)


def test_the_front_is_sorted_and_chosen_networks_are_named():
    one = FrontSeries("", [(3.0, 60.0)], [(4.0, 80.0), (2.0, 70.0)], chosen=[Point("mine", 3.0, 75.0)])
    svg = front_chart([one], X, Y, name="f", marks=[Mark("3 ms", 3.0)])
    numbers = [float(pair.split()[0]) for pair in by_class(svg, "line")[0].get("d")[1:].split("L")]
    assert numbers == sorted(numbers)
    assert [node.text for node in by_class(svg, "halo")] == ["mine"]
    assert "random networks, predicted, n = 1" in svg


def test_names_of_chosen_networks_cover_neither_each_other_nor_marks():
    points = [Point(f"network {i}", 5.0 + i / 100, 75.0) for i in range(4)]
    others = [Point("other", 4.9 - i / 10, 75.5) for i in range(4)]  # left of them, where names would go first
    svg = front_chart([FrontSeries("", [(1.0, 60.0)], measured=others, chosen=points)], X, Y, name="f")
    boxes = []
    for node in by_class(svg, "halo"):
        x, y, wide = float(node.get("x")), float(node.get("y")), 7.0 * len(node.text)
        left = x - wide if "e" in node.get("class").split() else x
        boxes.append((left, left + wide, y - 11, y + 3))
    assert len(boxes) == 4
    for a, b in combinations(boxes, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
    marks = [(float(node.get("cx")), float(node.get("cy"))) for node in by_class(svg, "hit")]
    assert len(marks) == 8
    assert not any(left < x < right and top < y < bottom for left, right, top, bottom in boxes for x, y in marks)


def test_lines_lead_from_names_that_are_not_beside_their_markers():
    crowd = [Point(f"network {i}", 5.0, 75.0 + i / 10) for i in range(12)]
    svg = front_chart([FrontSeries("", [(1.0, 60.0)], chosen=crowd)], X, Y, name="f")
    marks = [(float(node.get("cx")), float(node.get("cy"))) for node in by_class(svg, "hit")]
    lines = [re.findall(r"[\d.]+", node.get("d")) for node in by_class(svg, "lead")]
    assert lines
    for x, y, _, _ in lines:
        assert min(abs(float(x) - a) + abs(float(y) - b) for a, b in marks) < 0.2
    alone = front_chart([FrontSeries("", [(1.0, 60.0)], chosen=crowd[:1])], X, Y, name="f")
    assert not by_class(alone, "lead")


def test_a_budget_far_beyond_all_networks_does_not_widen_the_chart():
    points = [Point("mine", 1.0, 75.0)]
    near, far = (front_chart([FrontSeries("", chosen=points)], X, Y, name="f", marks=[Mark("b", at)]) for at in (1.1, 100.0))
    assert len(by_class(near, "dash")) == 1
    assert not by_class(far, "dash")


def test_what_all_names_begin_with_is_left_out():
    points = [Point(f"onnxruntime-{ms}ms", ms, 75.0) for ms in (2.0, 4.0)]
    svg = front_chart([FrontSeries("", [(1.0, 60.0)], chosen=points)], X, Y, name="f")
    assert sorted(node.text for node in by_class(svg, "halo")) == ["2.0ms", "4.0ms"]


def test_names_of_marks_do_not_cover_each_other():
    marks = [Mark(f"phase {i}", x) for i, x in enumerate((0, 10, 12, 900))]
    svg = line_chart([Series("a", [0, 1000], [0, 1])], X, Y, name="m", marks=marks)
    named = [node for node in by_class(svg, "soft") if (node.text or "").startswith("phase")]
    assert [node.text for node in named] == ["phase 0", "phase 3"]
    lines = [node for node in by_class(svg, "dash") if node.tag.endswith("path")]
    assert [line[0].text for line in lines] == ["phase 0", "phase 1", "phase 2", "phase 3"]


def test_fronts_of_several_runs_differ_in_dash_and_keep_their_colors():
    runs = [
        FrontSeries("a", front=[(1.0, 50.0), (2.0, 60.0)]),
        FrontSeries("b"),
        FrontSeries("c", front=[(1.0, 55.0), (2.0, 65.0)]),
    ]
    svg = front_chart(runs, X, Y, name="f")
    drawn = [node for node in by_class(svg, "line") if len(node)]
    assert ["s0" in node.get("class") for node in drawn] == [True, False]
    assert ["s2" in node.get("class") for node in drawn] == [False, True]
    assert len({node.get("stroke-dasharray") for node in drawn}) == 2


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_boxes_are_at_the_quartiles(values):
    low, q1, median, q3, high = quartiles(values)
    assert low == min(values) <= q1 <= median <= q3 <= high == max(values)
    assert sum(v <= median for v in values) * 2 >= len(values) <= sum(v >= median for v in values) * 2
    svg = spread_chart([("", {96: values})], X, Y, name="spread")
    title = next(node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("title"))
    assert f"n = {len(values)}" in title
    assert f"median {median:.4g} %" in title
