"""What is measured, and when it is enough."""

import numpy as np
import pytest

import onceforall
from onceforall.latency import Effort
from onceforall.latency.design import Design, key_of
from onceforall.plan import Plan
from onceforall.supernets.conversion import elastic
from own_small_networks import Convolutional, Transformer

SPACE = onceforall.space("mobilenet_v3", width=0.1, resolutions=(16, 20, 24), depths=(1, 2), kernels=(3, 5), expand_ratios=(2, 3))
EFFORT = Effort(resolutions=2, fit=40, test=15)


@pytest.fixture(scope="module")
def design() -> Design:
    return Design(SPACE, 10, EFFORT, seed=1)


def ms(plans: list[Plan], noise: float = 0.0) -> list[float]:
    """Made-up times: in proportion to MACs, and a constant for each segment."""
    rng = np.random.default_rng(0)
    times = np.array([sum(1e-6 * s.macs + 0.004 for s in plan.segments) for plan in plans])
    return [float(t) for t in times * np.exp(noise * rng.standard_normal(len(times)))]


def test_halves(design: Design) -> None:
    assert (len(design.first), len(design.more)) == (20 + 15, 20)
    plans = [*design.first, *design.more]
    assert len(set(plans)) == len(plans)
    largest = SPACE.lower(SPACE.largest(), 10)
    assert max(plan.macs for plan in plans) == largest.macs


def test_additive_times_need_no_second_half(design: Design) -> None:
    pieces, first = ms(design.pieces), ms(design.first)
    assert design.expected_error(pieces, first) < 0.005
    costs, errors = design.fit(pieces, first)
    assert errors.mape < 0.005
    exact = design.sum_of_pieces(pieces)
    genes = SPACE.sample_genes(np.random.default_rng(2), 30)
    assert np.abs(costs.estimate(genes) / exact.estimate(genes) - 1).max() < 0.02


def test_noisy_times_need_it(design: Design) -> None:
    pieces, first = ms(design.pieces, 0.05), ms(design.first, 0.1)
    expected = design.expected_error(pieces, first)
    assert 0.03 < expected < 0.3
    _, alone = design.fit(pieces, first)
    _, both = design.fit(pieces, first, ms(design.more, 0.1))
    assert alone.n == both.n == 15
    assert alone.predicted != both.predicted


def test_few_networks_are_never_enough() -> None:
    small = Design(SPACE, 10, Effort(resolutions=2, fit=10, test=5), seed=1)
    assert small.expected_error(ms(small.pieces), ms(small.first)) == float("inf")


def test_keys_of_measurements_stay_what_they_were() -> None:
    """Else a new version would measure all segments of a run again."""
    space = onceforall.space("mobilenet_v3", width=0.1, resolutions=(32,))
    assert key_of(space.lower(space.smallest(), 10)) == "6047b22b1ad64e0e3834"
    for kind, key in ((Convolutional, "4ff0da5f3c741cb2548d"), (Transformer, "19c002604792314cea80")):
        own = elastic(kind(), (32,), widths=(0.5, 1), importance="none").space
        assert key_of(own.lower(own.smallest(), own.classes)) == key
