"""Bounds: never below the true optimum (brute force), tight where there is time, with widths, several limits and memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import Space, space
from onceforall.costs import macs_table, memory_table, params_table, segment_table
from onceforall.genes import Genes
from onceforall.search import maximise
from onceforall.search.exact import upper_bound
from onceforall.search.moves import every
from onceforall.search.problem import Floats, SearchProblem, limits_of, measure_of
from onceforall.structure import Quadratic, Terms

FAMILY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48))
DEPTHS = FAMILY.restrict(kernels=(3,), depths=(1, 2), resolutions=(32, 48))  # 2 × 6^5 networks
SMALL_IMAGES = {"resolutions": (17, 33), "strides": (1, 1, 1, 2, 2, 2)}
WIDTHS = space(
    "resnet50d", width=0.125, width_multipliers=(0.5, 1), depths=(0, 1), expand_ratios=(0.25,), **SMALL_IMAGES
)  # fmt: skip


class Score:
    """An additive or pairwise score that knows its structure."""

    def __init__(self, where: Space, seed: int, pairs: float = 0.0) -> None:
        rng, n = np.random.default_rng(seed), where.encode(where.genes([where.smallest()])).shape[1]
        between = np.triu(rng.normal(0, pairs, (n, n)), 1) if pairs else None
        self.quadratic = Quadratic(where, 0.5, rng.normal(size=n), None if between is None else between + between.T)

    def __call__(self, genes: Genes) -> Floats:
        return self.quadratic(genes)

    def score(self, genes: Genes) -> Floats:
        return self.quadratic(genes)

    def structure(self) -> Quadratic:
        return self.quadratic


class Liar(Score):
    def score(self, genes: Genes) -> Floats:
        return self.quadratic(genes) ** 2


def problem(where: Space, score: object, shares: dict[str, float]) -> SearchProblem:
    segments = segment_table(where, 10)
    tables = {"macs": macs_table(segments), "params": params_table(segments), "memory": memory_table(segments)}
    limits = {}
    for name, share in shares.items():
        low, high = tables[name].estimate([where.smallest(), where.largest()])
        limits[name] = (tables[name].estimate, float(low + share * (high - low)))
    return SearchProblem(where, measure_of(where, "score", score), limits_of(where, limits))


def optimum(of: SearchProblem) -> float:
    genes = every(of.space)
    return float(of.score(genes[of.excess(of.costs(genes)) == 0]).max())


@pytest.mark.parametrize("where", [DEPTHS, WIDTHS], ids=["depths", "widths"])
@settings(max_examples=4)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.1, 1), st.floats(0.3, 1))
def test_equals_brute_force(where: Space, seed: int, macs: float, params: float, memory: float) -> None:
    searched = problem(where, Score(where, seed).score, {"macs": macs, "params": params, "memory": memory})
    truth = optimum(searched)
    bound = upper_bound(searched, reached=-1e9, seconds=30)
    assert bound is not None
    assert truth - 1e-9 <= bound[0] <= truth + 1e-6
    assert searched.score(bound[1]).max() == pytest.approx(truth)


@settings(max_examples=3)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_pairs(seed: int, share: float) -> None:
    searched = problem(DEPTHS, Score(DEPTHS, seed, pairs=0.3).score, {"macs": share})
    truth = optimum(searched)
    bound = upper_bound(searched, reached=truth, seconds=60)
    assert bound is not None
    assert truth - 1e-9 <= bound[0] <= truth + 1e-6


def test_a_limit_of_which_nothing_is_known_is_left_out() -> None:
    searched = problem(DEPTHS, Score(DEPTHS, 1).score, {"macs": 0.3})
    hidden = SearchProblem(
        DEPTHS,
        searched.score,
        limits_of(DEPTHS, {"macs": (lambda genes: searched.limits[0].measure(genes), searched.limits[0].bound)}),
    )
    bound, free = upper_bound(hidden, reached=-1e9, seconds=30), optimum(SearchProblem(DEPTHS, searched.score, ()))
    assert bound is not None
    assert bound[0] == pytest.approx(free)
    assert free > optimum(hidden)


def test_no_bound_without_a_structure_or_with_a_wrong_one() -> None:
    score = Score(DEPTHS, 2)
    assert upper_bound(problem(DEPTHS, lambda genes: score(genes), {}), reached=0.0, seconds=1) is None
    assert upper_bound(problem(DEPTHS, Liar(DEPTHS, 2).score, {}), reached=0.0, seconds=1) is None


def test_out_of_time_the_bound_is_looser_or_missing_but_never_wrong() -> None:
    searched = problem(FAMILY, Score(FAMILY, 3, pairs=0.3).score, {"macs": 0.4})
    best = maximise(
        FAMILY,
        Score(FAMILY, 3, pairs=0.3).score,
        {"macs": (searched.limits[0].measure.function, searched.limits[0].bound)},
        proof_s=0.0,
    )
    bound = upper_bound(searched, reached=best.score, seconds=0.2)
    assert bound is None or bound[0] >= best.score


def test_maximise_says_how_far_it_can_be_from_the_optimum() -> None:
    big = space("mobilenet_v3", width=1.0, resolutions=(160, 192, 224))
    macs = macs_table(segment_table(big, 1000))
    result = maximise(big, Score(big, 4).score, {"macs": (macs.estimate, 300e6)}, evaluations=5000)
    assert result.gap is not None
    assert 0 <= result.gap < 1e-6
    assert result.optimal_within == len(big.columns)


def test_structures_give_what_the_tables_give(space: Space) -> None:
    segments, genes = segment_table(space, 10), space.sample_genes(np.random.default_rng(0), 200)
    for table in (macs_table(segments), memory_table(segments)):
        terms = table.structure()
        assert isinstance(terms, Terms)
        np.testing.assert_allclose(terms(genes), table.estimate(genes), rtol=1e-12)
    score = Score(space, 0, pairs=0.1)
    np.testing.assert_allclose(score.quadratic.terms(genes), score(genes), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e6])
def test_bounds_hold_at_every_scale(scale: float) -> None:
    """HiGHS's tolerances are absolute: scores of 1e-7 were "bounded" below their optimum."""
    score = Score(DEPTHS, 5)
    score.quadratic = Quadratic(DEPTHS, 0.0, scale * score.quadratic.linear)
    searched = problem(DEPTHS, score.score, {"macs": 0.3, "params": 0.5})
    truth, bound = optimum(searched), upper_bound(searched, reached=-1e300, seconds=30)
    assert bound is not None
    assert -1e-9 * scale <= bound[0] - truth <= 1e-6 * scale + 1e-8 * abs(truth)


