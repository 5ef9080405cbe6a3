"""Searches in a space whose blocks also choose attention heads, against brute force."""

import numpy as np
import pytest
from test_changes import test_all_neighbours_are_reached as reach_all_neighbours
from test_changes import test_every_change_that_is_possible_gives_another_network as change_all

from onceforall import Space
from onceforall.costs import macs_table, segment_table
from onceforall.genes import check
from onceforall.latency.table import middle
from onceforall.models import bring
from onceforall.search.exact import upper_bound
from onceforall.search.moves import every
from onceforall.search.problem import SearchProblem, limits_of, measure_of
from onceforall.structure import Quadratic
from onceforall.supernets.conversion import elastic
from onceforall.train.schedule import Recipe
from onceforall.train.schemes import SCHEMES
from onceforall.train.strategies import draw_coupled
from tiny_own import TRANSFORMER, source


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """Two blocks at most, with shares of widths and of heads."""
    found = elastic(
        bring(source(tmp_path_factory.mktemp("own"), TRANSFORMER)).model, (24,), widths=(0.5, 1.0), heads=(0.25, 0.5, 1.0)
    ).space
    assert found.stages[0].heads == (0.25, 0.5, 1)
    return found


def test_changes(attention: Space) -> None:
    change_all(attention)
    reach_all_neighbours(attention)


def test_all_networks(attention: Space) -> None:
    rows = every(attention)
    check(attention.columns, rows)
    assert len(np.unique(rows, axis=0)) == len(rows) == attention.count()
    assert middle(attention) in attention.archs(rows)


def test_the_bound_is_the_optimum(attention: Space) -> None:
    rng = np.random.default_rng(0)
    choices = attention.encode(every(attention)).shape[1]
    pairs = rng.normal(size=(choices, choices))
    score = _Score(Quadratic(attention, 0.5, rng.normal(size=choices), pairs + pairs.T))
    macs = macs_table(segment_table(attention, 10))
    rows = every(attention)
    most = float(np.median(macs.estimate(rows)))
    best = score.predict(rows)[macs.estimate(rows) <= most].max()
    problem = SearchProblem(
        attention, measure_of(attention, "score", score.predict), limits_of(attention, {"macs": (macs.estimate, most)})
    )
    bound = upper_bound(problem, reached=-np.inf, seconds=20)
    assert bound is not None
    assert bound[0] == pytest.approx(best, abs=1e-3)


class _Score:
    def __init__(self, terms: Quadratic) -> None:
        self.terms = terms

    def predict(self, genes: np.ndarray) -> np.ndarray:
        return self.terms(genes)

    def structure(self) -> Quadratic:
        return self.terms


def test_heads_go_with_depth(attention: Space) -> None:
    for (arch,) in draw_coupled(attention, 20, np.random.default_rng(0)):
        attention.check(arch)
        small = arch.stages[0].depth == 1
        assert {block.heads for block in arch.stages[0].blocks} == {0.25 if small else 1}


def test_heads_are_opened_with_the_ratios(attention: Space) -> None:
    phases = SCHEMES["progressive_shrinking"](attention, steps=100, rate=1.0, recipe=Recipe()).phases
    spaces = [attention.keep_largest(**phase.keep) for phase in phases]
    assert [space.stages[0].heads for space in spaces] == [(1,), (1,), (0.5, 1), (0.25, 0.5, 1)]
    assert spaces[-1].count() == attention.count()
    alone = SCHEMES["delayed_shrinking"](attention, steps=100, rate=1.0, recipe=Recipe()).phases[0]
    assert attention.keep_largest(**alone.keep).count() == 1
