import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from math import inf, nan

import pytest

from onceforall.errors import FileError
from onceforall.report import Check, Curve, write_report
from onceforall.report.page import render
from onceforall.report.sections import SECTIONS

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Checked(HTMLParser):
    """Fails on tags that do not match; collects tags, ids and attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.attributes, self.tags = [], [], [], set()
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]


def body(page, key):
    return re.search(rf'<section id="{key}">(.*?)</section>', page, re.S).group(1)


def texts(value):
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            if field.name != "picture":
                yield from texts(getattr(value, field.name))
    elif isinstance(value, dict):
        for pair in value.items():
            yield from texts(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def test_the_page_is_well_formed_and_has_every_section(facts):
    page = Checked(render(facts))
    assert [key for key in page.ids if key != "problems"] == list(SECTIONS)
    assert "problems" in page.ids
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_and_no_script_runs(facts):
    text = render(facts)
    page = Checked(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith("#")
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_text_is_escaped(facts, hostile):
    marker = "</style><script>"
    assert sum(marker in text for text in texts(hostile)) > 30  # the fixture is hostile everywhere
    page = render(hostile)
    assert "<script" not in page
    assert Checked(page).tags == Checked(render(facts)).tags
    assert page.count("</style>") == 1 + len(hostile.chosen)


def test_numbers_of_a_chosen_network_are_on_the_page(facts):
    one = facts.chosen[1]
    section = body(render(facts), "chosen")
    for expected in (one.name, one.limits, one.folder, "97 % of budget", "n = 3,925", f"{100 * one.top1:.1f} %", one.picture):
        assert expected in section


def test_quality_of_the_predictors_is_on_the_page(facts):
    page = render(facts)
    assert "0.71 points" in body(page, "accuracy")
    assert "0.891" in body(page, "accuracy")
    assert "3.1 %" in body(page, "latency")
    assert body(page, "latency").count("<figure") == 2  # one for each device


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("training", "ofa train DATA --out runs/imagenette"),
        ("chosen", "ofa specialise runs/imagenette --latency 5ms"),
        ("front", "ofa predict runs/imagenette"),
        ("accuracy", "ofa predict runs/imagenette"),
        ("latency", "ofa profile runs/imagenette"),
    ],
)
def test_a_section_without_data_names_the_command(empty, key, command):
    page = render(empty)
    Checked(page)
    assert command in body(page, key)
    assert 'id="problems"' not in page


def test_a_folder_with_spaces_is_quoted_in_commands(empty):
    page = render(replace(empty, run=replace(empty.run, folder="my run")))
    assert "ofa predict &#x27;my run&#x27;" in page


def test_values_that_are_not_finite_do_not_break_the_page(facts):
    broken = replace(
        facts,
        losses=[Curve("loss", [0, 1, 2], [nan, inf, 1.0]), Curve("none", [], [])],
        top1=[Curve("largest", [1], [nan])],
        accuracy=replace(facts.accuracy, checks=[Check("a", nan, 0.5), Check("b", 0.5, 0.4, nan, 0.6)], rmse=nan),
        latency=[replace(facts.latency[0], checks=[])],
        fronts=[replace(facts.fronts[0], random=[(nan, 1.0)], front=[])],
        chosen=[replace(facts.chosen[0], latency_low_ms=nan, latency_high_ms=nan)],
    )
    page = render(broken)
    Checked(page)
    drawn = " ".join(re.findall(r' (?:d|x|y|cx|cy|transform)="([^"]*)"', page))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_write_report_is_whole_or_not_at_all(facts, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, facts)
    assert path.read_text(encoding="utf-8") == render(facts)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.stat().st_size < 400_000
    with pytest.raises(FileError, match="no such file or folder"):
        write_report(tmp_path / "missing" / "report.html", facts)
