"""net.config: round trips over each published space, and configurations that were damaged in every way."""

import contextlib
import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall import Space, published
from onceforall.errors import ArchError
from onceforall.nn.static import build
from small_spaces import SPACES as SMALL_SPACES

SPACES = {name: published.published_space(name) for name in published.NAMES}
EMBEDDED = json.loads(gzip.decompress((Path(__file__).parent.parent / "published_data" / "specialized.json.gz").read_bytes()))
CONFIGS = [network["net.config"] for network in EMBEDDED.values()]
CONFIG = EMBEDDED["LG-G8_lat-24ms_top1-76.4_finetune-25"]["net.config"]


@given(st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__), st.integers(0, 2**32), st.sampled_from([10, 1000]))
def test_arch_to_config_to_arch(space: Space, seed: int, num_classes: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    config = json.loads(json.dumps(published.net_config(space, arch, num_classes)))
    plan = published.plan_from_config(config, arch.resolution)
    assert published.recognise(space, plan) == arch
    assert (plan.macs, plan.params) == (space.lower(arch, num_classes).macs, space.lower(arch, num_classes).params)


@given(st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__), st.integers(0, 2**32))
@settings(max_examples=15)
def test_torch_counts_the_same(space: Space, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    plan = published.plan_from_config(published.net_config(space, arch), arch.resolution)
    with torch.device("meta"):
        network, counter = build(plan).eval(), FlopCounterMode(display=False)
        with counter:
            network(torch.empty(1, *plan.input_shape))
    assert counter.get_total_flops() == 2 * plan.macs == 2 * space.lower(arch).macs
    assert sum(p.numel() for p in network.parameters()) == plan.params == space.lower(arch).params


@given(st.sampled_from(sorted(SMALL_SPACES)).map(SMALL_SPACES.__getitem__), st.integers(0, 2**32))
def test_any_space_is_expressed_or_refused(space: Space, seed: int) -> None:
    arch = space.sample(np.random.default_rng(seed))
    with contextlib.suppress(ArchError):
        plan = published.plan_from_config(published.net_config(space, arch, 7), arch.resolution)
        assert [segment.ops for segment in plan.segments] == [segment.ops for segment in space.lower(arch, 7).inelastic().segments]


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("resnet50d", {"strides": (1, 1, 1, 2, 2, 2)}, "cannot express this network of 128 pixels: stages.1.0 would be another"),
        ("resnet50d", {"width": 0.05}, "cannot express this network of 128 pixels: stages.2.0 would be another"),
        ("mobilenet_v3", {"expand_ratios": (1.03,)}, "cannot express this network of 128 pixels: net.config"),
    ],
)
def test_what_the_original_has_no_words_for(family: str, arguments: dict[str, Any], message: str) -> None:
    space = onceforall.space(family, **arguments)
    with pytest.raises(ArchError, match=message):
        published.net_config(space, space.smallest())


def test_a_network_of_another_space_is_not_recognised() -> None:
    small = SPACES["ofa_mbv3_d234_e346_k357_w1_0"]
    plan = published.plan_from_config(published.net_config(small, small.largest()), 224)
    assert [name for name, space in SPACES.items() if published.recognise(space, plan)] == ["ofa_mbv3_d234_e346_k357_w1_0"]
    assert published.recognise(small.restrict(kernels=(3, 5)), plan) is None
    assert published.recognise(small.restrict(depths=(2, 3)), plan) is None
    assert published.recognise(small.restrict(resolutions=(128,)), plan) is None


def test_both_spellings_are_one_network() -> None:
    config = CONFIG
    text = json.dumps(config).replace("MobileInvertedResidualBlock", "ResidualBlock").replace("MBInvertedConvLayer", "MBConvLayer")
    renamed = json.loads(text.replace("mobile_inverted_conv", "conv"))
    assert renamed != config
    assert published.plan_from_config(renamed, 224) == published.plan_from_config(config, 224)


def test_the_extracted_block_takes_the_written_middle_width_or_rounds() -> None:
    config = copy.deepcopy(CONFIG)
    block = config["blocks"][1]["mobile_inverted_conv"]
    block["expand_ratio"], block["mid_channels"] = 3.3, None
    (segment,) = (s for s in published.plan_from_config(config, 224).segments if s.name == "stages.0.0")
    assert segment.ops[0].shape[0] == round(16 * 3.3) == 53, "not a multiple of 8: the static network rounds plainly"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["name"], "ResNeXt", "net.config.name is 'ResNeXt'"),
        (["bn"], {"eps": -1}, "bn.eps is -1"),
        (["first_conv", "in_channels"], 4, "first_conv.in_channels is 4, but its input has 3"),
        (["first_conv", "dilation"], 2, "first_conv.dilation is 2: only 1"),
        (["first_conv", "ops_order"], "bn_act_weight", "ops_order"),
        (["first_conv", "out_channels"], 10**9, "from 1 to 65536"),
        (["first_conv", "surprise"], 1, "unknown entry 'surprise'"),
        (["blocks"], [], "list of 1 to 1000"),
        (["blocks", 2], None, r"blocks\[2\] must be an object"),
        (["blocks", 1, "mobile_inverted_conv", "kernel_size"], 4, "only odd"),
        (["blocks", 1, "mobile_inverted_conv", "kernel_size"], [3, 5], "whole number"),
        (["blocks", 1, "mobile_inverted_conv", "stride"], True, "stride is True"),
        (["blocks", 1, "mobile_inverted_conv", "act_func"], "tanh", "act_func is 'tanh'"),
        (["blocks", 1, "mobile_inverted_conv", "expand_ratio"], float("nan"), "must be a number above 0"),
        (["blocks", 1, "mobile_inverted_conv", "use_se"], 1, "true or false"),
        (["blocks", 1, "shortcut"], {"name": "IdentityLayer"}, "the block changes"),
        (["blocks", 2, "shortcut"], {"name": "ConvLayer"}, "only IdentityLayer"),
        (["classifier", "in_features"], 7, "in_features is 7"),
        (["classifier", "bias"], False, "bias is False"),
    ],
)
def test_what_cannot_be_read_is_named(path: list[Any], value: Any, message: str) -> None:
    config = copy.deepcopy(CONFIG)
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ArchError, match=message) as error:
        published.plan_from_config(config, 224)
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, child in items for place in places(child, (*path, key))]


PLACES = [places(config) for config in CONFIGS]


@given(st.data())
def test_damaged_configurations_are_read_or_refused(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(CONFIGS) - 1))
    config = copy.deepcopy(CONFIGS[number])
    for _ in range(data.draw(st.integers(1, 2))):
        path, value = data.draw(st.sampled_from(PLACES[number])), data.draw(JSON)
        at: Any = config
        for key in path[:-1]:
            if not isinstance(at, dict | list) or key not in (at if isinstance(at, dict) else range(len(at))):
                break
            at = at[key]
        else:
            if isinstance(at, dict) or (isinstance(at, list) and path[-1] in range(len(at))):
                at[path[-1]] = value
    with contextlib.suppress(ArchError):
        plan = published.plan_from_config(config, 160)
        assert plan.input_shape == (3, 160, 160)
        assert plan.params > 0


def test_other_families_have_no_configuration() -> None:
    space = onceforall.space("mobilenet_v3")
    foreign = Space("mine", {}, space.resolutions, space.stages, space.lowering)
    with pytest.raises(ArchError, match="mine is not one of the original's families"):
        published.net_config(foreign, space.largest())
