"""What is added from outside, by its page in docs/extending alone, is found everywhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from onceforall import Space, Supernet
from onceforall.backends import FORMATS, RUNTIMES
from onceforall.backends.onnxruntime import ONNXRUNTIME
from onceforall.calibrate import recalibrate
from onceforall.cli.completion import one_of, several_of
from onceforall.export import CardFacts, InputSteps, load
from onceforall.latency import Device, list_devices, stand_in
from onceforall.nn.bundle_source import to_bundle_source
from onceforall.nn.onnx import to_onnx
from onceforall.nn.operations import OPERATIONS
from onceforall.nn.shared import network_on, own_shapes, own_weights, share
from onceforall.nn.source import to_source
from onceforall.picture import draw
from onceforall.spaces import FAMILIES
from onceforall.supernets.sorting import sort_channels
from one_export import export_network

PAGES = Path(__file__).parent.parent / "docs" / "extending"
STEPS = InputSteps((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.875, "short side")
CLASSES = tuple("0123456789")


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    registries: list[Any] = [FAMILIES, OPERATIONS, RUNTIMES, FORMATS]
    before = [dict(registry) for registry in registries]
    yield
    for registry, own in zip(registries, before, strict=True):
        registry.clear()
        registry.update(own)


def page(name: str, number: int = 0) -> dict[str, Any]:
    """What an example of a page defines, run up to where it says what can be done with it."""
    code = re.findall(r"```python\n(.*?)```", (PAGES / name).read_text(encoding="utf-8"), re.DOTALL)[number]
    scope: dict[str, Any] = {"__name__": "added"}
    exec(compile(code.partition("# It computes what PyTorch")[0], name, "exec"), scope)
    return scope


@dataclass
class Made:
    space: Space
    supernet: Supernet
    images: torch.Tensor


@pytest.fixture
def slopes() -> Made:
    """A space with an operation that has weights, which are not all alike."""
    found = page("spaces.md", 1)
    supernet: Supernet = found["supernet"]
    assert any(isinstance(op, found["PRelu"]) for op in supernet.space.lower(supernet.space.largest(), 10).ops)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, found["ElasticPRelu"]):
                module.weight.uniform_(0.1, 0.5, generator=generator)
    return Made(supernet.space, supernet.eval(), torch.randn(2, 3, 32, 32, generator=generator))


def test_an_operation_in_the_supernet_and_in_extracted_networks(slopes: Made) -> None:
    for arch in (slopes.space.largest(), slopes.space.smallest()):
        network, plan = slopes.supernet.extract(arch), slopes.space.lower(arch, 10)
        assert torch.equal(slopes.supernet(slopes.images, arch), network(slopes.images))
        assert sum(value.numel() for value in network.parameters()) == plan.params
        assert set(own_shapes(plan)[0]) == set(dict(network.named_parameters()))
        slope = next(op for op in plan.ops if type(op) not in (*list(OPERATIONS)[:-1],))
        assert plan.macs > sum(op.macs for op in plan.ops if type(op) is not type(slope))


def test_an_operation_in_channel_sorting(slopes: Made) -> None:
    arch = slopes.space.largest()
    before = slopes.supernet.double()(slopes.images.double(), arch)
    narrow = slopes.supernet(slopes.images.double(), slopes.space.smallest())
    sort_channels(slopes.supernet)
    torch.testing.assert_close(slopes.supernet(slopes.images.double(), arch), before)
    assert not torch.allclose(slopes.supernet(slopes.images.double(), slopes.space.smallest()), narrow)


def test_an_operation_in_onnx_and_model_py(slopes: Made, tmp_path: Path) -> None:
    arch = slopes.space.sample(np.random.default_rng(1))
    network, plan = slopes.supernet.extract(arch), slopes.space.lower(arch, 10)
    content = to_onnx(plan, network)
    assert "PRelu" in {node.op_type for node in onnx.load_from_string(content).graph.node}
    logits = ONNXRUNTIME.load_onnx(content, threads=1, shape=(2, 3, 32, 32))(slopes.images.numpy())
    np.testing.assert_allclose(logits, network(slopes.images).detach().numpy(), atol=1e-5)
    source = to_source(plan, about="With learnt slopes.")
    assert "nn.PReLU(" in source
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "weights.safetensors")
    scope: dict[str, Any] = {"__name__": "model"}
    exec(compile(source, "model.py", "exec"), scope)
    torch.testing.assert_close(scope["load"](tmp_path / "weights.safetensors")(slopes.images), network(slopes.images))


def test_an_operation_in_a_bundle(slopes: Made) -> None:
    archs = [slopes.space.smallest(), slopes.space.sample(np.random.default_rng(1))]
    plans = [slopes.space.lower(arch, 10) for arch in archs]
    tensors = share(slopes.supernet.state_dict(), plans)
    for arch, plan in zip(archs, plans, strict=True):
        network = slopes.supernet.extract(arch)
        statistics = {name: network.state_dict()[name] for name in own_shapes(plan)[1]}
        torch.testing.assert_close(network_on(plan, own_weights(plan, tensors), statistics)(slopes.images), network(slopes.images))
    assert to_bundle_source({"a": plans[0], "b": plans[1]}, about="Two.").count("nn.PReLU(") >= 2


def test_an_operation_in_an_export(slopes: Made, tmp_path: Path) -> None:
    arch = slopes.space.sample(np.random.default_rng(1))
    network = recalibrate(slopes.supernet.extract(arch), [torch.randn(16, 3, 32, 32)]).network
    exported(slopes.space, arch, network, tmp_path / "net", ["onnx"])
    torch.testing.assert_close(load(tmp_path / "net")(slopes.images), network.eval()(slopes.images))
    assert "<svg" in draw(slopes.space.lower(arch, 10), arch, shares={}, title="slopes")
    assert f"{slopes.space.lower(arch, 10).params / 1e3:.0f}" in (tmp_path / "net" / "README.md").read_text()


def exported(space: Space, arch: Any, network: Any, folder: Path, formats: list[str]) -> None:
    facts = CardFacts("added", "noise", 0.5, 100)
    export_network(
        folder,
        space=space,
        arch=arch,
        network=network.eval(),
        classes=CLASSES,
        preprocessing=STEPS,
        formats=formats,
        images=torch.randn(8, 3, 32, 32),
        measure=lambda folder: facts,
        readers=[],
    )


def test_a_runtime(tmp_path: Path) -> None:
    page("runtimes.md")
    assert "pytorch-folded" in {device.runtime for device in list_devices() if device.lacks is None}
    assert Device.parse("pytorch-folded:threads=1").on_processor
    assert "pytorch-folded" in one_of("runtime")()
    assert "onnx,folded" in several_of("format")("onnx,fol")
    assert FORMATS["folded"].runtime.name == "pytorch-folded"
    space = FAMILIES["mobilenet_v3"](width=0.25, resolutions=(32,))
    network = stand_in(space.lower(space.smallest(), 10))
    exported(space, space.smallest(), network, tmp_path / "net", ["folded"])
    card = (tmp_path / "net" / "README.md").read_text()
    assert "| folded | folded.pt2 |" in card
    images = np.zeros((1, 3, 32, 32), np.float32)
    assert np.isfinite(np.asarray(FORMATS["folded"].ready(tmp_path / "net", 1, images)())).all()


def test_names_of_runtimes_need_no_torch() -> None:
    code = "import sys; from onceforall.backends import FORMATS, RUNTIMES; print(*RUNTIMES, *FORMATS, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == [*RUNTIMES, *FORMATS, "False"]
