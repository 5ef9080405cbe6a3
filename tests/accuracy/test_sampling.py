"""Which sub-networks are measured, in which groups, and what is interpolated between them."""

from dataclasses import replace
from itertools import chain, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import Space, space
from onceforall.accuracy import AccuracyRow, interpolate, measured_resolutions, spread, tree
from onceforall.accuracy.prefix_tree import grow, networks_below, share_out, units, work
from onceforall.accuracy.sampling import prefix_counts
from onceforall.costs import macs_table, segment_table
from onceforall.errors import SpaceError
from small_spaces import SPACES

TINY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3,), resolutions=(32, 48))
FEW = TINY.restrict(kernels=(3,), resolutions=(32,))  # 2^5 networks
SEGMENTS = {"tiny": segment_table(TINY, 5), **{name: segment_table(SPACES[name], 5) for name in ("half", "proxyless", "resnet")}}
MACS = macs_table(SEGMENTS["tiny"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_spread_covers_sizes_and_resolutions(seed: int, n: int) -> None:
    archs = spread(TINY, np.random.default_rng(seed), n, MACS)
    assert len(archs) == len(set(archs)) == n
    assert TINY.smallest() in archs
    assert TINY.largest() in archs
    assert archs == spread(TINY, np.random.default_rng(seed), n, MACS)
    count = np.array([sum(arch.resolution == r for arch in archs) for r in TINY.resolutions])
    assert abs(count[0] - count[1]) <= 2
    if n >= 40:
        logs = np.log(MACS.estimate(archs))
        filled = np.histogram(logs, 6)[0]
        assert (filled >= n / 6 / 4).all()


def test_spread_gives_every_network_of_a_small_space() -> None:
    assert len(set(spread(FEW, np.random.default_rng(0), 32, macs_table(segment_table(FEW, 5))))) == 32


@pytest.mark.parametrize("n", [1, 0, -3, 33])
def test_what_cannot_be_drawn(n: int) -> None:
    for draw in (lambda rng: spread(FEW, rng, n, MACS), lambda rng: tree(FEW, rng, n, segment_table(FEW, 5))):
        with pytest.raises(SpaceError, match="give a number from 2 to 32"):
            draw(np.random.default_rng(0))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(list(SEGMENTS)), st.integers(0, 10**6), st.integers(2, 80))
def test_a_tree_has_different_networks_at_every_resolution(name: str, seed: int, n: int) -> None:
    table = SEGMENTS[name]
    own = table.space
    archs = tree(own, np.random.default_rng(seed), n, table)
    assert len(archs) == len(set(archs)) == n
    assert archs == tree(own, np.random.default_rng(seed), n, table)
    assert n < 2 * len(own.resolutions) or {own.smallest(), own.largest()} <= set(archs)
    count = [sum(arch.resolution == r for arch in archs) for r in own.resolutions]
    assert max(count) - min(count) <= 1


@pytest.mark.parametrize("name", ["half", "proxyless", "resnet"])
def test_a_tree_saves_and_covers_sizes_and_choices(name: str) -> None:
    table = SEGMENTS[name]
    own = table.space
    archs = tree(own, np.random.default_rng(1), 240, table)
    plans = {arch: own.lower(arch, 5) for arch in archs}
    together = sum(sum(node.work for node in grow({arch: plans[arch] for arch in group})) for group in units(grow(plans), 32))
    one_by_one = sum(work(segment) for plan in plans.values() for segment in plan.segments)
    assert one_by_one / together > 4
    logs, genes = np.log(macs_table(table).estimate(archs)), own.genes(archs)
    for r in range(len(own.resolutions)):
        filled = np.histogram(logs[genes[:, 0] == r], 4)[0]
        assert filled.min() > 0.3 * filled.mean()
    for c, column in enumerate(own.columns):
        count = np.array([(genes[:, c] == i).sum() for i in range(len(column.choices))])
        assert count.min() > 0
        if column.block < 2:  # blocks behind them are there in large networks only, as in those of `spread`
            assert count.min() > 0.3 * count.mean(), column


def test_a_tree_gives_every_network_of_a_small_space() -> None:
    assert len(set(tree(FEW, np.random.default_rng(0), 32, segment_table(FEW, 5)))) == 32


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=20),
    st.floats(0, 10),
    st.integers(1, 500),
    st.floats(1, 8),
)
def test_beginnings_grow_to_all_networks(segments: list[tuple[float, float]], last: float, n: int, saving: float) -> None:
    found = prefix_counts([cost for cost, _ in segments], [present for _, present in segments], last, n, saving)
    assert len(found) == len(segments)
    assert found == sorted(found)
    assert found[0] >= 1
    assert found[-1] == n


