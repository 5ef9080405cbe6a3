"""Cost tables against the plans of single architectures."""

import numpy as np
import pytest

import onceforall
from onceforall import Space
from onceforall.costs import SegmentTable, flash_table, macs_table, memory_table, params_table, ram_table, segment_table
from onceforall.errors import ArchError
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
    assert ram_table(table).estimate(archs).tolist() == [plan.peak_memory_bytes / 4 for plan in plans]
    assert flash_table(table).estimate(archs).tolist() == [sum(s.int8_bytes for s in plan.segments) for plan in plans]


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


def rows_of_no_architecture(space: Space) -> list[tuple[str, np.ndarray]]:
    """Matrices that look like one of this space, and what the error must say."""
    genes = space.genes([space.smallest(), space.largest()])
    kinds = [column.kind for column in space.columns]
    kernel, depth = kinds.index("kernel"), kinds.index("depth")
    wrong = [(r"outside -?\d", np.full_like(genes, -1)), (r"outside -?\d", np.full_like(genes, 99))]
    for column, value, message in (
        (0, -1, r"column 0 \(resolution\) has an index outside 0\.\."),
        (depth, -1, rf"column {depth} \(depth\) has an index outside 0"),
        (kernel, len(space.columns[kernel].choices), rf"column {kernel} \(kernel\) has an index outside -1\.\."),
        (kernel, -1, rf"column {kernel} \(kernel\) is -1 although the block is present"),
        (-1, 0, "describes a block beyond its stage's depth"),
    ):
        changed = genes.copy()
        changed[0, column] = value
        wrong.append((message, changed))
    gone = genes.copy()
    gone[1, -2:] = -1
    wrong.append(("is -1 although the block is present", gone))
    wrong += [("has shape", genes[:, 1:]), ("has shape", genes[0]), ("has shape", np.pad(genes, ((0, 0), (0, 1))))]
    wrong += [("holds whole numbers, this one holds float64", genes.astype(float)), ("holds object", genes.astype(object))]
    return wrong


def test_rows_of_no_architecture_have_no_cost(tables: dict[str, SegmentTable]) -> None:
    table = tables["default"]
    for cost in (macs_table(table), params_table(table), memory_table(table)):
        for message, wrong in rows_of_no_architecture(table.space):
            with pytest.raises(ArchError, match=message):
                cost.estimate(wrong)
            if wrong.ndim == 2 and wrong.shape[1] == len(table.space.columns):
                with pytest.raises(ArchError, match=message):  # however many good rows there are before
                    cost.estimate(np.concatenate([table.space.sample_genes(np.random.default_rng(0), 5000), wrong]))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_any_whole_numbers_will_do(tables: dict[str, SegmentTable], dtype: type[np.integer]) -> None:
    table = macs_table(tables["half"])
    genes = table.segments.space.genes([table.segments.space.largest()] * 2)
    assert np.array_equal(table.estimate(genes.astype(dtype)), table.estimate(genes))
