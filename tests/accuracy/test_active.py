"""What chance leaves to be reached, and which networks are worth measuring next."""

import numpy as np
import pytest

from onceforall import space
from onceforall.accuracy import AccuracyPredictor, AccuracyRow, kendall_ceiling, measurement_noise, spread, suggest
from onceforall.common.statistics import kendall_tau
from onceforall.costs import macs_table, segment_table
from onceforall.errors import SpaceError

SPACE = space("mobilenet_v3", width=0.25, depths=(1, 2, 3), kernels=(3, 5), expand_ratios=(3, 4), resolutions=(32, 48))
MACS = macs_table(segment_table(SPACE, 10))
TINY = SPACE.restrict(depths=(1,), kernels=(3,), resolutions=(32,))  # 2^5 networks


def truth(genes: np.ndarray) -> np.ndarray:
    effects = 0.004 * np.random.default_rng(7).standard_normal(SPACE.encode(genes[:1]).shape[1])
    return 0.5 + 0.05 * np.log(MACS.estimate(genes) / 1e6) + SPACE.encode(genes) @ effects


def fitted(n: int, seed: int = 0) -> tuple[AccuracyPredictor, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    genes = SPACE.genes(spread(SPACE, rng, n, MACS))
    y = truth(genes) + 0.004 * rng.standard_normal(n)
    return AccuracyPredictor.fit(SPACE, genes, y, kinds=["pairwise"]), genes, y


def test_noise_from_halves_of_the_images() -> None:
    """Images of very different difficulty, networks that agree on most: the noise is that of one network against another."""
    rng, images, networks = np.random.default_rng(0), 1001, 400
    difficulty = rng.beta(0.3, 0.3, images)
    right = rng.random((networks, images)) < difficulty
    arch = SPACE.smallest()
    rows = [AccuracyRow(arch, r.mean(), 1.0, images, 0.1, float(r[::2].mean())) for r in right]
    paired = np.sqrt(np.mean(difficulty * (1 - difficulty)) / images)
    assert measurement_noise(rows) == pytest.approx(paired, rel=0.1)
    assert paired < 0.7 * np.sqrt(0.25 / images)  # than what one would think of each network alone
    assert measurement_noise(rows[:7]) is None
    assert measurement_noise([*rows, AccuracyRow(arch, 0.5, 1.0, images, 0.1)]) is None


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_ceiling_is_what_the_truth_reaches(noise: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal(600)
    measured = true + noise * rng.standard_normal(600)
    predicted = 0.5 + 0.1 * (true + 0.3 * rng.standard_normal(600))
    assert kendall_ceiling(predicted, measured, noise) == pytest.approx(kendall_tau(true, measured), abs=0.05)


def test_no_ceiling_where_all_is_noise() -> None:
    assert kendall_ceiling(np.full(10, 0.5), np.linspace(0, 1, 10), 0.1) == 0
    assert abs(kendall_ceiling(np.linspace(0, 1, 100), np.linspace(0, 0.1, 100), 10.0)) < 0.05


def test_suggestions_are_new_unlike_and_near_the_front() -> None:
    predictor, genes, _ = fitted(60)
    known = SPACE.archs(genes)
    found = suggest(predictor, MACS, 40, known=known, seed=3)
    assert found == suggest(predictor, MACS, 40, known=known, seed=3)
    assert len(set(found) - set(known)) == 40
    rows = SPACE.genes(found)
    away = (rows[:, None] != rows).sum(2) + 99 * np.eye(40, dtype=int)
    assert np.median(away.min(1)) >= 3
    logs = np.log(MACS.estimate(found))
    ends = np.log(MACS.estimate([SPACE.smallest(), SPACE.largest()]))
    assert (np.histogram(logs, 5, ends)[0] >= 4).all()
    others = SPACE.sample_genes(np.random.default_rng(0), 5000)
    for arch in found[::4]:  # better than what random networks of at most that size promise
        fitting = others[MACS.estimate(others) <= MACS.estimate([arch])[0]]
        if len(fitting) > 20:
            assert predictor.score([arch])[0] > np.quantile(predictor.score(fitting), 0.95)


def test_suggestions_are_truly_better_than_other_networks_of_their_size() -> None:
    others = SPACE.sample_genes(np.random.default_rng(1), 4000)
    trend = np.polynomial.Polynomial.fit(np.log(MACS.estimate(others)), truth(others), 3)
    scatter = np.std(truth(others) - trend(np.log(MACS.estimate(others))))
    for seed in range(3):
        predictor, genes, _ = fitted(40, seed)
        found = SPACE.genes(suggest(predictor, MACS, 40, known=SPACE.archs(genes), seed=seed))
        assert np.mean(truth(found) - trend(np.log(MACS.estimate(found)))) > 0.7 * scatter


def test_small_spaces_and_impossible_numbers() -> None:
    genes = TINY.sample_genes(np.random.default_rng(0), 200)
    genes = np.unique(genes, axis=0)[:20]
    predictor = AccuracyPredictor.fit(TINY, genes, np.linspace(0.4, 0.6, 20))
    macs = macs_table(segment_table(TINY, 10))
    known = TINY.archs(genes)
    rest = suggest(predictor, macs, 12, known=known)
    assert len({*rest, *known}) == 32
    for n in (0, 13):
        with pytest.raises(SpaceError, match="12 are not measured yet, give a number from 1 to 12"):
            suggest(predictor, macs, n, known=known)
