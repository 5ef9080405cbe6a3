"""The built-in table of published networks is what their published configurations say."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import onceforall
from onceforall import published
from onceforall.published import KNOWN_NETWORKS, OFA_NETWORKS

DATA = Path(__file__).parent.parent / "published_data" / "specialized.json.gz"
EMBEDDED: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))


def id_of(network: published.PublishedNetwork) -> str:
    """The name of its published folder."""
    device, budget = network.name.split("@")
    (found,) = [
        name for name in EMBEDDED if (name.startswith(device) and f"-{budget}_" in name) or name.startswith(f"{device}-{budget}")
    ]
    return found


def test_all_of_them_are_there() -> None:
    assert sorted(map(id_of, OFA_NETWORKS)) == sorted(EMBEDDED)


@pytest.mark.parametrize("network", OFA_NETWORKS, ids=lambda network: network.name)
def test_blocks_are_those_of_the_configuration(network: published.PublishedNetwork) -> None:
    config = EMBEDDED[id_of(network)]
    space = onceforall.space(network.family, width=network.width, resolutions=(network.resolution,))
    plan = published.plan_from_config(config["net.config"], network.resolution)
    arch = network.arch(space)
    assert arch is not None
    assert arch == published.recognise(space, plan)
    assert space.lower(arch).macs == config["macs"] == network.macs
    assert network.resolution == config["run.config"]["image_size"]
    assert f"top1-{100 * network.top1:.1f}" in id_of(network)


def test_in_another_space() -> None:
    (network,) = [n for n in OFA_NETWORKS if n.name == "note10@16ms"]  # 192 pixels
    space = onceforall.space("mobilenet_v3", width=0.5, resolutions=(96, 112, 128))
    arch = network.arch(space)
    assert arch is not None
    assert arch in space
    assert arch.resolution == 112  # two thirds of the way from 96 to 128 are 117.3
    assert arch.depths == tuple(len(stage) // 2 for stage in network.blocks.split())
    (largest,) = [n for n in OFA_NETWORKS if n.name == "pixel1@143ms"]  # 240 pixels, beyond the end
    assert largest.arch(space) is None or largest.arch(space).resolution == 128  # type: ignore[union-attr]


def test_what_a_space_lacks() -> None:
    network = OFA_NETWORKS[2]
    assert network.arch(onceforall.space("proxyless")) is None
    assert network.arch(onceforall.space("mobilenet_v3", kernels=(3,))) is None
    assert network.arch(onceforall.space("mobilenet_v3", depths=(1,))) is None


def test_known_networks_are_plausible() -> None:
    assert len({network.name for network in KNOWN_NETWORKS}) == len(KNOWN_NETWORKS)
    assert all(1e8 < network.macs < 1e9 and 0.7 < network.top1 < 0.8 for network in KNOWN_NETWORKS)