def test_a_largest_term_is_no_sum() -> None:
    class Largest(Score):
        def score(self, genes: Genes) -> Floats:
            return self.structure()(genes)

        def structure(self) -> Terms:  # type: ignore[override]
            return Terms(self.quadratic.terms.factors, largest=True)

    assert upper_bound(problem(DEPTHS, Largest(DEPTHS, 0).score, {}), reached=-1e9, seconds=5) is None


def test_limits_in_float32_and_of_archs() -> None:
    class Table:
        def __init__(self, archs: bool) -> None:
            self.costs, self.archs = macs_table(segment_table(DEPTHS, 10)), archs

        def estimate(self, of: object) -> Floats:
            if self.archs and isinstance(of, np.ndarray):
                raise TypeError("a list of Arch, please")
            return self.costs.estimate(of).astype(np.float32)  # type: ignore[arg-type]

        def structure(self) -> Terms:
            return self.costs.structure()

    for archs in (False, True):
        table = Table(archs)
        bound_at = float(table.costs.estimate(DEPTHS.sample_genes(np.random.default_rng(0), 9)).mean())
        searched = SearchProblem(
            DEPTHS, measure_of(DEPTHS, "score", Score(DEPTHS, 6).score), limits_of(DEPTHS, {"macs": (table.estimate, bound_at)})
        )
        bound = upper_bound(searched, reached=-1e9, seconds=30)
        assert bound is not None
        assert bound[0] >= optimum(searched) - 1e-9
