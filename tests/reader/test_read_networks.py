"""Networks of other people: the largest sub-network is the model, and every sub-network is what is extracted."""

import json
import pickle
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
from onceforall.arch import Stage
from onceforall.costs import macs_table, memory_table, params_table, segment_table
from onceforall.errors import SpaceError
from onceforall.ops import leaves
from onceforall.spaces import from_json, graph_space
from own_networks import NETWORKS, stirred

STREAMS = {name: f"{name} with streams" for name in ("mobile", "vit", "two-heads", "shared", "grouped", "next")}
CASES = [*NETWORKS, *STREAMS.values()]


@cache
def case(name: str) -> tuple[nn.Module, Supernet]:
    model = stirred(name.removesuffix(" with streams")).double()
    return model, onceforall.elastic(model, (32,), stage_widths=(0.5, 0.75) if name.endswith(" with streams") else ())


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


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
def test_active_is_extracted_is_at(name: str) -> None:
    _, supernet = case(name)
    with torch.no_grad():
        for arch in archs(supernet):
            active = supernet(images(), arch)
            extracted = supernet.extract(arch)
            assert difference(active, extracted(images())) < 1e-12
            assert difference(active, supernet.at(arch)(images())) == 0
            assert not any(type(module).__module__.startswith("onceforall") for module in extracted.modules())


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
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


@pytest.mark.parametrize("name", CASES)
def test_tables_add_up(name: str) -> None:
    """What a segment depends on is in its columns: tables of all segments give what plans give."""
    space = case(name)[1].space
    table = segment_table(space, space.classes)
    some = [space.largest(), space.smallest(), *space.archs(space.sample_genes(np.random.default_rng(0), 30))]
    plans = [space.lower(arch) for arch in some]
    assert macs_table(table).estimate(some).tolist() == [plan.macs for plan in plans]
    assert params_table(table).estimate(some).tolist() == [plan.params for plan in plans]
    assert memory_table(table).estimate(some).tolist() == [plan.peak_memory_bytes for plan in plans]


def test_widths_of_residual_streams() -> None:
    for name in STREAMS.values():
        space, fixed = case(name)[1].space, case(name.removesuffix(" with streams"))[1].space
        assert max(len(stage.widths) for stage in space.stages) > 1
        assert "widths" in space.summary().splitlines()[2].split()
        assert all(len(stage.widths) == 1 for stage in fixed.stages)
        least = space.lower(space.smallest())
        assert least.macs < 0.7 * fixed.lower(fixed.smallest()).macs
        for arch in space.archs(space.sample_genes(np.random.default_rng(2), 20)):
            shapes = {segment.name: segment.out_shape for segment in space.lower(arch).segments}
            for s, stage in enumerate(arch.stages):  # channels first or, of tokens, last
                assert stage.width in shapes[f"stages.{s}.{stage.depth - 1}"]
    widths = {name: [stage.widths for stage in case(text)[1].space.stages] for name, text in STREAMS.items()}
    assert widths["vit"] == [(16, 24, 32)]
    assert widths["mobile"] == [(8, 16), (16, 24)]  # rounded to eights


def test_a_space_of_streams_needs_a_network_that_was_read_for_it() -> None:
    graph = case("vit")[1].space.arguments["graph"]
    with pytest.raises(SpaceError, match="read without elastic residual streams"):
        graph_space(graph=graph, stage_widths=(0.5,))
    with pytest.raises(SpaceError, match=r"stage_widths holds 1\.5"):
        onceforall.elastic(stirred("vit"), (32,), stage_widths=(1.5,))


@pytest.mark.parametrize("importance", ["l1", "norm", "activation"])
def test_streams_are_sorted_too(importance: str) -> None:
    """The largest network is what it was, and what was moved to the end of the stream is what mattered least."""
    model = stirred("vit").double()
    x = images()
    plain = onceforall.elastic(model, (32,), stage_widths=(0.5,), importance="none")
    (stage,) = plain.space.stages
    ranked = onceforall.elastic(model, (32,), stage_widths=(0.5,), importance=importance, images=[x])
    half = Arch(32, (Stage(stage.widths[0], plain.space.largest().stages[0].blocks),))
    with torch.no_grad():
        assert difference(model(x), ranked(x, ranked.space.largest())) < 1e-9
        assert difference(plain(x, half), ranked(x, half)) > 1e-3


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


@pytest.mark.parametrize("name", CASES)
def test_smaller_is_cheaper(name: str) -> None:
    space = case(name)[1].space
    largest, smallest = space.lower(space.largest()), space.lower(space.smallest())
    assert smallest.macs < 0.75 * largest.macs
    assert smallest.params < largest.params


@pytest.mark.parametrize("name", CASES)
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


def test_extracted_networks_can_be_pickled() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.token, self.head = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.body(x).flatten(2).transpose(1, 2)
            return self.head(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1).mean(1))  # type: ignore[no-any-return]

    supernet, images = onceforall.elastic(Token().eval(), (16,)), torch.randn(2, 3, 16, 16)
    network = supernet.extract(supernet.space.smallest())
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(network))(images), network(images))


class Joined(nn.Module):
    """A residual stream of which some channels come from pooling, and are always there."""

    def __init__(self, pooled: int, made: int) -> None:
        super().__init__()
        width = pooled + made
        self.stem, self.conv = nn.Conv2d(3, pooled, 3, 2, 1), nn.Conv2d(pooled, made, 3, 2, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(width, 32, 1), nn.ReLU(), nn.Conv2d(32, width, 1)) for _ in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = torch.cat([torch.nn.functional.avg_pool2d(x, 2), self.conv(x)], 1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("pooled", "made"), [(24, 24), (20, 28)])
def test_the_width_of_a_stream_is_what_its_blocks_hand_on(pooled: int, made: int) -> None:
    """Also where a share of it is not a share of the whole, because some channels are always there."""
    model = Joined(pooled, made).eval()
    space = onceforall.elastic(model, (32,), stage_widths=(0.5, 0.75), importance="none").space
    widths = space.stages[0].widths
    assert widths[-1] == pooled + made
    assert pooled < widths[0] < pooled + made
    rng = np.random.default_rng(0)
    seen = set()
    for arch in [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(20))]:
        plan = space.lower(arch, 4)
        made_of = {segment.out_shape[0] for segment in plan.segments if segment.name.startswith("stages.")}
        assert made_of == {arch.stages[0].width}
        seen |= made_of
    assert seen == set(widths)
