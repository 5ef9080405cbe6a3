"""Networks of other people: the largest sub-network is the model, and every sub-network is what is extracted."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall import Arch, Supernet
from onceforall.ops import leaves
from onceforall.spaces import from_json
from own_networks import NETWORKS, stirred


@cache
def case(name: str) -> tuple[nn.Module, Supernet]:
    model = stirred(name).double()
    return model, onceforall.elastic(model, (32,))


def tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(output) if isinstance(leaf, Tensor)]


def difference(first: Any, second: Any) -> float:
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    assert pairs
    return max(float((a - b).abs().max() / a.std()) for a, b in pairs)


def archs(supernet: Supernet, n: int = 3) -> list[Arch]:
    space, rng = supernet.space, np.random.default_rng(1)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(n))]


def images(seed: int = 0, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_largest_is_the_model(name: str) -> None:
    model, supernet = case(name)
    with torch.no_grad():
        for batch in (1, 3):
            expected = model(images(batch, batch))
            found = supernet(images(batch, batch), supernet.space.largest())
            assert type(found) is type(expected)
            assert difference(expected, found) < 1e-9


@pytest.mark.parametrize("name", NETWORKS)
def test_single_precision_is_as_good_as_the_models(name: str) -> None:
    """Against float64, the largest is off by at most three times what the model itself is off."""
    model = stirred(name)
    supernet = onceforall.elastic(model, (32,))
    with torch.no_grad():
        x = images()
        own, found = model(x.float()), supernet(x.float(), supernet.space.largest())
        exact = model.double()(x)
    for true, mine, theirs in zip(tensors(exact), tensors(found), tensors(own), strict=True):
        assert float((mine - true).abs().max()) <= 3 * float((theirs - true).abs().max()) + 1e-7 * float(true.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_active_is_extracted_is_at(name: str) -> None:
    _, supernet = case(name)
    with torch.no_grad():
        for arch in archs(supernet):
            active = supernet(images(), arch)
            extracted = supernet.extract(arch)
            assert difference(active, extracted(images())) < 1e-12
            assert difference(active, supernet.at(arch)(images())) == 0
            assert not any(type(module).__module__.startswith("onceforall") for module in extracted.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_same_gradients(name: str) -> None:
    _, supernet = case(name)
    for arch in archs(supernet, 1):
        supernet.zero_grad()
        extracted = supernet.extract(arch)
        sum(t.square().sum() for t in tensors(supernet(images(), arch))).backward()  # type: ignore[union-attr]
        sum(t.square().sum() for t in tensors(extracted(images()))).backward()  # type: ignore[union-attr]
        own = dict(supernet.named_parameters())
        norms = []
        for key, parameter in extracted.named_parameters():
            mine, theirs = own[key].grad, parameter.grad
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None and own[key].shape == parameter.shape:
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max() + 1))
            if mine is not None and theirs is not None:
                norms.append((float(mine.norm()), float(theirs.norm())))
        assert norms
        for mine_norm, their_norm in norms:  # a narrower weight's gradient is the wide one's, which is 0 elsewhere
            assert mine_norm == pytest.approx(their_norm, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_torchs(name: str) -> None:
    _, supernet = case(name)
    space = supernet.space
    for arch in archs(supernet, 1):
        extracted = supernet.extract(arch)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # others are not counted on CPUs
            extracted(images(batch=1))
        plan = space.lower(arch)
        assert 2 * plan.macs == counter.get_total_flops()
        assert plan.params == sum(p.numel() for p in extracted.parameters())


def test_what_is_elastic() -> None:
    kinds = {
        name: {kind for stage in case(name)[1].space.stages for kind, values in stage.of_block if len(values) > 1}
        for name in NETWORKS
    }
    depths = {name: [stage.depths for stage in case(name)[1].space.stages] for name in NETWORKS}
    assert kinds["mobile"] == {"expand_ratio", "kernel"}
    assert kinds["vit"] == {"expand_ratio", "heads"}
    assert kinds["next"] == {"expand_ratio", "kernel"}
    assert all("expand_ratio" in kinds[name] for name in ("unet", "yolo", "two-heads", "grouped", "plain", "shared"))
    assert depths["vit"] == [(1, 2, 3)]
    assert max(map(max, depths["mobile"])) == 4
    assert depths["next"] == [(1, 2, 3)]


@pytest.mark.parametrize("name", NETWORKS)
def test_smaller_is_cheaper(name: str) -> None:
    space = case(name)[1].space
    largest, smallest = space.lower(space.largest()), space.lower(space.smallest())
    assert smallest.macs < 0.75 * largest.macs
    assert smallest.params < largest.params


@pytest.mark.parametrize("name", NETWORKS)
def test_a_space_needs_no_model(name: str) -> None:
    model, supernet = case(name)
    space = from_json(json.loads(json.dumps(supernet.space.to_json())))
    assert space == supernet.space
    again = Supernet(space).double().eval()
    again.load_state_dict(supernet.state_dict())
    arch = space.sample(np.random.default_rng(0))
    with torch.no_grad():
        assert difference(model(images()), again(images(), space.largest())) < 1e-9
        assert difference(supernet(images(), arch), again(images(), arch)) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_summary_names_modules(name: str) -> None:
    text = case(name)[1].space.summary()
    assert "32 pixels" in text
    if name == "vit":
        assert "layers.0 … layers.2" in text
        assert "patches" in text.split("not elastic:")[1]
    if name == "buffered":
        assert "cumsum" in text.split("not elastic:")[1]
