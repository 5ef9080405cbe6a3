"""What latency tables need of own networks: random weights that run, a network in the middle, and segments told apart."""

import numpy as np
import pytest
import torch

from exported_networks import MODELS, PIXELS, supernet_of
from onceforall.costs import segment_table
from onceforall.latency.device import Device
from onceforall.latency.fit import compositions, fit_costs, likeness
from onceforall.latency.networks import ready, stand_in
from onceforall.latency.table import middle


@pytest.mark.parametrize("name", MODELS)
def test_networks_with_random_weights_run(name: str) -> None:
    supernet = supernet_of(name)
    arch = middle(supernet.space)
    supernet.space.check(arch)
    plan = supernet.space.lower(arch, supernet.num_classes)
    network = stand_in(plan)
    with torch.no_grad():
        found = network(torch.randn(2, 3, PIXELS, PIXELS))
    if isinstance(found, torch.Tensor):
        assert found.shape == (2, *plan.output_shape)
        assert found.isfinite().all()
        ready(plan, network, Device("onnxruntime", threads=1))()


@pytest.mark.parametrize("name", MODELS)
def test_costs_of_segments_are_found_from_networks(name: str) -> None:
    space = supernet_of(name).space
    table = segment_table(space, supernet_of(name).num_classes)
    segments = table.distinct()
    assert len({likeness(segment) for segment in segments}) == len(segments)
    rng = np.random.default_rng(0)
    true = np.array([1e-9 * segment.macs + 0.01 for segment in segments])
    counts = compositions(table, space.sample_genes(rng, 60))
    found = fit_costs(segments, true * 1.1, counts[:40], counts[:40] @ true)
    np.testing.assert_allclose(counts[40:] @ found, counts[40:] @ true, rtol=0.05)
