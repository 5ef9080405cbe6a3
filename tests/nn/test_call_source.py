"""model.py of own networks, run without onceforall, and bundles of them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from exported_networks import MODELS, PIXELS, Windows, model_of, supernet_of
from onceforall.errors import CheckpointError
from onceforall.export.weights import write_weights
from onceforall.nn.bundle_source import to_bundle_source
from onceforall.nn.shared import network_on, own_weights, share
from onceforall.nn.source import to_source
from onceforall.supernets.conversion import elastic

NAMES = [*MODELS, "windows"]
RUN = """
import pickle, sys, torch
assert not any(name.startswith("onceforall") for name in sys.modules)
from model import *
images = torch.load("images.pt")
with torch.no_grad():
    torch.save({NETWORKS}, "found.pt")
"""


def supernet(name: str) -> Any:
    return elastic(model_of(Windows), (PIXELS,)) if name == "windows" else supernet_of(name)


def archs(space: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    return [space.largest(), space.smallest(), space.sample(rng), space.sample(rng)]


def executed(folder: Path, text: str, networks: str, images: Tensor) -> Any:
    (folder / "model.py").write_text(text, encoding="utf-8")
    torch.save(images, folder / "images.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = "import sys\nsys.path = [p for p in sys.path if 'src' not in p]\nsys.path.insert(0, '.')\n" + RUN.replace(
        "{NETWORKS}", networks
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return torch.load(folder / "found.pt")


def assert_equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_text_is_the_network_without_onceforall(tmp_path: Path) -> None:
    """All in one process, which takes seconds to start."""
    images, expected, files = torch.randn(3, 3, PIXELS, PIXELS), {}, {}
    for name in NAMES:
        net = supernet(name)
        for i, arch in enumerate(archs(net.space)):
            network = net.extract(arch)
            key = f"{name}{i}"
            write_weights(tmp_path / f"{key}.safetensors", network)
            files[key] = to_source(net.space.lower(arch, net.num_classes), about="a test")
            (tmp_path / f"{key}.py").write_text(files[key], encoding="utf-8")
            with torch.no_grad():
                expected[key] = network(images)
            assert len(files[key].splitlines()) < 300
    every = f"{{name: __import__(name).load(name + '.safetensors')(images) for name in {list(expected)}}}"
    assert_equal(executed(tmp_path, files["conv0"], every, images), expected)


def test_alike_blocks_share_a_function() -> None:
    net = supernet_of("vit")
    text = to_source(net.space.lower(net.space.largest(), net.num_classes), about="a test")
    assert "stages.0.0, stages.0.1, stages.0.2" in text
    assert text.count("scaled_dot_product_attention") == 1
    assert "onceforall" not in text


@pytest.mark.parametrize("name", NAMES)
def test_networks_on_shared_tensors_are_the_extracted_ones(name: str) -> None:
    net = supernet(name)
    plans = {f"n{i}": net.space.lower(arch, net.num_classes) for i, arch in enumerate(archs(net.space))}
    shared = share(net.state_dict(), list(plans.values()))
    images = torch.randn(2, 3, PIXELS, PIXELS)
    for arch, plan in zip(archs(net.space), plans.values(), strict=True):
        extracted = net.extract(arch)
        statistics = {key: value for key, value in extracted.state_dict().items() if "running" in key}
        network = network_on(plan, own_weights(plan, shared), statistics)
        assert set(network.state_dict()) == set(extracted.state_dict())
        with torch.no_grad():
            assert_equal(network(images), extracted(images))


def test_bundles_without_onceforall(tmp_path: Path) -> None:
    for name in ("conv", "vit"):
        net, folder = elastic(model_of(MODELS[name]), (PIXELS,)), tmp_path / name
        folder.mkdir()
        some = archs(net.space)
        plans = {f"n{i}": net.space.lower(arch, net.num_classes) for i, arch in enumerate(some)}
        with torch.no_grad():
            for key, value in net.named_parameters():
                if key.endswith("_matrix"):
                    value.add_(torch.randn_like(value) * 0.1)
        tensors = share(net.state_dict(), list(plans.values()))
        images, expected = torch.randn(3, 3, PIXELS, PIXELS), {}
        for key, arch in zip(plans, some, strict=True):
            network = net.extract(arch)
            tensors |= {f"{key}/{at}": value for at, value in network.state_dict().items() if "running_" in at}
            with torch.no_grad():
                expected[key] = network(images)
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, folder / "weights.safetensors")
        every = "(lambda bundle: {name: bundle.network(name)(images) for name in NETWORKS})(Bundle('weights.safetensors'))"
        assert_equal(executed(folder, to_bundle_source(plans, about="a test"), every, images), expected)


def test_shared_tensors_are_checked() -> None:
    net = supernet_of("conv")
    plan = net.space.lower(net.space.smallest(), 10)
    tensors = share(net.state_dict(), [plan])
    with pytest.raises(CheckpointError, match=r"head\.weight is missing"):
        own_weights(plan, {key: value for key, value in tensors.items() if key != "head.weight"})
    with pytest.raises(CheckpointError, match=r"blocks\.0\.project\.weight has shape"):
        own_weights(plan, {**tensors, "blocks.0.project.weight": torch.zeros(16, 2, 1, 1)})


def test_norms_without_scales_and_norms_over_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(16, affine=False), nn.LayerNorm([16, 8, 8]), nn.LayerNorm(8, elementwise_affine=False)
    net = elastic(nn.Sequential(nn.Conv2d(3, 16, 1), *norms, nn.Conv2d(16, 4, 1)).eval(), (8,))
    network, images = net.extract(net.space.smallest()), torch.randn(2, 3, 8, 8)
    write_weights(tmp_path / "own.safetensors", network)
    text = to_source(net.space.lower(net.space.smallest(), net.num_classes), about="a test")
    with torch.no_grad():
        assert_equal(executed(tmp_path, text, "load('own.safetensors')(images)", images), network(images))
