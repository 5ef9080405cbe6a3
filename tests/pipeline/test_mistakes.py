"""The photographs that a network takes for something else: which are kept, and how the report shows them."""

import base64
import html
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onceforall.pipeline import Budget, Run, specialise
from onceforall.pipeline.specialising.mistakes import EACH, MOST, SIDE, Mistake, as_bits, from_bits, worst_mistakes
from onceforall.report import report
from onceforall.report.confusion import confusion_part
from onceforall.scores import Confusion, Difference
from tiny_run import edited


def test_the_surest_are_kept(measured: Path) -> None:
    images = Run.open(measured).splits().train
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), len(images))
    probabilities[:5] = 0.05 + 0.5 * np.eye(10)[images.labels[:5]]  # these are right
    found = worst_mistakes(images, probabilities)
    wrong = Counter(zip(images.labels.tolist(), probabilities.argmax(1).tolist(), strict=True))
    assert len(found) == min(MOST, sum(min(EACH, number) for (label, said), number in wrong.items() if label != said)) > 20
    assert not {one.image for one in found} & set(images.names[:5])
    sure = [one.confidence for one in found]
    assert sure == sorted(sure, reverse=True)
    assert max(Counter((one.label, one.said) for one in found).values()) <= EACH
    position = {name: i for i, name in enumerate(images.names)}
    for one in found:
        i = position[one.image]
        assert (one.label, one.said, one.confidence) == (images.labels[i], probabilities[i].argmax(), probabilities[i].max())
        picture = Image.open(io.BytesIO(base64.b64decode(one.thumbnail)))
        assert picture.format == "JPEG"
        assert max(picture.size) <= SIDE
        np.testing.assert_allclose(np.asarray(picture, float), images.pixels(i), atol=60)
        assert abs(np.asarray(picture, float) - images.pixels(i)).mean() < 6


def test_no_mistakes(measured: Path) -> None:
    images = Run.open(measured).splits().held_out
    assert worst_mistakes(images, np.eye(10)[images.labels]) == []


def test_where_small_and_large_disagree(run_copy: Path) -> None:
    """As McNemar's test has it of the same images, with photographs of what only one gets wrong."""
    space = Run.open(run_copy).space
    ends = {"small": space.smallest(), "large": space.largest()}
    made = [specialise(run_copy, [Budget()], arch=arch, name=name, export=["pytorch"])[0] for name, arch in ends.items()]
    report(run_copy)
    page = (run_copy / "report.html").read_text()
    rights = [~from_bits(one.wrong, one.test.images) for one in made]
    assert [right.mean() for right in rights] == [pytest.approx(one.test.top1) for one in made]
    assert Difference.of(rights[1], rights[0]).told("large", "small") in html.unescape(page)
    images = Run.open(run_copy).splits().open_test("a test")
    assert all(images.name(one.place) == one.image for each in made for one in each.mistakes)
    alone = [one for one in made[0].mistakes if rights[1][one.place]]
    shown = page.partition("small is wrong, large is right</b>")[2].partition("</div>")[0]
    assert shown.count("<figure>") == len(alone) > 0
    edited(run_copy / "specialised/small.json", lambda data: data.pop("wrong"))  # a file of before
    report(run_copy)
    assert "is wrong, large is right" not in (run_copy / "report.html").read_text()


@given(st.lists(st.booleans(), min_size=1))
def test_flags_round_trip(flags: list[bool]) -> None:
    assert from_bits(as_bits(np.array(flags)), len(flags)).tolist() == flags
    assert not from_bits("zz", len(flags)).any()


def test_squares_lead_to_photographs() -> None:
    confusion, _ = Confusion.of_probabilities(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
    shown = [Mistake("<b>.jpg", 0, 1, 0.8, "AAAA")]
    page = str(confusion_part("net 5ms", confusion, ["cat", "d<g"], shown))
    (place,) = re.findall(r'href="#([^"]+)"', page)
    assert f'<div id="{place}"><b>cat taken for d&lt;g</b>' in page
    assert "data:image/jpeg;base64,AAAA" in page
    assert 'title="&lt;b&gt;.jpg"' in page
    assert "80.0 % sure" in page
    assert "href" not in str(confusion_part("net 5ms", confusion, ["cat", "d<g"]))
