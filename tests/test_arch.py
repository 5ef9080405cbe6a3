"""One network is one `Arch`, one text, one hash; no text whatever gives anything but an `Arch` or an `ArchError`."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall import Arch
from onceforall.arch import Block, Stage
from onceforall.errors import ArchError
from small_spaces import SPACES

ARCH = SPACES["strided"].largest()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers(-3, 400) | st.floats() | st.booleans() | st.none() | st.just(10**400)


@st.composite
def nearly_archs(draw: st.DrawFn) -> dict[str, Any]:
    """The JSON of an architecture with one place overwritten."""
    data: Any = json.loads(ARCH.to_json())
    place = data
    for key in draw(st.sampled_from([(), ("stages",), ("stages", 1), ("stages", 1, "blocks"), ("stages", 1, "blocks", 0)])):
        place = place[key]
    key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
    place[key] = draw(JSON | NUMBERS)
    return dict(data)


@given(st.integers(0, 2**32), st.sampled_from(sorted(SPACES)))
def test_json_round_trip(seed: int, name: str) -> None:
    arch = SPACES[name].sample(np.random.default_rng(seed))
    again = Arch.from_json(arch.to_json())
    assert again == arch
    assert hash(again) == hash(arch)
    assert again.to_json() == arch.to_json()


def test_equal_architectures_have_one_hash_and_one_text() -> None:
    whole = Arch(64, (Stage(24, (Block(3, 4), Block(5, 6))),))
    other = Arch(int(np.int64(64)), (Stage(24, (Block(3, 4.0), Block(5, 6.0))),))
    numpy_made = Arch(np.int64(64), (Stage(np.int64(24), (Block(np.int64(3), np.float64(4)), Block(5, 6))),))  # type: ignore[arg-type]
    assert whole == other == numpy_made
    assert hash(whole) == hash(other) == hash(numpy_made)
    assert whole.to_json() == other.to_json() == numpy_made.to_json()
    assert Arch.from_json(whole.to_json().replace("4}", "4.0}")) == whole


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_equality_is_equality_of_texts(seed: int, other: int) -> None:
    space = SPACES["single"]
    space = replace(space, stages=(replace(space.stages[0], depths=(1, 2), kernels=(3, 5)),))
    a, b = (space.sample(np.random.default_rng(s)) for s in (seed, other))
    assert (a == b) == (a.to_json() == b.to_json())


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ARCH.resolution = 5  # type: ignore[misc]


def test_depths() -> None:
    assert ARCH.depths == (2,) * 5
    assert ARCH.stages[0].depth == 2


@given(st.text() | JSON.map(json.dumps))
def test_any_text_gives_an_arch_error(text: str) -> None:
    with pytest.raises(ArchError):
        Arch.from_json(text)


@given(nearly_archs())
def test_a_spoilt_architecture_gives_an_arch_error_or_a_sound_architecture(data: dict[str, Any]) -> None:
    try:
        arch = Arch.from_json(json.dumps(data))
    except ArchError:
        return
    assert Arch.from_json(arch.to_json()) == arch


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, "NaN", "null"])
def test_hostile_text(text: str) -> None:
    with pytest.raises(ArchError):
        Arch.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "other/2"},
            "unknown architecture format 'other/2': this version reads 'onceforall.arch/1'",
        ),
        ({"resolution": 0}, "resolution: expected a whole number of at least 1, found 0"),
        ({"resolution": 64.5}, "resolution: expected a whole number of at least 1, found 64.5"),
        ({"resolution": True}, "resolution: expected a whole number of at least 1, found True"),
        ({"stages": {}}, "stages: expected a list, found dict"),
        ({"stages": [{"width": 8}]}, r"stages\[0\]: expected an object with exactly \['blocks', 'width'\], found \['width'\]"),
        (
            {"stages": [{"width": 8, "blocks": [{"kernel": 3, "expand_ratio": float("nan")}]}]},
            r"stages\[0\].blocks\[0\].expand_ratio: expected a positive number, found nan",
        ),
        ({"extra": 1}, r"architecture: expected an object with exactly \['format', 'resolution', 'stages'\], found .*'extra'"),
    ],
)
def test_messages_name_the_place_the_value_and_what_is_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchError, match=message):
        Arch.from_json(json.dumps(json.loads(ARCH.to_json()) | change))
