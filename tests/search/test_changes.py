"""Changes as arrays: each gives another network of the space, and together they reach every neighbour."""

import numpy as np

from onceforall import Space
from onceforall.genes import canonical, check, neighbours
from onceforall.search.moves import changes_of


def test_every_change_that_is_possible_gives_another_network(space: Space) -> None:
    changes, rows = changes_of(space), space.sample_genes(np.random.default_rng(0), 20)
    who, which = np.nonzero(changes.possible(rows))
    changed = changes.apply(rows[who], which)
    check(space.columns, changed)
    assert (changed != rows[who]).any(1).all()


def test_all_neighbours_are_reached(space: Space) -> None:
    changes = changes_of(space)
    for row in space.sample_genes(np.random.default_rng(1), 5):
        which = np.flatnonzero(changes.possible(row[None])[0])
        reached = {changed.tobytes() for changed in changes.apply(np.repeat(row[None], len(which), 0), which)}
        assert {near.tobytes() for near in neighbours(space.columns, row)} <= reached
        assert len(reached) == len(which)


def test_canonical_is_what_it_says(space: Space) -> None:
    rng = np.random.default_rng(2)
    sizes = [len(column.choices) for column in space.columns]
    genes = rng.integers(0, sizes, (50, len(sizes)), np.int16)
    slow = genes.copy()
    depth_at = {column.stage: c for c, column in enumerate(space.columns) if column.kind == "depth"}
    for row in slow:
        for c, column in enumerate(space.columns):
            if column.block >= 0 and column.block >= space.columns[depth_at[column.stage]].choices[row[depth_at[column.stage]]]:
                row[c] = -1
    np.testing.assert_array_equal(canonical(space.columns, genes), slow)
