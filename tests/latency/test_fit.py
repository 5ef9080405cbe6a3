import numpy as np
import pytest

import onceforall
from onceforall.costs import segment_table
from onceforall.latency.fit import compositions, fit_costs, interpolate_times, likeness

SPACE = onceforall.space("mobilenet_v3", width=0.35, resolutions=(20, 24, 28), strides=(1, 1, 2, 2, 1, 1, 2), depths=(1, 2))
TABLE = segment_table(SPACE, 10)
SEGMENTS = TABLE.distinct()


def test_compositions_add_up_to_the_plans() -> None:
    genes = SPACE.sample_genes(np.random.default_rng(0), 20)
    macs = np.array([segment.macs for segment in SEGMENTS], float)
    plans = [SPACE.lower(arch, 10) for arch in SPACE.archs(genes)]
    assert (compositions(TABLE, genes) @ macs).tolist() == [plan.macs for plan in plans]
    assert compositions(TABLE, genes).sum(1).tolist() == [len(plan.segments) for plan in plans]


def test_interpolation_keeps_what_is_known_and_lies_between() -> None:
    truth = np.array([1e-6 * segment.macs + 0.01 for segment in SEGMENTS])
    ends = {20, 28, 10, 14, 5, 7, 3, 4}  # of the feature maps, at resolutions 20 and 28
    known = {i: float(truth[i]) for i, s in enumerate(SEGMENTS) if s.in_shape[1] in ends}
    assert 0 < len(known) < len(SEGMENTS)
    times = interpolate_times(SEGMENTS, known)
    assert times == pytest.approx(truth, rel=1e-9)


def test_likeness_tells_segments_apart() -> None:
    assert len({likeness(segment) for segment in SEGMENTS}) == len(SEGMENTS)


def test_fit_finds_what_happens_inside_networks() -> None:
    """Times alone miss a price per segment and factors of places and kernels; 24 networks, 1 % noise, 5 such worlds."""
    errors = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        alone = np.array([1e-6 * s.macs + 0.003 * len(s.ops) for s in SEGMENTS]) * rng.lognormal(0, 0.02, len(SEGMENTS))
        places = {like.place: rng.normal(0, 0.1) for like in map(likeness, SEGMENTS)}
        kernels = {like.kernels: rng.normal(0, 0.05) for like in map(likeness, SEGMENTS)}
        inside = alone * [0.8 + places[like.place] + kernels[like.kernels] for like in map(likeness, SEGMENTS)] - 0.002
        fit, test = (compositions(TABLE, SPACE.sample_genes(rng, n)) for n in (24, 100))
        times = fit @ inside * rng.normal(1, 0.01, 24)
        costs = fit_costs(SEGMENTS, alone, fit, times)
        assert (costs > 0).all()
        candidates = (costs, alone * np.median(times / (fit @ alone)), alone)
        errors.append([np.abs(test @ values / (test @ inside) - 1).mean() for values in candidates])
    fitted, scaled, plain = np.mean(errors, 0)
    assert fitted < 0.02
    assert fitted < 0.8 * scaled < plain
