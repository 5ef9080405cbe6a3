"""The facts of the reference note, and every bad argument."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Space, spaces
from onceforall.errors import SpaceError
from onceforall.ops import Activation, Add, Conv, Norm, Scale
from onceforall.spaces.blocks import make_divisible, mobile_block
from small_spaces import SPACES


def widths(space: Space) -> list[int]:
    plan = space.lower(space.largest())
    stem, fixed, head = plan.segments[0], plan.segments[1], plan.segments[-1]
    wide, mixed = (op.shape[0] for op in head.ops if isinstance(op, Conv))
    return [stem.out_shape[0], fixed.out_shape[0], *(stage.widths[0] for stage in space.stages), wide, mixed]


def test_widths() -> None:
    assert widths(SPACES["default"]) == [16, 16, 24, 40, 80, 112, 160, 960, 1280]
    assert widths(onceforall.space("mobilenet_v3", width=1.2)) == [24, 24, 32, 48, 96, 136, 192, 1152, 1536]


def test_default_choices() -> None:
    space = SPACES["default"]
    assert space.resolutions == tuple(range(128, 225, 4))
    assert {(c.depths, c.kernels, c.expand_ratios) for c in space.stages} == {((2, 3, 4), (3, 5, 7), (3, 4, 6))}


def test_largest_network() -> None:
    """7,664,760 parameters are the whole supernet without its kernel matrices, and its largest network has them all."""
    space = SPACES["default"]
    assert space.lower(space.largest(224)).params == 7_664_760
    assert space.lower(space.largest(224)).macs == largest_macs(224)
    assert space.lower(space.largest(224)).macs == 566_170_656


def largest_macs(resolution: int) -> int:
    """Counted anew from the reference note's list, by plain arithmetic."""
    size = (resolution - 1) // 2 + 1
    macs = size**2 * 16 * 3 * 9 + size**2 * 16 * (9 + 16)
    before = 16
    for width, stride, se in ((24, 2, False), (40, 2, True), (80, 2, False), (112, 1, True), (160, 2, True)):
        for block in range(4):
            middle = before * 6
            macs += size**2 * before * middle
            size = (size - 1) // (stride if block == 0 else 1) + 1
            macs += size**2 * middle * 49 + size**2 * middle * width
            if se:
                macs += 2 * middle * make_divisible(middle // 4)
            before = width
    return macs + size**2 * 160 * 960 + 960 * 1280 + 1280 * 1000


@pytest.mark.parametrize("resolution", [128, 132, 196, 224])
def test_macs_at_any_resolution(resolution: int) -> None:
    space = SPACES["default"]
    assert space.lower(space.largest(resolution)).macs == largest_macs(resolution)


@pytest.mark.parametrize("resolution", [100, 101, 99, 28, 33])
def test_sizes_of_odd_resolutions(resolution: int) -> None:
    """int((f − 1) / stride + 1), the rule of the published latency tables."""
    space = onceforall.space("mobilenet_v3", resolutions=(resolution,))
    sizes = [segment.out_shape[1] for segment in space.lower(space.smallest()).segments[:-1]]
    expected, size = [], resolution
    for stride in (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 2, 1):
        size = int((size - 1) / stride + 1)
        expected.append(size)
    assert sizes == expected


def test_strides_for_small_images() -> None:
    space = SPACES["strided"]
    plan = space.lower(space.largest(28))
    assert {s.name: s.out_shape[1] for s in plan.segments if s.name.endswith(".0")} == {
        "stages.0.0": 14, "stages.1.0": 7, "stages.2.0": 7, "stages.3.0": 7, "stages.4.0": 4,
    }  # fmt: skip


def test_activations_gates_and_shortcuts() -> None:
    space = SPACES["default"]
    for segment in space.lower(space.largest()).segments:
        functions = {op.function for op in segment.ops if isinstance(op, Activation)} - {"h_sigmoid"}
        shortcut = any(isinstance(op, Add) for op in segment.ops)
        gate = any(isinstance(op, Scale) for op in segment.ops)
        assert {op.eps for op in segment.ops if isinstance(op, Norm)} == {1e-5}
        if segment.name == "fixed":
            assert (functions, shortcut, gate) == ({"relu"}, True, False)
        if segment.name.startswith("stages."):
            stage, block = map(int, segment.name.split(".")[1:])
            assert "h_swish" in functions if stage >= 2 else functions == {"relu"}
            assert gate == (stage in (1, 3, 4))
            assert shortcut == (block > 0)
        if segment.name in ("stem", "head"):
            assert functions == {"h_swish"}


def test_the_feature_mix_has_neither_norm_nor_bias() -> None:
    space = SPACES["default"]
    head = space.lower(space.largest()).segments[-1]
    assert [op.name for op in head.ops if isinstance(op, Norm)] == ["expand.norm"]
    assert [op.bias for op in head.ops if isinstance(op, Conv)] == [False, False]


def test_no_expansion_no_convolution() -> None:
    ops = mobile_block("b", (16, 8, 8), 16, middle=16, kernel=3, stride=1, activation="relu").ops
    assert [op.name for op in ops] == ["depthwise.conv", "depthwise.norm", "depthwise.act", "project.conv", "project.norm", "add"]


@given(st.floats(0.1, 5000))
def test_make_divisible(value: float) -> None:
    result = make_divisible(value)
    assert result % 8 == 0
    assert result >= 8
    assert result >= 0.9 * value
    assert result == 8 or abs(result - value) <= 4 or result - 8 < 0.9 * value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"widht": 1.0},
            "mobilenet_v3 has no argument 'widht': choose from width, resolutions, depths, kernels, .*",
        ),
        ({"family": "x"}, "mobilenet_v3 has no argument 'family'"),
        ({"width": 0}, "width is 0: it must be a number above 0 and at most 100"),
        ({"width": "1"}, "width is '1': it must be a number"),
        ({"width": float("nan")}, "width is nan"),
        ({"width": True}, "width is True"),
        ({"resolutions": ()}, r"resolutions is \(\): it must be a sequence of at least one number"),
        ({"resolutions": 224}, r"resolutions is 224: it must be a sequence of numbers, such as"),
        ({"resolutions": "224"}, "resolutions is '224': it must be a sequence of numbers"),
        ({"resolutions": ["large"]}, "resolution 'large': give a number of pixels such as 224, or HEIGHTxWIDTH"),
        ({"resolutions": (4,)}, "resolutions holds 4: each must be a whole number from 8 to 999999"),
        ({"resolutions": (64, 64)}, r"resolutions is \(64, 64\): a value is repeated"),
        ({"depths": (0,)}, "depths holds 0: each must be a whole number from 1"),
        ({"depths": (1.5,)}, "depths holds 1.5: each must be a whole number from 1"),
        ({"depths": {"2": 1}}, "depths is {'2': 1}: it must be a sequence of numbers"),
        ({"depths": (True, 2)}, r"depths is \(True, 2\): it must be a sequence of numbers"),
        ({"kernels": (4,)}, "kernels holds 4: each must be an odd number from 1"),
        ({"kernels": (3, None)}, r"kernels is \(3, None\): it must be a sequence of numbers"),
        ({"expand_ratios": (1,)}, "expand_ratios holds 1: each must be a number from 1.01"),
        ({"expand_ratios": (float("inf"),)}, "expand_ratios holds inf"),
        ({"expand_ratios": (10**400,)}, "it must be a sequence of numbers"),
        ({"strides": (2, 2)}, "strides has 2 values, it must have 7"),
        ({"strides": (0, 1, 1, 1, 1, 1, 1)}, "strides holds 0: each must be a whole number from 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    text = json.dumps({"format": "onceforall.space/1", "family": "mobilenet_v3", "arguments": arguments})
    if "family" not in arguments:
        with pytest.raises(SpaceError, match=message):
            onceforall.space("mobilenet_v3", **arguments)
    if not any(isinstance(value, tuple) for value in arguments.values()):
        with pytest.raises(SpaceError, match=message):
            spaces.from_json(text)


def test_unknown_family() -> None:
    with pytest.raises(SpaceError, match="unknown family 'mobilenet_v2': choose one of mobilenet_v3"):
        onceforall.space("mobilenet_v2")


def test_any_sequence_of_numbers_will_do() -> None:
    same = onceforall.space("mobilenet_v3", resolutions=(160, 176, 192))
    for values in ([192, 160, 176], range(160, 193, 16), np.array([160, 176, 192]), (160.0, 176.0, 192.0)):
        other = onceforall.space("mobilenet_v3", resolutions=values)
        assert other == same
        assert other.to_json() == same.to_json()


def test_json_round_trip(space: Space) -> None:
    again = spaces.from_json(space.to_json())
    assert again == space
    assert again.to_json() == space.to_json()


def test_without_choices_the_whole_space_is_read() -> None:
    space = SPACES["half"]
    data = json.loads(space.to_json())
    del data["choices"]
    assert spaces.from_json(json.dumps(data)) == space


def test_json_round_trip_of_a_part() -> None:
    space = SPACES["half"]
    part = space.restrict(kernels=(3,), depths=(2, 4), resolutions=(80,))
    again = spaces.from_json(part.to_json())
    assert again == part != space
    assert again.to_json() == part.to_json() != space.to_json()
    assert space.restrict(kernels=(3, 5)).to_json() == space.to_json()


@pytest.mark.parametrize(
    "change", [{"resolutions": [81]}, {"resolutions": []}, {"resolutions": 80}, {"stages": []}, {"stages": {}}, {"stages": [1] * 5}]
)
def test_choices_outside_the_space(change: dict[str, Any]) -> None:
    data = json.loads(SPACES["half"].to_json())
    data["choices"] |= change
    with pytest.raises(SpaceError, match="not a space: its choices are not among those of its mobilenet_v3 arguments"):
        spaces.from_json(json.dumps(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_gives_a_space_error(text: str) -> None:
    with pytest.raises(SpaceError):
        spaces.from_json(text)


@given(
    st.sampled_from(["format", "family", "arguments", "choices"])
    | st.sampled_from(["width", "resolutions", "depths", "kernels", "expand_ratios", "strides", "family", "self"]),
    JSON | st.lists(st.integers(1, 200) | st.floats(), max_size=8),
)
def test_a_spoilt_space_gives_a_space_error_or_a_sound_space(key: str, value: Any) -> None:
    data = json.loads(SPACES["strided"].to_json())
    (data if key in data else data["arguments"])[key] = value
    try:
        space = spaces.from_json(json.dumps(data))
    except SpaceError:
        return
    assert spaces.from_json(space.to_json()) == space
    assert space.largest() in space


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"format": "onceforall.space/1", "family": [], "arguments": {}}'])
def test_hostile_text(text: str) -> None:
    with pytest.raises(SpaceError):
        spaces.from_json(text)
