import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall.errors import ArchError
from onceforall.picture import KERNEL_COLOURS, draw
from onceforall.spaces import space

SPACE = space("mobilenet_v3", width=0.5, resolutions=(64, 96), strides=(1, 1, 2, 2, 1, 1, 2))
SVG = "{http://www.w3.org/2000/svg}"


def picture(arch, **arguments):
    return ElementTree.fromstring(draw(SPACE.lower(arch, 10), arch, **arguments))


def texts(root):
    return [node.text for node in root.iter(f"{SVG}text")]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_every_block_is_drawn_with_its_kernel_and_ratio(seed):
    arch = SPACE.sample(np.random.default_rng(seed))
    root = picture(arch)
    blocks = [block for stage in arch.stages for block in stage.blocks]
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class") == "ofa-net-block"]
    assert len(groups) == len(blocks) + 3  # stem, fixed block, head
    for group, block in zip(groups[2:-1], blocks, strict=True):
        assert group.find(f"{SVG}rect").get("fill") == KERNEL_COLOURS[block.kernel]
        labels = [node.text for node in group.iter(f"{SVG}text")]
        assert labels[:2] == [f"{block.kernel}×{block.kernel}", f"e{block.expand_ratio}"]


def test_tooltips_tell_shapes_macs_and_parameters():
    arch = SPACE.smallest()
    plan = SPACE.lower(arch, 10)
    tips = [group.find(f"{SVG}title").text for group in picture(arch).iter(f"{SVG}g") if group.get("class") == "ofa-net-block"]
    for segment, tip in zip(plan.segments, tips, strict=True):
        assert tip.startswith(segment.name)
        assert "×".join(map(str, segment.in_shape)) in tip
        assert f"{segment.macs:,} MACs, {segment.params:,} parameters" in tip


def test_everything_lies_inside_the_picture():
    root = picture(SPACE.largest(), title="largest")
    _, _, width, height = map(float, root.get("viewBox").split())
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert min(x, y, w, h) >= 0
        assert x + w <= width
        assert y + h <= height


def test_bars_show_latency_if_given_and_macs_otherwise():
    arch = SPACE.smallest()
    assert "share of MACs, %" in texts(picture(arch))
    shown = picture(arch, shares={"stem": 0.75, "head": 0.25})
    assert "share of latency, %" in texts(shown)
    assert "75.0 % of the latency" in ElementTree.tostring(shown, encoding="unicode")


def test_a_title_is_plain_text():
    svg = draw(SPACE.lower(SPACE.smallest(), 10), SPACE.smallest(), title='</svg><script>"&')
    assert "<script" not in svg
    assert '</svg><script>"&' in texts(ElementTree.fromstring(svg))


def test_pictures_can_share_a_page():
    svg = draw(SPACE.lower(SPACE.largest(), 10), SPACE.largest())
    assert not re.search(r"\bid=", svg)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme:dark" in svg


@pytest.mark.parametrize("kernels", [(3,), (1, 9, 11)])
def test_other_kernels_have_a_colour_too(kernels):
    other = space("mobilenet_v3", width=0.5, resolutions=(64,), kernels=kernels, depths=(1,))
    ElementTree.fromstring(draw(other.lower(other.largest(), 2), other.largest()))


def test_a_plan_of_another_architecture_is_refused():
    with pytest.raises(ArchError, match="not lowered from this architecture"):
        draw(SPACE.lower(SPACE.largest(), 10), SPACE.smallest())


@pytest.mark.parametrize(
    ("shares", "message"), [({"neck": 0.1}, "'neck'"), ({"stem": 1.2}, "1.2"), ({"stem": float("nan")}, "nan")]
)
def test_wrong_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        draw(SPACE.lower(SPACE.smallest(), 10), SPACE.smallest(), shares=shares)
