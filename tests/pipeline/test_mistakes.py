"""The photographs that a network takes for something else: which are kept, and how the report shows them."""

import base64
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from onceforall.pipeline import Run
from onceforall.pipeline.specialising.mistakes import EACH, MOST, SIDE, Mistake, worst_mistakes
from onceforall.report.confusion import confusion_part
from onceforall.scores import Confusion


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
