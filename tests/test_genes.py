"""Gene matrices: every operation gives canonical rows of the same space."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Space
from onceforall import genes as gene_ops
from onceforall.errors import ArchError
from small_spaces import SPACES

seeds = st.integers(0, 2**32)
spaces = st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__)


@given(spaces, seeds)
def test_round_trip(space: Space, seed: int) -> None:
    genes = space.sample_genes(np.random.default_rng(seed), 5)
    archs = space.archs(genes)
    assert np.array_equal(space.genes(archs), genes)
    assert space.archs(space.genes(archs)) == archs
    assert all(arch in space for arch in archs)


@given(spaces, seeds)
def test_sample_mutate_and_cross_stay_inside(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    for arch in (first, space.mutate(first, rng, 0.5), space.cross(first, second, rng)):
        space.check(arch)
        assert space.archs(space.genes([arch])) == [arch]


@given(spaces, seeds)
def test_cross_takes_every_choice_from_a_parent(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space.sample_genes(rng, 8), space.sample_genes(rng, 8)
    child = gene_ops.cross(space.columns, first, second, rng)
    assert ((child == first) | (child == second) | (child < 0)).all()
    assert np.array_equal(gene_ops.cross(space.columns, first, first, rng), first)


@given(spaces, seeds)
def test_mutation_probability(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    genes = space.sample_genes(rng, 8)
    assert np.array_equal(gene_ops.mutate(space.columns, genes, rng, 0.0), genes)
    changed = gene_ops.mutate(space.columns, genes, rng, 1.0) != genes
    assert changed.any() == (space.count() > 1)


def test_the_same_generator_gives_the_same_architectures(space: Space) -> None:
    def draw() -> list[onceforall.Arch]:
        rng = np.random.default_rng(7)
        arch = space.sample(rng)
        return [arch, space.mutate(arch, rng), space.cross(arch, space.largest(), rng)]

    assert draw() == draw()


def test_sampling_is_uniform_over_each_choice() -> None:
    space = SPACES["default"]
    genes = space.sample_genes(np.random.default_rng(0), 20_000)
    for c, column in enumerate(space.columns):
        present = genes[genes[:, c] >= 0, c]
        share = np.bincount(present, minlength=len(column.choices)) / len(present)
        assert np.abs(share - 1 / len(column.choices)).max() < 0.02, column


@given(st.sampled_from(["half", "strided", "single"]).map(SPACES.__getitem__), seeds)
def test_neighbours(space: Space, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    row = space.genes([arch])[0]
    found = space.neighbours(arch)
    assert len(set(found)) == len(found)
    assert arch not in found
    for other in space.genes(found):
        (changed,) = np.nonzero(row != other)
        kinds = [space.columns[c].kind for c in changed]
        if "depth" in kinds:
            (at,) = (c for c in changed if space.columns[c].kind == "depth")
            assert abs(int(row[at]) - int(other[at])) == 1
            assert {space.columns[c].stage for c in changed} == {space.columns[at].stage}
            assert all(space.columns[c].kind == "depth" or -1 in (row[c], other[c]) for c in changed)
        else:
            assert len(changed) == 1


@given(seeds)
def test_neighbours_are_mutual_where_depths_are_consecutive(seed: int) -> None:
    space = SPACES["strided"]
    arch = space.sample(np.random.default_rng(seed))
    for other in space.neighbours(arch)[::7]:
        assert arch in space.neighbours(other)


def test_number_of_neighbours() -> None:
    space = SPACES["default"]
    # 24 resolutions; per present block 2 kernels and 2 ratios; the depth can go down from 4 and up by one of 9 blocks from 2
    assert len(space.neighbours(space.largest())) == 24 + 20 * 4 + 5
    assert len(space.neighbours(space.smallest())) == 24 + 10 * 4 + 5 * 9
    assert SPACES["single"].neighbours(SPACES["single"].largest()) == []


def test_encode(space: Space) -> None:
    genes = space.genes([space.largest(), space.smallest()])
    features = space.encode(genes)
    assert features.dtype == np.float32
    assert features.shape == (2, sum(len(c.choices) for c in space.columns if len(c.choices) > 1))
    assert set(np.unique(features)) <= {0.0, 1.0}
    several = [c for c, column in enumerate(space.columns) if len(column.choices) > 1]
    assert features.sum(1).tolist() == (genes[:, several] >= 0).sum(1).tolist()


@given(spaces, seeds)
def test_different_architectures_have_different_features(space: Space, seed: int) -> None:
    genes = space.sample_genes(np.random.default_rng(seed), 6)
    assert len(np.unique(space.encode(genes), axis=0)) == len(np.unique(genes, axis=0))


def test_canonical_is_idempotent_and_keeps_present_blocks() -> None:
    space = SPACES["default"]
    rng = np.random.default_rng(0)
    sizes = [len(column.choices) for column in space.columns]
    wild = rng.integers(0, sizes, (50, len(sizes))).astype(np.int16)
    once = gene_ops.canonical(space.columns, wild)
    assert np.array_equal(gene_ops.canonical(space.columns, once), once)
    assert ((once == wild) | (once == -1)).all()
    assert (once >= 0).sum() == sum(11 + 2 * sum(arch.depths) for arch in space.archs(once))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g[:, :-1], r"a gene matrix of this space has shape \(n, 51\), this one has \(2, 50\)"),
        (lambda g: g[0], r"has shape \(n, 51\), this one has \(51,\)"),
        (lambda g: g.astype(float), "holds whole numbers, this one holds float64"),
        (lambda g: _with(g, 0, 25), r"column 0 \(resolution\) has an index outside 0..24"),
        (lambda g: _with(g, 0, -1), r"column 0 \(resolution\) has an index outside 0..24"),
        (lambda g: _with(g, 2, 0), "a row describes a block beyond its stage's depth: pass the matrix through canonical"),
        (lambda g: _with(g, 9, -1), r"column 9 \(kernel\) is -1 although the block is present"),
        (lambda g: _with(g, 9, 3), r"column 9 \(kernel\) has an index outside -1..2"),
    ],
)
def test_bad_matrices(spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    space = SPACES["default"]
    with pytest.raises(ArchError, match=message):
        space.archs(spoil(space.genes([space.largest(), space.largest(128)])))


def test_empty_matrix(space: Space) -> None:
    empty = space.genes([])
    assert space.archs(empty) == []
    assert space.encode(empty).shape[0] == 0


def _with(genes: gene_ops.Genes, column: int, value: int) -> gene_ops.Genes:
    genes = genes.copy()
    genes[0, column] = value
    return genes
