"""The original's settings of sub-networks: there and back over each whole space, and whatever else they may hold."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from golden_recipe import FACTS
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Space, published
from onceforall.errors import ArchError

SPACES = {name: published.published_space(name) for name in published.NAMES}
MOBILE, _, PROXYLESS, RESNET = SPACES.values()
STAGES = {"mobilenet_v3": [4] * 5, "proxyless": [4] * 5 + [1], "resnet50d": [4, 4, 6, 4]}  # places in the lists
WIDTHS = ((24, 24, 32), (40, 48, 64), (168, 208, 256), (336, 408, 512), (664, 816, 1024), (1328, 1640, 2048))
spaces = st.sampled_from(list(SPACES.values()))


def listed(length: int, values: list[Any]) -> st.SearchStrategy[Any]:
    """One number for all, or one for each, as lists or arrays."""
    one = st.sampled_from(values)
    many = st.lists(one, min_size=length, max_size=length)
    return one | one.map(np.array) | many | many.map(tuple) | many.map(np.array)


@st.composite
def drawn_like_the_original(draw: st.DrawFn) -> tuple[Space, dict[str, Any]]:
    space = draw(spaces)
    places = sum(STAGES[space.family])
    if space.family == "resnet50d":
        depths = draw(st.tuples(st.sampled_from([0, 2]), *[st.integers(0, 2)] * 4))
        settings = {"d": list(depths), "e": draw(listed(places, [0.2, 0.25, 0.35])), "w": draw(listed(6, [0, 1, 2]))}
    else:
        depths = draw(listed(len(STAGES[space.family]), [2, 3, 4]))
        settings = {"ks": draw(listed(places, [3, 5, 7])), "e": draw(listed(places, [3, 4, 6])), "d": depths}
    resolution = draw(st.integers(32, 56)) * 4
    settings |= draw(
        st.sampled_from([{"image_size": resolution}, {"r": [resolution]}, {"image_size": resolution, "r": resolution}])
    )
    return space, settings


def expected(family: str, settings: dict[str, Any]) -> list[Any]:
    """Width, then (kernel, ratio) of each block that is there, stage by stage: straight from the reference note."""

    def value(name: str, place: int) -> Any:
        entry = settings[name]
        return np.array(entry).item() if np.ndim(entry) == 0 else entry[place]

    result, start = [], 0
    for stage, places in enumerate(STAGES[family]):
        if family == "resnet50d":
            depth = (2, 2, 4, 2)[stage] + value("d", stage + 1)
            width = WIDTHS[stage + 2][value("w", stage + 2)]
        else:
            depth, width = 1 if places == 1 else value("d", stage), None
        blocks = [(value("ks", i) if family != "resnet50d" else 3, value("e", i)) for i in range(start, start + depth)]
        result.append((width, blocks))
        start += places
    return result


@given(drawn_like_the_original())
def test_settings_to_arch_and_back(drawn: tuple[Space, dict[str, Any]]) -> None:
    space, given_settings = drawn
    arch = published.arch(space, given_settings)
    assert arch in space
    stages = arch.stages[2:] if space.family == "resnet50d" else arch.stages
    found = [(stage.width, [(block.kernel, block.expand_ratio) for block in stage.blocks]) for stage in stages]
    for (width, blocks), (wanted_width, wanted) in zip(found, expected(space.family, given_settings), strict=True):
        assert blocks == wanted
        assert wanted_width in (None, width)
    again = published.settings(space, arch)
    json.dumps(again)
    assert published.arch(space, again) == arch
    assert published.settings(space, published.arch(space, again)) == again


@given(spaces, st.integers(0, 2**32))
def test_arch_to_settings_and_back(space: Space, seed: int) -> None:
    genes = space.sample_genes(np.random.default_rng(seed), 3)
    for arch in space.archs(genes):
        settings = json.loads(json.dumps(published.settings(space, arch)))
        assert published.arch(space, settings) == arch
        assert published.arch(space, settings).to_json() == arch.to_json()
    assert (space.genes([published.arch(space, published.settings(space, arch)) for arch in space.archs(genes)]) == genes).all()


@pytest.mark.parametrize("name", SPACES)
def test_parameters_of_the_golden_architectures(name: str) -> None:
    space, entries = SPACES[name], FACTS[name]["archs"]
    assert len(entries) == 12
    for entry in entries:
        arch = published.arch(space, entry["arch"], entry["resolution"])
        assert space.lower(arch).params == entry["subnet_params"]


@pytest.mark.parametrize("w", [0, 1, 2])
def test_widths_are_indices(w: int) -> None:
    arch = published.arch(RESNET, {"e": 0.2, "d": 0, "w": w}, 128)
    assert [stage.width for stage in arch.stages] == [widths[w] for widths in WIDTHS]


def test_the_stem_convolution_is_kept_by_the_largest_depth_only() -> None:
    assert [published.arch(RESNET, {"e": 0.2, "d": [d, 0, 0, 0, 0], "w": 0}, 128).stages[0].depth for d in (0, 1, 2)] == [1, 1, 2]


def test_two_multipliers_of_one_width_are_one_network() -> None:
    space = onceforall.space("resnet50d", width=0.125)
    made = {w: published.arch(space, {"e": 0.2, "d": 0, "w": w}, 128) for w in range(3)}
    assert made[0].stages[0] == made[1].stages[0] == made[2].stages[0], "half of 8 channels rounds to 8 always"
    assert published.settings(space, made[2])["w"][0] == 0
    assert all(published.arch(space, published.settings(space, arch)) == arch for arch in made.values())


def test_the_sixth_depth_of_proxyless_does_not_count() -> None:
    made = {published.arch(PROXYLESS, {"ks": 3, "e": 3, "d": [2] * 5 + [d]}, 128) for d in (1, 2, 3, 4)}
    assert made == {PROXYLESS.smallest()}
    with pytest.raises(ArchError, match="d asks for 7 blocks in stage 5: it has up to 1"):
        published.arch(PROXYLESS, {"ks": 3, "e": 3, "d": [2] * 5 + [7]}, 128)


@pytest.mark.parametrize("name", SPACES)
def test_a_part_of_a_space_takes_the_settings_of_the_whole(name: str) -> None:
    space = SPACES[name]
    part = space.keep_largest(depths=1, widths=1, expand_ratios=2).restrict(resolutions=(160, 192))
    rng = np.random.default_rng(0)
    for arch in (part.largest(), part.smallest(), part.sample(rng)):
        assert published.settings(part, arch) == published.settings(space, arch)
        assert published.arch(part, published.settings(space, arch)) == arch
    with pytest.raises(ArchError, match="allows"):
        published.arch(part, published.settings(space, space.smallest(160)))
    with pytest.raises(ArchError, match="allows"):
        published.settings(part, space.smallest(160))


def test_search_results_of_the_original() -> None:
    found = {"wid": None, "ks": [7] * 20, "e": [6.0] * 16 + [0] * 4, "d": [4, 4, 4, 4, 2], "r": [224]}
    with pytest.raises(ArchError, match="expand ratio of block 0 in stage 4 is 0, this mobilenet_v3 space allows 3, 4, 6"):
        published.arch(MOBILE, found)
    found["e"] = [6.0] * 18 + [0] * 2
    arch = published.arch(MOBILE, found)
    assert arch.depths == (4, 4, 4, 4, 2)
    assert '"expand_ratio": 6}' in arch.to_json()


GOOD = {"ks": 3, "e": 3, "d": 2}
LISTS: dict[str, list[Any]] = {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}


def one_of(name: str, place: int, value: object) -> dict[str, Any]:
    return {**LISTS, name: [*LISTS[name][:place], value, *LISTS[name][place + 1 :]]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ks": 3, "e": 3}, "settings have no 'd': a mobilenet_v3 network needs it, a number or 5 of them"),
        ({"e": 3, "d": 2}, "settings have no 'ks': .* a number or 20 of them"),
        ({}, "settings have no 'ks'"),
        ({**GOOD, "w": 0}, "settings have an unknown entry 'w': a mobilenet_v3 network has ks, e, d"),
        ({**GOOD, 3: 3}, "settings have an unknown entry 3"),
        ({**GOOD, "wid": 1}, "settings have an unknown entry 'wid'"),
        ({**GOOD, "ks": [3] * 19}, "ks has 19 values: mobilenet_v3 needs 20, or one number for all"),
        ({**GOOD, "e": np.full(21, 3)}, "e has 21 values"),
        ({**GOOD, "d": []}, "d has 0 values: mobilenet_v3 needs 5"),
        ({**GOOD, "ks": "3"}, "ks holds '3': it must be a number"),
        ({**GOOD, "ks": b"\3" * 20}, "ks holds b'"),
        ({**GOOD, "d": "22222"}, "d holds '22222': it must be a number"),
        ({**GOOD, "e": None}, "e holds None: it must be a number"),
        ({**GOOD, "e": {"0": 3}}, "e holds {'0': 3}: it must be a number"),
        ({**GOOD, "ks": np.full((20, 2), 3)}, r"ks holds \[3, 3\]: it must be a number"),
        ({**GOOD, "ks": range(20)}, r"ks holds range\(0, 20\): it must be a number"),
        (one_of("ks", 4, "7"), "ks holds '7': it must be a number"),
        (one_of("e", 19, float("nan")), "e holds nan: it must be a number"),
        (one_of("e", 0, float("inf")), "e holds inf"),
        (one_of("e", 0, 10**400), "e holds 1000.*…: it must be a number"),
        (one_of("e", 0, np.float64("nan")), "e holds nan"),
        (one_of("d", 0, float("nan")), "d holds nan"),
        (one_of("d", 0, True), "d holds True: it must be a number"),
        (one_of("ks", 0, np.bool_(True)), "ks holds True"),
        (one_of("ks", 0, [3]), r"ks holds \[3\]"),
        (one_of("ks", 0, 9), "kernel of block 0 in stage 0 is 9, this mobilenet_v3 space allows 3, 5, 7"),
        (one_of("ks", 0, 3.5), "kernel of block 0 in stage 0 is 3.5"),
        (one_of("e", 13, 5), "expand ratio of block 1 in stage 3 is 5, this mobilenet_v3 space allows 3, 4, 6"),
        (one_of("d", 2, 7), "d asks for 7 blocks in stage 2: it has up to 4"),
        (one_of("d", 2, -1), "d asks for -1 blocks in stage 2"),
        (one_of("d", 2, 2.5), "d asks for 2.5 blocks in stage 2"),
        (one_of("d", 4, 1), "depth of stage 4 is 1, this mobilenet_v3 space allows 2, 3, 4"),
        ({**GOOD, "image_size": 160}, "the resolution is 128 and 160: it must be one whole number of pixels"),
        ({**GOOD, "r": [160]}, "the resolution is 128 and 160"),
        ({**GOOD, "r": [128, 160]}, r"the resolution is 128 and \[128, 160\]"),
        ({**GOOD, "r": "128"}, "the resolution is 128 and '128'"),
        ({**GOOD, "r": None}, "the resolution is 128 and None"),
        ({**GOOD, "image_size": 128, "r": True}, "the resolution is 128 and 128 and True"),
        ([3, 3, 2], r"settings are \[3, 3, 2\]: give a dictionary such as"),
        (None, "settings are None"),
        ("ks=3\ne=3", r"settings are 'ks=3\\ne=3'"),
    ],
)
def test_bad_settings(settings: Any, message: str) -> None:
    with pytest.raises(ArchError, match=message) as caught:
        published.arch(MOBILE, settings, 128)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": 3}, "w holds 3: it must be an index from 0 to 2"),
        ({"w": -1}, "w holds -1: it must be an index from 0 to 2"),
        ({"w": 0.65}, "w holds 0.65: it must be an index from 0 to 2"),
        ({"w": [0] * 5}, "w has 5 values: resnet50d needs 6"),
        ({"w": True}, "w holds True"),
        ({"d": [2] * 4}, "d has 4 values: resnet50d needs 5"),
        ({"d": 7}, "d of the stem is 7: it must be one of 0, 1, 2; 2 keeps it"),
        ({"d": [2, 0, 0, 7, 0]}, "d asks for 11 blocks in stage 4: it has up to 6"),
        ({"d": [2, 0, 0, -1, 0]}, "depth of stage 4 is 3, this resnet50d space allows 4, 5, 6"),
        ({"e": 0.3}, "expand ratio of block 0 in stage 2 is 0.3, this resnet50d space allows 0.2, 0.25, 0.35"),
        ({"e": [0.2] * 20}, "e has 20 values: resnet50d needs 18"),
        ({"ks": 5}, "kernel of block 0 in stage 2 is 5, this resnet50d space allows 3"),
    ],
)
def test_bad_settings_of_resnet(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchError, match=message) as caught:
        published.arch(RESNET, {"e": 0.2, "d": 0, "w": 0, **change}, 128)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        (None, "no resolution: pass it, or add image_size to the settings"),
        (127, "resolution is 127, this mobilenet_v3 space allows 128, 132, … 224"),
        (128.5, "resolution is 128.5, this"),
        ("128", "the resolution is '128': it must be one whole number"),
        (True, "the resolution is True"),
        (float("nan"), "the resolution is nan"),
    ],
)
def test_bad_resolutions(resolution: Any, message: str) -> None:
    with pytest.raises(ArchError, match=message):
        published.arch(MOBILE, GOOD, resolution)


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.float32, float])
def test_numbers_of_numpy(kind: Callable[[int], Any]) -> None:
    settings = {"ks": [kind(3)] * 20, "e": kind(3), "d": np.array([kind(2)] * 5), "r": [kind(128)]}
    for resolution in (None, kind(128), 128):
        arch = published.arch(MOBILE, settings, resolution)
        assert arch == MOBILE.smallest()
        assert arch.to_json() == MOBILE.smallest().to_json()


def test_a_family_that_the_original_has_not() -> None:
    space = onceforall.space("mobilenet_v3")
    other = type(space)("mine", space.arguments, space.resolutions, space.stages, space.lowering)
    known = "its settings describe mobilenet_v3, proxyless, resnet"
    with pytest.raises(ArchError, match=f"mine is not one of the original's families: {known}"):
        published.arch(other, GOOD, 128)
    with pytest.raises(ArchError, match="mine is not one of the original's families"):
        published.settings(other, space.largest())


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10) | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@given(spaces, st.dictionaries(st.sampled_from(["ks", "e", "d", "w", "r", "image_size", "x"]), ANY), ANY)
def test_anything_gives_an_arch_error_or_a_network_of_the_space(space: Space, settings: dict[str, Any], resolution: Any) -> None:
    complete = {"e": 0.2, "d": 2, "w": 0} if space.family == "resnet50d" else GOOD
    for given_settings in (settings, {**complete, **settings}):
        try:
            arch = published.arch(space, given_settings, resolution)
        except ArchError as error:
            message = str(error)
        else:
            message = ""
            assert arch in space
        assert "\n" not in message
        assert len(message) < 500