def test_beginnings_are_the_best_for_their_cost() -> None:
    """Against trying all numbers, of three segments and the leaves."""
    costs, n, saving = np.array([5.0, 3.0, 2.0, 1.0]), 40, 2.0
    found = prefix_counts(costs.tolist(), [1.0] * 4, 0.5, n, saving)
    budget = found @ costs
    every = (numbers for numbers in product(range(1, n + 1), repeat=3) if list(numbers) == sorted(numbers))
    best = min(sum(1 / np.array([*numbers, n])) for numbers in every if np.dot([*numbers, n], costs) <= budget)
    assert sum(1 / np.array(found)) == pytest.approx(best, rel=0.02)
    assert budget + n * 0.5 == pytest.approx(n * (costs.sum() + 0.5) / saving, rel=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 40))
def test_units_hold_every_network_once(seed: int, n: int, most: int) -> None:
    archs = TINY.archs(np.unique(TINY.sample_genes(np.random.default_rng(seed), n), axis=0))
    roots = grow({arch: TINY.lower(arch, 5) for arch in archs})
    groups = units(roots, most)
    assert list(chain(*groups)) == networks_below(roots)
    assert set(chain(*groups)) == set(archs)
    assert all(0 < len(group) <= most for group in groups)
    assert len(groups) <= 2 * -(-len(archs) // most), "neighbours are put together"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 100), max_size=30), st.integers(1, 6))
def test_work_is_shared_out_evenly(works: list[float], workers: int) -> None:
    shares = share_out(works, workers)
    assert sorted(chain(*shares)) == list(range(len(works)))
    loads = [sum(works[i] for i in share) for share in shares]
    assert max(loads) <= sum(works) / workers + max(works, default=0) + 1e-6


@pytest.mark.parametrize("own", [SPACES["strided"], space("mobilenet_v3", resolutions=(128, 132, 140, 144, 160))])
def test_interpolation_is_that_of_the_paper(own: Space) -> None:
    """acc(164) = acc(160) + (acc(176) - acc(160)) (F164 - F160) / (F176 - F160)."""
    table = macs_table(segment_table(own, 10))
    first, last, *_ = own.resolutions[0], own.resolutions[-1]
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(3):
        arch = own.sample(rng)
        rows += [AccuracyRow(replace(arch, resolution=r), rng.random(), rng.random(), 50 + r, 1.0) for r in (last, first)]
    alone = AccuracyRow(replace(own.smallest(), resolution=first), 0.5, 1.0, 50, 1.0)
    found = interpolate(own, [*rows, alone], table)
    assert len(found) == 3 * (len(own.resolutions) - 2)
    for row in found:
        high, low = (next(r for r in rows if r.arch == replace(row.arch, resolution=resolution)) for resolution in (last, first))
        f, f_low, f_high = (own.lower(r.arch, 10).macs for r in (row, low, high))
        assert row.interpolated
        assert row.top1 == pytest.approx(low.top1 + (high.top1 - low.top1) * (f - f_low) / (f_high - f_low))
        assert row.loss == pytest.approx(low.loss + (high.loss - low.loss) * (f - f_low) / (f_high - f_low))
        assert row.images == 50 + first
    middle = replace(rows[0], arch=replace(rows[0].arch, resolution=own.resolutions[1]))
    again = interpolate(own, [*rows, middle], table)
    assert len(again) == len(found) - 1, "a measurement needs no interpolation"
    assert interpolate(own, [*rows, *found], table) == found, "interpolated rows count for nothing"


def test_resolutions_to_measure_at() -> None:
    full = space("mobilenet_v3")
    assert measured_resolutions(full, 16) == tuple(range(128, 225, 16))
    assert measured_resolutions(full, 36) == (128, 164, 200, 224)
    for every in (4, 0, -16):
        with pytest.raises(SpaceError, match=f"measuring every {every} pixels leaves no resolution out"):
            measured_resolutions(full, every)
    with pytest.raises(SpaceError, match="leaves no resolution out of 32, 48"):
        measured_resolutions(TINY, 16)
