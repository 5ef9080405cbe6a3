"""maximise: inside the limits, locally optimal, equal to brute force where that is possible, clear about what cannot be."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall import Arch, Space, space
from onceforall.costs import CostTable, macs_table, params_table, segment_table
from onceforall.errors import ArchError, DeviceError, InfeasibleError
from onceforall.genes import Genes, neighbours
from onceforall.search import NothingFeasibleError, maximise
from onceforall.search.evaluator import Evaluator
from onceforall.search.maximise import _search
from onceforall.search.moves import every
from onceforall.search.problem import Floats, SearchProblem, limits_of, measure_of

FAMILY = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48))
KERNELS = FAMILY.restrict(depths=(2,), expand_ratios=(3,))  # 2 resolutions × 2^10 networks
DEPTHS = FAMILY.restrict(kernels=(3,), resolutions=(32,), expand_ratios=(3,))  # 2^5 networks
TINY = FAMILY.restrict(depths=(1,))  # 2 resolutions × 4^5 networks
SMALL = space("mobilenet_v3", width=0.5, depths=(1, 2, 3), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48, 64))
QUICK = 3000


def table(where: Space) -> CostTable:
    return macs_table(segment_table(where, 10))


MACS = table(SMALL)
PARAMS = params_table(MACS.segments)
TINY_MACS = table(TINY)


def random_score(where: Space, seed: int) -> Callable[[Genes], Floats]:
    """Linear in the choices, with products of neighbouring choices."""
    features = where.encode(where.sample_genes(np.random.default_rng(0), 1)).shape[1]
    rng = np.random.default_rng(seed)
    weights, pairs = rng.normal(size=features), 0.3 * rng.normal(size=features - 1)

    def score(genes: Genes) -> Floats:
        x = where.encode(genes).astype(np.float64)
        return x @ weights + (x[:, 1:] * x[:, :-1]) @ pairs

    return score


def middle(costs: CostTable, where: Space, share: float) -> float:
    low, high = costs.estimate([where.smallest(), where.largest()])
    return float(low + share * (high - low))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.9))
def test_inside_the_limits_and_no_neighbour_is_better(seed: int, share: float) -> None:
    score = random_score(SMALL, seed)
    limit, params = middle(MACS, SMALL, share), middle(PARAMS, SMALL, 0.7)
    limits = {"macs": (MACS.estimate, limit), "params": (PARAMS.estimate, params)}
    result = maximise(SMALL, score, limits, seed=seed, evaluations=QUICK)
    SMALL.check(result.best)
    assert result.estimates == {"macs": MACS.estimate([result.best])[0], "params": PARAMS.estimate([result.best])[0]}
    assert result.estimates["macs"] <= limit * (1 + 1e-9)
    assert result.score == pytest.approx(score(SMALL.genes([result.best]))[0])
    near = neighbours(SMALL.columns, SMALL.genes([result.best])[0])
    allowed = near[(MACS.estimate(near) <= limit) & (PARAMS.estimate(near) <= params)]
    if result.optimal_within:
        assert not len(allowed) or score(allowed).max() <= result.score + 1e-12
    assert result.gap is None


@pytest.mark.parametrize("where", [TINY, KERNELS, DEPTHS], ids=["ratios", "kernels", "depths"])
@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_equals_brute_force_by_search_and_by_enumeration(where: Space, seed: int, share: float) -> None:
    score, genes, macs = random_score(where, seed), every(where), table(where)
    limits = {"macs": (macs.estimate, middle(macs, where, share))}
    best = score(genes[macs.estimate(genes) <= limits["macs"][1]]).max()
    result = maximise(where, score, limits, seed=seed)
    assert result.score == best
    assert result.gap == 0.0
    problem = SearchProblem(where, measure_of(where, "score", score), limits_of(where, limits))
    evaluator = Evaluator(problem, QUICK)
    _search(evaluator, where.genes([where.smallest()]), np.random.default_rng(seed), 0.0)
    assert evaluator.found.scores[0] == pytest.approx(best, rel=1e-12)  # sums of another batch round otherwise


def test_every_lists_each_network_once() -> None:
    for where in (TINY, KERNELS, DEPTHS, DEPTHS.restrict(depths=(2,))):
        archs = where.archs(every(where))
        assert len(archs) == len(set(archs)) == where.count()


def test_same_seed_same_result() -> None:
    limits = {"macs": (MACS.estimate, middle(MACS, SMALL, 0.3))}
    one, two = (maximise(SMALL, random_score(SMALL, 1), limits, seed=5, evaluations=QUICK) for _ in range(2))
    assert one.finalists == two.finalists
    assert one.evaluations == two.evaluations


def test_a_larger_budget_ends_in_a_two_step_optimum() -> None:
    result = maximise(SMALL, random_score(SMALL, 3), {"macs": (MACS.estimate, middle(MACS, SMALL, 0.4))}, evaluations=15_000)
    assert result.optimal_within == 2
    row = SMALL.genes([result.best])[0]
    score = random_score(SMALL, 3)
    two = np.concatenate([neighbours(SMALL.columns, step) for step in neighbours(SMALL.columns, row)])
    two = two[MACS.estimate(two) <= middle(MACS, SMALL, 0.4)]
    assert score(two).max() <= result.score + 1e-12


def test_finalists_are_different_sorted_and_allowed() -> None:
    limit = middle(MACS, SMALL, 0.3)
    result = maximise(SMALL, random_score(SMALL, 2), {"macs": (MACS.estimate, limit)}, evaluations=QUICK)
    top = result.top(10)
    assert len({finalist.arch for finalist in top}) == 10
    assert [f.score for f in top] == sorted((f.score for f in top), reverse=True)
    assert all(f.values["macs"] <= limit for f in top)
    assert (top[0].arch, top[0].score) == (result.best, result.score)


def test_in_words() -> None:
    found = maximise(SMALL, MACS.estimate, {"macs": (MACS.estimate, 1e9)}, seed=0)
    assert str(found).startswith(f"score {found.score:.6g}, macs {found.score:.6g} (")
    assert len(str(found)) < 120


def test_without_limits_an_increasing_score_gives_the_largest() -> None:
    assert maximise(SMALL, MACS.estimate, {}, evaluations=QUICK).best == SMALL.largest()


def test_functions_of_arch_work_as_functions_of_genes_do() -> None:
    def by_arch(archs: list[Arch]) -> list[float]:
        return [sum(arch.depths) - arch.resolution / 100 for arch in archs]

    result = maximise(DEPTHS, by_arch, {"macs": (lambda archs: [DEPTHS.lower(a, 10).macs for a in archs], 1e9)})
    assert result.best.resolution == 32
    assert result.score == pytest.approx(10 - 0.32)


def test_start_is_used_and_checked() -> None:
    result = maximise(SMALL, MACS.estimate, {}, evaluations=1, start=[SMALL.largest()])
    assert result.best == SMALL.largest()
    with pytest.raises(ArchError, match="width of stage 0"):
        maximise(SMALL, MACS.estimate, {}, start=[TINY.largest(48), space("mobilenet_v3").largest()])


def test_a_deadline_in_the_past_still_gives_an_allowed_network() -> None:
    result = maximise(SMALL, random_score(SMALL, 1), {"macs": (MACS.estimate, middle(MACS, SMALL, 0.1))}, time_s=0.0)
    assert result.estimates["macs"] <= middle(MACS, SMALL, 0.1)
    assert result.optimal_within == 0


def test_a_limit_met_exactly_is_kept() -> None:
    smallest = float(MACS.estimate([SMALL.smallest()])[0])
    result = maximise(SMALL, random_score(SMALL, 1), {"macs": (MACS.estimate, smallest)}, evaluations=QUICK)
    assert result.best == SMALL.smallest()


def test_infeasible_names_the_smallest_value_and_who_attains_it() -> None:
    smallest = float(MACS.estimate([SMALL.smallest()])[0])
    with pytest.raises(InfeasibleError, match=r"1,000 MACs \(smallest .* of 32 px, depths 1-1-1-1-1, kernels 3") as caught:
        maximise(SMALL, random_score(SMALL, 1), {"macs": (MACS.estimate, 1000)})
    assert isinstance(caught.value, NothingFeasibleError)
    assert caught.value.smallest == {"macs": (smallest, SMALL.smallest())}
    assert "\n" not in str(caught.value)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_smallest_value_of_an_odd_table_is_found(seed: int) -> None:
    """A measured table need not grow with the choices; its smallest value must be found all the same."""
    rng = np.random.default_rng(seed)
    odd = CostTable(TINY_MACS.segments, tuple(rng.uniform(1, 2, len(v)) * (v > 0) for v in TINY_MACS.values))
    with pytest.raises(NothingFeasibleError) as caught:
        maximise(TINY, random_score(TINY, 1), {"latency_ms": (odd.estimate, 1e-3)})
    value, arch = caught.value.smallest["latency_ms"]
    assert value == pytest.approx(odd.estimate(every(TINY)).min())
    assert odd.estimate([arch])[0] == value


def test_limits_that_exclude_each_other() -> None:
    macs = float(MACS.estimate([SMALL.smallest()])[0])
    limits = {"macs": (MACS.estimate, macs), "inverse": (lambda genes: 1e9 / MACS.estimate(genes), 1e9 / (2 * macs))}
    with pytest.raises(InfeasibleError, match="each limit can be met alone"):
        maximise(SMALL, random_score(SMALL, 1), limits)


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf"), "5ms", True, None])
def test_limits_must_be_positive_numbers(bound: object) -> None:
    with pytest.raises(ValueError, match="it must be a number above 0"):
        maximise(SMALL, MACS.estimate, {"macs": (MACS.estimate, bound)})  # type: ignore[dict-item]


def test_wrong_functions_are_named() -> None:
    with pytest.raises(ValueError, match=r"score returned an array of shape \(\) for 3 networks"):
        maximise(SMALL, lambda genes: genes.mean(), {})
    with pytest.raises(ValueError, match="score is NaN"):
        maximise(SMALL, lambda genes: np.full(len(genes), np.nan), {})
    with pytest.raises(ValueError, match="score is NaN"):
        maximise(SMALL, lambda arch: float("nan"), {})
    with pytest.raises(RuntimeError, match=r"^no such thing$"):
        maximise(SMALL, MACS.estimate, {"latency": (_broken, 5.0)})
    with pytest.raises(ValueError, match="score is 3: it must be a function"):
        maximise(SMALL, 3, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give a pair of an estimate and a number"):
        maximise(SMALL, MACS.estimate, {"macs": 5.0})  # type: ignore[dict-item]


def test_functions_of_one_architecture() -> None:
    """As someone writes them who evaluates one network after the other."""
    limits = {"macs": (lambda arch: SMALL.lower(arch, 10).macs, float(MACS.estimate([SMALL.largest()])[0]) / 2)}
    one = maximise(SMALL, score=lambda arch: float(np.tanh(arch.resolution) + len(arch.stages[0].blocks)), limits=limits)
    several = maximise(
        SMALL, score=lambda archs: [np.tanh(arch.resolution) + len(arch.stages[0].blocks) for arch in archs], limits=limits
    )
    assert one.best == several.best
    assert one.evaluations == several.evaluations


def test_what_is_wrong_in_a_function_of_one_architecture_is_told() -> None:
    def broken(arch: Arch) -> float:
        SMALL.check(arch)
        raise RuntimeError("no images")

    with pytest.raises(RuntimeError, match=r"^no images$"):
        maximise(SMALL, broken, {})
    with pytest.raises(ValueError, match=r"a list of Arch \(AttributeError: .*\) and one Arch \(TypeError: unsupported operand"):
        maximise(SMALL, lambda arch: arch.resolution + None, {})


def test_functions_of_another_space_are_refused() -> None:
    """Gene matrices of two spaces may look alike and mean other networks."""
    other = FAMILY.restrict(resolutions=FAMILY.resolutions[:1]) if len(FAMILY.resolutions) > 1 else FAMILY
    shifted = space("mobilenet_v3", width=0.25, depths=(1, 2), kernels=(5, 7), expand_ratios=(3, 4), resolutions=FAMILY.resolutions)
    foreign = table(shifted).estimate
    assert foreign(FAMILY.genes([FAMILY.smallest()])) == foreign([shifted.smallest()])
    with pytest.raises(ValueError, match=r"macs returns different numbers for a gene matrix .* another space"):
        maximise(FAMILY, table(FAMILY).estimate, {"macs": (foreign, 1e9)})
    with pytest.raises(ValueError, match=r"score .* another space"):
        maximise(FAMILY, table(other).estimate, {})


def test_errors_of_our_own_come_through() -> None:
    def refuses(archs: object) -> Floats:
        raise DeviceError("no entry 'Conv'")

    with pytest.raises(DeviceError, match="no entry 'Conv'"):
        maximise(FAMILY, table(FAMILY).estimate, {"latency_ms": (refuses, 5.0)})


def _broken(archs: object) -> Floats:
    raise RuntimeError("no such thing")
