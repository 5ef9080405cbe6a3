"""The search space: what it holds, how many, and what it says about everything else."""

import copy
import pickle
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Arch, Space
from onceforall.arch import Block, Stage
from onceforall.errors import ArchError, SpaceError
from small_spaces import SPACES


def all_archs(space: Space) -> list[Arch]:
    """Brute force, from the definition."""
    per_stage = []
    for c in space.stages:
        blocks = [Block(k, e) for k, e in product(c.kernels, c.expand_ratios)]
        per_stage.append([Stage(w, run) for w in c.widths for d in c.depths for run in product(blocks, repeat=d)])
    return [Arch(r, stages) for r in space.resolutions for stages in product(*per_stage)]


def tiny(stages: int, **choices: Any) -> Space:
    """A space cut down to a few stages, for counting; it cannot be lowered."""
    space = onceforall.space("mobilenet_v3", width=0.25, **choices)
    return replace(space, stages=space.stages[:stages])


@pytest.mark.parametrize(
    "space",
    [
        tiny(1, resolutions=(32, 40)),
        tiny(2, resolutions=(32, 40), depths=(1, 2), kernels=(3, 5), expand_ratios=(2, 3)),
        tiny(2, resolutions=(32,), depths=(1, 3), kernels=(3,), expand_ratios=(2, 3)),
        tiny(5, resolutions=(32, 64, 96), depths=(1,), kernels=(3, 5), expand_ratios=(2,)),
        SPACES["single"],
    ],
)
def test_count_is_the_number_of_different_architectures(space: Space) -> None:
    found = all_archs(space)
    assert space.count() == len(found) == len(set(found)) == len({arch.to_json() for arch in found})
    assert all(arch in space for arch in found[:: max(1, len(found) // 500)])
    genes = space.genes(found[:2000])
    assert len(np.unique(genes, axis=0)) == len(genes)


def test_neighbours_reach_every_architecture() -> None:
    """Also those whose blocks differ where the depth changes by two at once."""
    space = tiny(1, resolutions=(32, 40), depths=(1, 3), kernels=(3, 5), expand_ratios=(2, 3))
    queue = [space.smallest()]
    seen = set(queue)
    for arch in queue:
        fresh = set(space.neighbours(arch)) - seen
        seen |= fresh
        queue += fresh
    assert seen == set(all_archs(space))


def test_count_of_the_published_space() -> None:
    assert SPACES["default"].count() == 25 * (9**2 + 9**3 + 9**4) ** 5


def test_extremes(space: Space) -> None:
    for arch, pick in ((space.largest(), max), (space.smallest(), min)):
        space.check(arch)
        assert arch.resolution == pick(space.resolutions)
        for stage, choices in zip(arch.stages, space.stages, strict=True):
            assert stage.depth == pick(choices.depths)
            assert set(stage.blocks) == {Block(pick(choices.kernels), pick(choices.expand_ratios))}
    for resolution in space.resolutions:
        assert space.largest(resolution) == replace(space.largest(), resolution=resolution)
        assert space.smallest(resolution) == replace(space.smallest(), resolution=resolution)


def test_extremes_take_the_spaces_own_number() -> None:
    for number in (np.int64(128), 128.0):
        assert type(SPACES["default"].largest(number).resolution) is int  # type: ignore[arg-type]


def test_extremes_at_an_unknown_resolution() -> None:
    with pytest.raises(ArchError, match="resolution is 100, this mobilenet_v3 space allows 128, 132, … 224"):
        SPACES["default"].largest(100)
    with pytest.raises(ArchError, match="resolution is 100, this mobilenet_v3 space allows 28, 32, 45"):
        SPACES["strided"].smallest(100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: replace(a, resolution=29), "resolution is 29, this mobilenet_v3 space allows 28, 32, 45"),
        (lambda a: replace(a, stages=a.stages[:4]), "the architecture has 4 stages, this mobilenet_v3 space has 5"),
        (lambda a: _stage(a, 1, width=99), "width of stage 1 is 99, this mobilenet_v3 space allows 16"),
        (lambda a: _stage(a, 4, blocks=()), "depth of stage 4 is 0, this mobilenet_v3 space allows 1, 2"),
        (
            lambda a: _stage(a, 0, blocks=(Block(4, 2),)),
            "kernel of block 0 in stage 0 is 4, this .* space allows 3, 5, 7",
        ),
        (
            lambda a: _stage(a, 3, blocks=(Block(3, 2), Block(3, 4))),
            "expand ratio of block 1 in stage 3 is 4, this mobilenet_v3 space allows 2, 3.5",
        ),
    ],
)
def test_check_names_the_value_and_what_is_allowed(change, message: str) -> None:  # type: ignore[no-untyped-def]
    space = SPACES["strided"]
    arch = change(space.largest())
    with pytest.raises(ArchError, match=message):
        space.check(arch)
    with pytest.raises(ArchError, match=message):
        space.lower(arch)
    with pytest.raises(ArchError, match=message):
        space.genes([arch])
    assert arch not in space


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(ArchError, match="resolution is 224"):
        SPACES["half"].check(SPACES["default"].largest())


@pytest.mark.parametrize("num_classes", [0, -1])
def test_class_count(num_classes: int) -> None:
    with pytest.raises(ArchError, match=f"num_classes is {num_classes}: a classifier needs at least 1 class"):
        SPACES["single"].lower(SPACES["single"].largest(), num_classes)


@given(st.integers(0, 2**32))
def test_restrict(seed: int) -> None:
    space = SPACES["half"]
    part = space.restrict(kernels=(3,), depths=(2, 4), resolutions=(64, 100))
    assert part.resolutions == (64, 100)
    assert {(c.kernels, c.depths, c.expand_ratios) for c in part.stages} == {((3,), (2, 4), (3, 4, 6))}
    arch = part.sample(np.random.default_rng(seed))
    assert arch in part
    assert arch in space
    assert part.lower(arch, 10) == space.lower(arch, 10)
    assert part.count() < space.count()


def test_restrict_changes_nothing_else() -> None:
    space = SPACES["half"]
    assert space.restrict() == space
    assert space.restrict(kernels=(3, 5)) == space
    assert space.restrict(kernels=(5, 3)).largest() == space.largest()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"kernel": (3,)}, "unknown choice 'kernel': use resolutions, widths, depths, kernels, expand_ratios or heads"),
        ({"kernels": (9,)}, r"kernels=\(9,\): this mobilenet_v3 space offers 3, 5"),
        ({"kernels": (3, 9)}, r"kernels=\(3, 9\): this mobilenet_v3 space offers 3, 5"),
        ({"resolutions": ()}, r"resolutions=\(\): this mobilenet_v3 space offers 64, 80, 100"),
    ],
)
def test_restrict_errors(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SPACES["half"].restrict(**choices)


def test_keep_largest() -> None:
    space = SPACES["default"]
    part = space.keep_largest(kernels=1, depths=2, expand_ratios=9)
    assert {(c.kernels, c.depths, c.expand_ratios) for c in part.stages} == {((7,), (3, 4), (3, 4, 6))}
    assert part.resolutions == space.resolutions
    assert part.largest() == space.largest()
    assert space.keep_largest() == space
    for numbers in ({"kernel": 1}, {"resolutions": 1}, {"kernels": 0}):
        with pytest.raises(
            SpaceError, match=r"cannot keep the . largest '\w+': use widths, depths, kernels, expand_ratios or heads"
        ):
            space.keep_largest(**numbers)


def test_equality_and_copies(space: Space) -> None:
    for again in (copy.deepcopy(space), pickle.loads(pickle.dumps(space)), onceforall.space(space.family, **space.arguments)):
        assert again == space
        assert hash(again) == hash(space)
        assert again.lower(again.largest(), 3) == space.lower(space.largest(), 3)
    assert all(space != other for other in SPACES.values() if other is not space)


def _stage(arch: Arch, at: int, **changes: Any) -> Arch:
    stages = list(arch.stages)
    stages[at] = replace(stages[at], **changes)
    return replace(arch, stages=tuple(stages))
