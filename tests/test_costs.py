"""Cost tables against the plans of single architectures."""

import numpy as np
import pytest

import onceforall
from onceforall import Space
from onceforall.costs import SegmentTable, macs_table, memory_table, params_table, segment_table
from small_spaces import SPACES


@pytest.fixture(scope="module")
def tables() -> dict[str, SegmentTable]:
    spaces = SPACES | {
        "restricted": SPACES["half"].restrict(depths=(2, 4), kernels=(5,)),
        "gaps": onceforall.space("mobilenet_v3", width=0.25, resolutions=(48, 31), depths=(1, 4), kernels=(1, 9)),
    }
    return {name: segment_table(space, 13) for name, space in spaces.items()}


@pytest.mark.parametrize("name", [*SPACES, "restricted", "gaps"])
def test_tables_equal_plans(tables: dict[str, SegmentTable], name: str) -> None:
    table = tables[name]
    rng = np.random.default_rng(0)
    genes = table.space.sample_genes(rng, 60)
    archs = [*table.space.archs(genes), table.space.largest(), table.space.smallest()]
    plans = [table.space.lower(arch, 13) for arch in archs]
    assert macs_table(table).estimate(archs).tolist() == [plan.macs for plan in plans]
    assert params_table(table).estimate(archs).tolist() == [plan.params for plan in plans]
    assert memory_table(table).estimate(archs).tolist() == [plan.peak_memory_bytes for plan in plans]


@pytest.mark.parametrize("name", ["half", "gaps"])
def test_every_segment_of_an_architecture_is_found(tables: dict[str, SegmentTable], name: str) -> None:
    table = tables[name]
    distinct = {segment.signature for segment in table.distinct()}
    assert len(distinct) == len(table.distinct())
    genes = table.space.sample_genes(np.random.default_rng(1), 40)
    used = set()
    for arch in table.space.archs(genes):
        used |= {segment.signature for segment in table.space.lower(arch, 13).segments}
    assert used <= distinct


def test_cost_is_called_once_for_each_distinct_segment(tables: dict[str, SegmentTable]) -> None:
    calls = []
    table = tables["strided"].costs(lambda segment: calls.append(segment.signature) or 0.5)
    assert len(calls) == len(set(calls)) == len(tables["strided"].distinct())
    space: Space = tables["strided"].space
    assert table.estimate([space.largest(), space.smallest()]).tolist() == [0.5 * (3 + 10), 0.5 * (3 + 5)]


def test_matrix_and_architectures_give_the_same(tables: dict[str, SegmentTable]) -> None:
    table = macs_table(tables["default"])
    genes = tables["default"].space.sample_genes(np.random.default_rng(2), 20)
    assert np.array_equal(table.estimate(genes), table.estimate(tables["default"].space.archs(genes)))
    assert table.estimate([]).shape == (0,)
