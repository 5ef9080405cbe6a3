import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path

import pytest

from onceforall.accuracy import AccuracyRow
from onceforall.common.files import write_text
from onceforall.latency import Timing
from onceforall.picture import draw
from onceforall.pipeline.comparison.versus import Costs
from onceforall.pipeline.run_directory.info import Imported, Origin
from onceforall.pipeline.run_directory.metrics import Metric, Metrics
from onceforall.report.drawing import Point
from onceforall.report.page import SECTIONS, render

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
    return re.search(rf'<section id="{key}"[^>]*>(.*?)</section>', page, re.S).group(1)


def texts(value):
    if isinstance(value, str | Path):
        yield str(value)
    elif is_dataclass(value):
        for field in fields(value):
            yield from texts(getattr(value, field.name))
    elif isinstance(value, dict):
        for pair in value.items():
            yield from texts(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def told(shown, **changes):
    """The run with another run.json."""
    return replace(shown.run, info=replace(shown.run.info, **changes))


def test_the_page_is_well_formed_and_has_every_section(facts):
    page = Checked(render([facts]))
    assert [key for key in page.ids if key != "problems"] == list(SECTIONS)
    assert "problems" in page.ids
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_and_no_script_runs(facts):
    text = render([facts])
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
    page = render([hostile])
    assert "<script" not in page
    assert Checked(page).tags == Checked(render([facts])).tags
    assert page.count("</style>") == 1 + len(hostile.chosen)
    several = render([hostile, hostile])
    assert "<script" not in several
    assert Checked(several).tags == Checked(render([facts, facts])).tags


def test_numbers_of_a_chosen_network_are_on_the_page(facts):
    one = facts.chosen[1]
    made = one.made
    section = body(render([facts]), "chosen")
    picture = draw(one.plan, made.arch, shares=made.shares)
    for expected in (
        one.name,
        str(made.budget),
        str(made.folder),
        "97 % of budget",
        "n = 3,925",
        f"{100 * made.test.top1:.1f} %",
        picture,
    ):
        assert expected in section


def test_the_accuracy_at_the_top_is_the_best_not_the_slowest_network_s(facts):
    *others, slowest = facts.chosen
    assert slowest.made.test.top1 == max(one.made.test.top1 for one in facts.chosen)
    worse = replace(slowest, made=replace(slowest.made, test=replace(slowest.made.test, top1=0.3)))
    page = render([replace(facts, chosen=[*others, worse])])
    assert f"test top-1 of the best network, {others[-1].name}" in page
    assert "test top-1 of the best network, under 8 ms" not in page


def test_fixed_networks_are_shown_whoever_wins(facts):
    section = body(render([facts]), "compared")
    for expected in ("ours 1", "timm:small@96", "+1.0", "−0.2 to +2.2", "80.0 %", "n = 3,925", "1 of 2 budgets", "From 3 dev"):
        assert expected in section
    lost = replace(facts.compared.verdicts[0], difference=-0.03, low=-0.05, high=-0.01)
    won = replace(facts.compared, verdicts=(lost,), costs=Costs(4000.0, 2000.0, 1500.0))
    section = body(render([replace(facts, compared=won)]), "compared")
    assert '<td class="left words">fixed</td>' in section
    assert "−3.0" in section
    assert "Ours always takes longer." in section
    assert "<title>ours 1\n" in section  # marks of the chart
    assert "<title>small@96\n" in section
    imported = replace(facts, compared=None, run=told(facts, imported=Imported("file", "0", "name")))
    assert "no recipe" in body(render([imported]), "compared")


def test_quality_of_the_predictors_is_on_the_page(facts):
    page = render([facts])
    assert "0.71 points" in body(page, "accuracy")
    assert "0.891" in body(page, "accuracy")
    for table, _ in facts.tables:
        low, high = table.errors.interval(lambda errors: errors.mape)
        assert f"{100 * table.errors.mape:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)" in body(page, "latency")
    assert body(page, "latency").count("<figure") == 2  # one for each device


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("training", "ofa train DATA --out runs/imagenette"),
        ("subnets", "ofa predict runs/imagenette"),
        ("chosen", "ofa specialise runs/imagenette --latency 5ms"),
        ("front", "ofa predict runs/imagenette"),
        ("accuracy", "ofa predict runs/imagenette"),
        ("latency", "ofa profile runs/imagenette"),
        ("compared", "ofa compare runs/imagenette --with torchvision:mobilenet_v3_small.DEFAULT"),
    ],
)
def test_a_section_without_data_names_the_command(empty, key, command):
    page = render([empty])
    Checked(page)
    assert command in body(page, key)
    assert 'id="problems"' not in page


def test_a_folder_with_spaces_is_quoted_in_commands(empty):
    page = render([replace(empty, run=replace(empty.run, folder=Path("my run")))])
    assert "ofa predict &#39;my run&#39;" in page


