"""pareto: no dominated point, everything inside the limits, equal to brute force on a tiny space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import space
from onceforall.costs import macs_table, memory_table, params_table, segment_table
from onceforall.errors import InfeasibleError
from onceforall.search import pareto
from onceforall.search.front import Front, crowding, nondominated
from onceforall.search.moves import every

FAMILY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3,), resolutions=(32, 48))
TINY = FAMILY.restrict(depths=(2,))  # 2 resolutions × 2^10 networks
SMALL = space("mobilenet_v3", width=0.5, depths=(1, 2, 3), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48, 64))


def score(genes: np.ndarray) -> np.ndarray:
    """Bounded, grows with every choice, with decreasing returns and some noise per network."""
    size = (genes + 1).sum(1) / genes.shape[1]
    odd = np.sin(genes.astype(float) @ np.linspace(0.1, 3, genes.shape[1]))
    return 1 - np.exp(-size) + 0.02 * odd


def dominated(values: np.ndarray) -> np.ndarray:
    """By definition, one pair after the other; more is better."""
    return np.array([any((v >= w).all() and (v > w).any() for v in values) for w in values])


def tables(where):
    segments = segment_table(where, 10)
    return macs_table(segments), params_table(segments), memory_table(segments)


@pytest.mark.parametrize("three", [False, True])
def test_equals_brute_force(three: bool) -> None:
    macs, params, _ = tables(TINY)
    objectives = {"score": (score, "max"), "macs": (macs.estimate, "min")}
    if three:
        objectives["params"] = (params.estimate, "min")
    result = pareto(TINY, objectives, size=10_000)
    genes = every(TINY)
    values = np.stack([score(genes), -macs.estimate(genes)] + ([-params.estimate(genes)] if three else []), 1)
    front = {tuple(v) for v in values[nondominated(values, genes)]}
    found = {(p.values["score"], -p.values["macs"], *((-p.values["params"],) if three else ())) for p in result.points}
    assert found == front
    assert result.exact


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 4))
def test_nondominated_is_the_definition(seed: int, n: int, objectives: int) -> None:
    values = np.random.default_rng(seed).integers(0, 5, (n, objectives)).astype(float)
    genes = np.arange(n, dtype=np.int16)[:, None]
    kept = nondominated(values, genes)
    assert {tuple(v) for v in values[kept]} == {tuple(v) for v in values[~dominated(values)]}
    assert len({tuple(v) for v in values[kept]}) == len(kept)
    assert (np.diff(values[kept, 0]) >= 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_merging_in_parts_gives_the_same_front(seed: int, objectives: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (60, objectives)).astype(float)
    genes = np.arange(60, dtype=np.int16)[:, None]
    front = Front(genes[:0], values[:0])
    for part in np.array_split(np.arange(60), 7):
        front = front.merged(genes[part], values[part], 1000)
    assert {tuple(v) for v in front.values} == {tuple(v) for v in values[nondominated(values, genes)]}


def test_thinning_keeps_the_extremes() -> None:
    x = np.linspace(0, 1, 50)
    front = Front(np.arange(50, dtype=np.int16)[:, None], np.stack([x, 1 - x], 1)).thinned(10)
    assert len(front) == 10
    assert front.values[0, 0] == 0
    assert front.values[-1, 0] == 1
    assert np.isinf(crowding(front.values)[[0, -1]]).all()


def test_search_of_a_large_space() -> None:
    macs, _, memory = tables(SMALL)
    limit = float(memory.estimate([SMALL.largest()])[0]) * 0.8
    objectives = {"score": (score, "max"), "macs": (macs.estimate, "min")}
    limits = {"memory": (memory.estimate, limit)}
    one, two = (pareto(SMALL, objectives, limits, seed=3, size=40, evaluations=6000) for _ in range(2))
    assert one.points == two.points
    assert not one.exact
    values = np.array([[p.values["score"], -p.values["macs"]] for p in one.points])
    assert not dominated(values).any()
    assert 10 <= len(one.points) <= 40
    assert (np.diff(values[:, 0]) > 0).all()
    for point in one.points:
        assert point.arch in SMALL
        assert point.values["memory"] <= limit
        genes = SMALL.genes([point.arch])
        assert point.values["macs"] == macs.estimate(genes)[0]
    random = SMALL.sample_genes(np.random.default_rng(0), 500)
    random = random[memory.estimate(random) <= limit]
    for s, m in zip(score(random), macs.estimate(random), strict=True):
        assert ((values[:, 0] >= s - 0.02) & (-values[:, 1] <= m * 1.05)).any()


def test_three_objectives_search() -> None:
    macs, _, memory = tables(SMALL)
    objectives = {"macs": (macs.estimate, "min"), "score": (score, "max"), "memory": (memory.estimate, "min")}
    result = pareto(SMALL, objectives, evaluations=4000, size=60)
    values = np.array([[-p.values["macs"], p.values["score"], -p.values["memory"]] for p in result.points])
    assert not dominated(values).any()
    assert values[:, 0].max() == -macs.estimate([SMALL.smallest()])[0]


def test_errors() -> None:
    macs, _, _ = tables(TINY)
    with pytest.raises(ValueError, match="at least 2"):
        pareto(TINY, {"macs": (macs.estimate, "min")})
    with pytest.raises(ValueError, match="'max' or 'min'"):
        pareto(TINY, {"macs": (macs.estimate, "least"), "score": (score, "max")})
    with pytest.raises(InfeasibleError, match="1 MACs "):
        pareto(TINY, {"macs": (macs.estimate, "min"), "score": (score, "max")}, {"macs": (macs.estimate, 1)})


def test_a_front_that_is_found_ends_the_search() -> None:
    """A short front in a space of millions: local search crept on for minutes, a few new networks at a time."""
    where = space("mobilenet_v3", width=0.1, resolutions=(16, 24), depths=(1, 2), kernels=(3, 5), expand_ratios=(2, 3))
    rng = np.random.default_rng(1)
    weights = rng.normal(size=where.encode(where.sample_genes(rng, 1)).shape[1])
    costs = macs_table(segment_table(where, 10))
    found = pareto(
        where,
        {"score": (lambda genes: where.encode(genes) @ weights, "max"), "macs": (costs.estimate, "min")},
        time_s=60.0,
    )
    assert len(found.points) > 2
    assert found.evaluations < 40_000


def test_objectives_in_either_order_and_costs_of_zero() -> None:
    macs, _, _ = tables(SMALL)
    low = float(macs.estimate([SMALL.smallest()])[0])
    first = {"score": (score, "max"), "macs": (lambda genes: macs.estimate(genes) - low, "min")}
    budgets = np.linspace(*(macs.estimate([SMALL.smallest(), SMALL.largest()]) - low), 20)[1:]
    reached = []
    for objectives in (first, dict(reversed(first.items()))):
        points = pareto(SMALL, objectives, evaluations=6000).points
        values = np.array([(p.values["macs"], p.values["score"]) for p in points])
        reached.append(np.mean([values[values[:, 0] <= b, 1].max() for b in budgets]))
    assert abs(reached[0] - reached[1]) < 0.03  # chance: 6,000 networks are few


@pytest.mark.parametrize("evaluations", [1, 100, 1000])
def test_budget_is_kept(evaluations: int) -> None:
    macs, _, _ = tables(SMALL)
    found = pareto(SMALL, {"score": (score, "max"), "macs": (macs.estimate, "min")}, evaluations=evaluations)
    assert found.evaluations <= evaluations + 2500  # it may end a batch
