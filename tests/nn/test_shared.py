"""Shared weights: views of one tensor each, and networks on them that compute what extracted ones compute."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall.errors import CheckpointError
from onceforall.nn.bundle_source import to_bundle_source
from onceforall.nn.layers import ElasticConv
from onceforall.nn.shared import network_on, own_shapes, own_weights, share
from onceforall.nn.static import build
from onceforall.supernets.supernet import Supernet
from small_spaces import SMALL, SPACES

CLASSES = 10


def random_supernet(space):
    """With matrices that are no identities and statistics that differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(space, CLASSES).eval()
        with torch.no_grad():
            for layer in supernet.modules():
                if isinstance(layer, ElasticConv):
                    for name, value in layer.named_parameters():
                        if name.endswith("matrix"):
                            value.add_(0.2 * torch.rand_like(value))
            for norm in supernet.norms():
                for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    value.copy_(0.5 + torch.rand_like(value))
    return supernet


SUPERNETS = {name: random_supernet(SPACES[name]) for name in SMALL}


def statistics_of(network):
    return {name: value for name, value in network.state_dict().items() if "running" in name}


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4), ends=st.booleans())
def test_networks_on_shared_weights_are_the_extracted_ones(name, seed, count, ends):
    supernet = SUPERNETS[name]
    space, rng = supernet.space, np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(count)] + ([space.smallest(), space.largest()] if ends else [])
    plans = [space.lower(arch, CLASSES) for arch in archs]
    shared = {key: value.clone() for key, value in share(supernet.state_dict(), plans).items()}
    assert {key: value.shape for key, value in share(shared, plans).items()} == {k: v.shape for k, v in shared.items()}  # no more
    for arch, plan in zip(archs, plans, strict=True):
        extracted = supernet.extract(arch)
        network = network_on(plan, own_weights(plan, shared), statistics_of(extracted))
        found, expected = network.state_dict(), extracted.state_dict()
        assert list(found) == list(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-7)
        x = torch.rand(2, *plan.input_shape)
        with torch.no_grad():
            torch.testing.assert_close(network(x), extracted(x), rtol=1e-5, atol=1e-5)


def test_what_is_not_a_smaller_kernel_is_a_view(small_space):
    supernet = Supernet(small_space, CLASSES)
    plans = [small_space.lower(arch, CLASSES) for arch in (small_space.largest(), small_space.smallest())]
    shared = share(supernet.state_dict(), plans)
    places = {value.untyped_storage().data_ptr() for value in shared.values()}
    for plan in plans:
        for name, value in own_weights(plan, shared).items():
            is_view = value.untyped_storage().data_ptr() in places
            assert is_view == (value.ndim < 4 or value.shape[-1] == shared[name].shape[-1])


def test_shapes_are_those_of_the_network(space):
    plan = space.lower(space.largest(), CLASSES)
    with torch.device("meta"):
        state = build(plan).state_dict()
    weights, statistics = own_shapes(plan)
    assert {**weights, **statistics} == {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def test_small_networks_share_small_tensors():
    """No more than the largest of them needs: the smallest alone has its own parameters and no matrices."""
    for name in SMALL:
        space = SPACES[name]
        plan = space.lower(space.smallest(), CLASSES)
        shared = share(SUPERNETS[name].state_dict(), [plan])
        assert sum(value.numel() for value in shared.values()) == plan.params


def test_missing_and_small_tensors_are_named():
    supernet = SUPERNETS["half"]
    space = supernet.space
    plans = [space.lower(arch, CLASSES) for arch in (space.smallest(), space.largest())]
    whole = share(supernet.state_dict(), plans)
    depthwise = "stages.0.0.depthwise.conv"
    for changes, message in (
        ({"head.classifier.bias": None}, "head.classifier.bias is missing"),
        ({"head.classifier.bias": torch.zeros(3)}, r"head\.classifier\.bias has shape \(3,\), a network needs \(10,\)"),
        ({"head.classifier.bias": torch.zeros(10, 1)}, r"has shape \(10, 1\)"),
        ({f"{depthwise}.5to3_matrix": None}, rf"{depthwise}\.weight: no matrix leads from kernels of 5"),
        ({f"{depthwise}.5to3_matrix": torch.eye(4)}, r"no matrix leads from kernels of 5"),
    ):
        damaged = {name: value for name, value in {**whole, **changes}.items() if value is not None}
        with pytest.raises(CheckpointError, match=message):
            own_weights(plans[0], damaged)


def test_the_text_of_several_networks_shares_classes(small_space):
    rng = np.random.default_rng(0)
    plans = {f"n{i}": small_space.lower(small_space.sample(rng), CLASSES) for i in range(3)}
    text = to_bundle_source(plans, about="a test")
    scope = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), scope)
    assert list(scope["NETWORKS"]) == list(scope["RESOLUTIONS"]) == list(plans)
    assert [plan.input_shape[1] for plan in plans.values()] == list(scope["RESOLUTIONS"].values())
    for name, plan in plans.items():
        with torch.device("meta"):
            state = scope["NETWORKS"][name]().state_dict()
            assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in build(plan).state_dict().items()}
    kinds = {tuple((type(op), op.name) for op in segment.ops) for plan in plans.values() for segment in plan.segments}
    assert text.count("\nclass ") <= 2 * len(kinds) + len(plans) + 1