def test_values_that_are_not_finite_do_not_break_the_page(facts):
    (device, front), *_ = facts.fronts.items()
    odd = [Point("a", nan, 0.5), Point("b", 0.5, 0.4, (0.1, inf), (nan, 0.6))]
    made = facts.chosen[0].made
    broken = replace(
        facts,
        training=Metrics(
            (
                *(Metric("train", step, 1.0, loss=loss, rate=0.1) for step, loss in enumerate((nan, inf, 1.0))),
                Metric("validation", 1, 1.0, subnet="largest", top1=nan),
            )
        ),
        checks=replace(facts.checks, points=odd, errors={**facts.checks.errors, "rmse": nan}),
        tables=[(facts.tables[0][0], [])],
        fronts={device: replace(front, random=[(nan, 1.0)], front=[], elsewhere=[Point("a", nan, 0.5), Point("b", 1.0, inf)])},
        subnets=[(AccuracyRow(made.arch, top1, 1.0, 100, 1.0), 5) for top1 in (nan, 0.5)],
        chosen=[replace(facts.chosen[0], made=replace(made, latency=Timing(1.94, nan, nan, 100)))],
    )
    page = render([broken])
    Checked(page)
    drawn = " ".join(re.findall(r' (?:d|x|y|cx|cy|transform)="([^"]*)"', page))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_the_page_is_not_large(facts, tmp_path):
    write_text(tmp_path / "report.html", render([facts]))
    assert (tmp_path / "report.html").stat().st_size < 500_000


def test_every_chart_has_a_name_a_description_and_a_table(facts):
    page = render([facts])
    charts = re.findall(r"<figure>.*?</figure>", page, re.S)
    assert len(charts) == 2 + 1 + 3 + 3 + 1 + 2
    for chart in charts:
        assert re.search(r'<svg class="chart"[^>]* role="img" aria-label="[^"]+"', chart)
        assert re.search(r"<desc>[^<]+</desc>", chart)
        assert "<summary>" in chart
        assert '<th scope="col"' in chart


def test_numbers_in_the_tables_are_those_of_the_facts(facts):
    page = render([facts])
    for point in facts.checks.points:
        assert f"{100 * point.x:.1f} %<small>" in body(page, "accuracy")
        assert f"{100 * point.y:.1f} %<small>" in body(page, "accuracy")
    front, (latency, macs) = body(page, "front"), facts.fronts.values()
    for cost, top1 in latency.front:
        assert f"{100 * top1:.1f} %" in front
        assert f"{float(f'{cost:.3g}'):g}"[:3] in front
    for point in (*latency.elsewhere, *macs.published):
        assert point.name in front
    for one in facts.chosen:
        for share in one.made.shares.values():
            assert f"{100 * share:.1f} %" in body(page, "chosen")
        assert one.made.files[0].format in body(page, "chosen")
    assert "55 min<small>3,320 steps</small>" in body(page, "costs")


def test_several_runs_stand_side_by_side(facts, other, empty):
    bare = replace(empty, name="bare", run=replace(empty.run, folder=Path("runs/bare")))
    page = render([facts, other, bare])
    assert len(Checked(page).ids) == len(set(Checked(page).ids))
    for key in ("front", "training", "subnets", "accuracy", "latency", "costs", "run"):
        assert "imagenette" in body(page, key)
        assert "other" in body(page, key)
    assert body(page, "front").count("<svg") == 2  # fronts of one device are in one chart
    assert body(page, "training").count("<svg") == 3
    assert "bare: No device was measured yet." in body(page, "latency")
    assert "ofa profile runs/bare" in body(page, "latency")
    assert "their accuracies cannot be compared" not in page
    strange = replace(other, run=told(other, data=replace(other.run.info.data, source="CIFAR-10")))
    assert "their accuracies cannot be compared" in render([facts, strange])


def test_devices_with_another_processor_have_a_chart_of_their_own(facts, other):
    moved = replace(other, fronts={(device, hardware and "phone"): s for (device, hardware), s in other.fronts.items()})
    section = body(render([facts, moved]), "front")
    assert section.count("<svg") == 3
    assert "(phone)" in section


def test_published_accuracies_are_shown_with_their_data_only(facts):
    assert "Squares: published top-1 on ImageNet" in body(render([facts]), "front")
    others = replace(facts, fronts={key: series for key, series in facts.fronts.items() if key[0] is not None})
    section = body(render([others]), "front")
    assert "Published accuracies are not shown: they are for ImageNet" in section
    assert "as published" not in section.replace("that the Once-for-All authors published", "")


def test_a_training_from_other_weights_says_so(facts):
    origin = Origin("runs/<first>", "Imagenette", "0123456789abcdef", True, True)
    started = replace(facts, run=told(facts, origin=origin))
    words = "&lt;first&gt; (Imagenette; weights 0123456789ab), with its classifier"
    assert f"<dt>started from</dt><dd>{words}</dd>" in body(render([started]), "run")
    assert "started from" not in body(render([facts]), "run")


def test_a_training_that_has_not_finished(facts):
    training, resume = Metrics((Metric("train", 700, 1.0),)), "ofa train photos --out runs/imagenette --resume"
    section = body(render([replace(facts, training=training, resume=resume)]), "training")
    assert f"step 700 of {facts.schedule.steps:,}" in section
    assert "ofa train photos --out runs/imagenette --resume" in section


def test_values_that_replace_those_of_the_preset_are_told(facts):
    row = "<dt>recipe</dt><dd>policy=trivial_augment, mixup=0.2, flip=no, crop_scale=0.35/1</dd>"
    assert row in body(render([facts]), "run")
    assert "<dt>recipe</dt>" not in body(render([replace(facts, run=told(facts, arguments={}))]), "run")
