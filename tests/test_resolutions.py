"""Networks for images that are no squares: as texts, plans, supernets, files and costs, like those of squares in all else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall import Arch, Space, Supernet
from onceforall.accuracy import AccuracyPredictor, AccuracyRow, append_rows, interpolate, measured_resolutions, read_rows
from onceforall.accuracy.features import Features
from onceforall.costs import macs_table, memory_table, params_table, segment_table
from onceforall.errors import ArchError, ModelError, SpaceError, ValueTextError
from onceforall.nn.onnx import to_onnx
from onceforall.nn.source import to_source
from onceforall.options.values import space_arguments, with_resolutions
from onceforall.picture import draw
from onceforall.published.write_config import net_config
from onceforall.resolutions import (
    ascending,
    aspect_of,
    by_sides,
    height_width,
    in_pixels,
    longest_side,
    of_sides,
    read_resolution,
    side_of,
)
from onceforall.spaces import from_json

SIZES = ("24x40", 32, "17x33", "40x24")
FAMILIES: dict[str, dict[str, Any]] = {
    "mobilenet_v3": {"strides": (1, 1, 2, 2, 1, 1, 2), "kernels": (3, 5), "depths": (1, 2)},
    "proxyless": {"strides": (1, 1, 2, 2, 1, 1, 2, 1), "kernels": (3, 5), "depths": (1, 2)},
    "resnet50d": {"strides": (1, 1, 1, 2, 2, 2), "depths": (0, 1)},
}
BAD = ["0x5", "160x", "x160", "a", "160x224x3", "-3x4", "1.5x4", "", "9999999x4", "08x16"]


@pytest.fixture(scope="module", params=FAMILIES)
def space(request: pytest.FixtureRequest) -> Space:
    return onceforall.space(request.param, width=0.1, resolutions=SIZES, channels=1, **FAMILIES[request.param])


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_texts_and_sides(height: int, width: int) -> None:
    found = of_sides(height, width)
    assert isinstance(found, int) == (height == width)
    assert height_width(found) == (height, width)
    assert read_resolution(str(found)) == read_resolution(f" {height}x{width} ") == read_resolution(by_sides(found)) == found
    assert side_of(found) ** 2 == pytest.approx(height * width)
    assert longest_side([found, 1]) == max(height, width)
    assert aspect_of([found]) == pytest.approx(width / height)


def test_order_and_words() -> None:
    assert ascending(["40x24", 32, "24x40", 30, 20]) == (20, 30, "24x40", "40x24", 32) == ascending((32, "24x40", 20, "40x24", 30))
    assert ascending((4, 96, 128)) == (4, 96, 128)
    assert (in_pixels(224), in_pixels("160x224"), in_pixels("160x224", ""), by_sides(7)) == (
        "224 px",
        "160×224 px",
        "160×224",
        "7×7",
    )
    assert aspect_of((96, 224)) == 1.0
    assert aspect_of(("32x16", "16x32", 8)) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [*BAD, 0, True, 1.5, None])
def test_what_is_no_resolution(bad: Any) -> None:
    with pytest.raises(SpaceError, match=r"give a number of pixels such as 224, or HEIGHTxWIDTH such as 160x224"):
        read_resolution(bad)
    if isinstance(bad, str):
        with pytest.raises(SpaceError, match="give a number of pixels"):
            onceforall.space("mobilenet_v3", resolutions=(bad, 160))
        with pytest.raises((ValueTextError, SpaceError)):
            with_resolutions(None, f"160,{bad}")
        with pytest.raises(ArchError, match="resolution: expected pixels"):
            Arch.from_json(json.dumps({"format": "onceforall.arch/1", "resolution": bad, "stages": []}))


@pytest.mark.parametrize(
    ("given", "message"),
    [(("160x160", 160), "a value is repeated"), (("4x40",), "resolutions holds 4x40: each must have sides from 8"),
     ("160x224", "it must be a sequence"), ((7, "160x224"), "resolutions holds 7: each must have sides from 8"),
     ((1.5, "160x224"), "resolutions holds 1.5: each must be a whole number"), (([160, 224],), "it must be a sequence of numbers")],
)  # fmt: skip
def test_what_spaces_refuse(given: Any, message: str) -> None:
    for family in FAMILIES:
        with pytest.raises(SpaceError, match=message):
            onceforall.space(family, resolutions=given)


def test_how_they_are_written() -> None:
    assert with_resolutions("width=0.5", "160x224, 96,224x224") == {"width": 0.5, "resolutions": ("160x224", 96, 224)}
    assert space_arguments("resolutions=96x160/128,depths=1/2") == {"resolutions": ("96x160", 128), "depths": (1, 2)}
    squares = onceforall.space("mobilenet_v3", resolutions=("128x128", 96))
    assert squares.to_json() == onceforall.space("mobilenet_v3", resolutions=(96, 128)).to_json()


def test_a_space_and_its_networks_as_texts_and_genes(space: Space) -> None:
    assert space.resolutions == ("17x33", "24x40", "40x24", 32)
    assert from_json(space.to_json()) == space
    assert from_json(space.restrict(resolutions=("24x40", 32)).to_json()).resolutions == ("24x40", 32)
    assert "resolutions: 17×33, 24×40, 40×24, 32 pixels" in space.summary()
    genes = space.sample_genes(np.random.default_rng(0), 50)
    archs = space.archs(genes)
    np.testing.assert_array_equal(space.genes(archs), genes)
    assert [Arch.from_json(arch.to_json()) for arch in archs] == archs
    assert {arch.resolution for arch in archs} == set(space.resolutions)
    assert space.largest().resolution == 32
    with pytest.raises(ArchError, match=r"resolution is 24, this .* space allows 17x33, 24x40, 40x24, 32"):
        space.largest(24)
    with pytest.raises(SpaceError, match=r"this .* space offers 17x33, 24x40, 40x24, 32"):
        space.restrict(resolutions=("24x41",))


def weights_of(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, value in network.state_dict().items():
        if "running_var" in name or (value.ndim == 1 and "weight" in name):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim:
            value.normal_(0, 0.1, generator=generator)


def test_supernets_extracted_networks_files_and_costs_agree(space: Space, tmp_path: Path) -> None:
    supernet = Supernet(space, num_classes=5)
    weights_of(supernet)
    archs = [space.largest("24x40"), space.smallest("17x33"), space.smallest("40x24"), space.largest()]
    tables = [table(segment_table(space, 5)) for table in (macs_table, params_table, memory_table)]
    for arch in archs:
        plan = space.lower(arch, 5)
        assert plan.input_shape == (1, *height_width(arch.resolution))
        assert [table.estimate([arch])[0] for table in tables] == [plan.macs, plan.params, plan.peak_memory_bytes]
        x = torch.randn(2, *plan.input_shape, generator=torch.Generator().manual_seed(1))
        network = supernet.train().extract(arch)
        torch.testing.assert_close(supernet(x, arch), network(x))
        with FlopCounterMode(display=False) as counter:
            network(x[:2])
        assert counter.get_total_flops() == 2 * 2 * plan.macs
        network = supernet.eval().extract(arch).eval()
        scope: dict[str, Any] = {"__name__": "model"}
        exec(compile(to_source(plan, about="a test"), "model.py", "exec"), scope)
        copied = scope["Network"]().eval()
        copied.load_state_dict(network.state_dict())
        session = onnxruntime.InferenceSession(to_onnx(plan, network), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            expected = network(x)
            torch.testing.assert_close(copied(x), expected)
        (found,) = session.run(None, {"images": x.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        assert session.get_inputs()[0].shape[1:] == list(plan.input_shape)
        assert f"{by_sides(arch.resolution)} pixels" in draw(plan, arch)
    with pytest.raises(ArchError, match="the plan was not lowered from this architecture"):
        draw(space.lower(archs[0], 5), space.largest("40x24"))


def test_a_vision_transformer_is_timms_at_any_shape() -> None:
    """With `dynamic_img_size`, timm interpolates position embeddings itself."""
    shape: dict[str, Any] = {
        "img_size": 48,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 4,
        "num_classes": 5,
        "in_chans": 1,
    }
    model, any_size = VisionTransformer(**shape).eval(), VisionTransformer(**shape, dynamic_img_size=True).eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    any_size.load_state_dict(model.state_dict())
    supernet = onceforall.elastic(model, ("24x56", 48, "64x32"), importance="none")
    assert (supernet.space.channels, supernet.space.resolutions) == (1, ("24x56", "64x32", 48))
    assert "interpolated at 24×56, 64×32 pixels: pos_embed" in supernet.space.summary()
    assert from_json(supernet.space.to_json()) == supernet.space
    for resolution in supernet.space.resolutions:
        x = torch.randn(2, 1, *height_width(resolution), generator=torch.Generator().manual_seed(7))
        arch = supernet.space.largest(resolution)
        with torch.no_grad():
            expected = any_size(x)
            torch.testing.assert_close(supernet(x, arch), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(supernet.extract(arch).eval()(x), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_ones_own_made_for_a_rectangle() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.img_size = (16, 24)
            self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
            self.head = torch.nn.Linear(8 * 6 * 10, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.body(x).flatten(1))
            return y

    model = Own().eval()
    supernet = onceforall.elastic(model, ("16x24",), importance="none")
    x = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))
    with pytest.raises(ModelError, match=r"with images of 24 pixels .* it can be read at 16x24 pixels"):
        onceforall.elastic(model, (24,))
    from onceforall.reader.exporting import stored_sizes

    assert stored_sizes(model) == ["16x24"]
    ranked = onceforall.elastic(model, ("16x24",), importance="activation", images=x)
    with torch.no_grad():
        torch.testing.assert_close(ranked(x, ranked.space.largest()), model(x))
    with pytest.raises(ModelError, match="r among 16x24"):
        onceforall.elastic(model, ("16x24",), importance="activation", images=torch.zeros(2, 3, 24, 16))


def test_predictors_learn_and_rows_keep_rectangles(tmp_path: Path) -> None:
    sizes = ("16x32", 32, "32x48", 48)
    own = onceforall.space("mobilenet_v3", width=0.1, resolutions=sizes, depths=(1, 2), kernels=(3,), expand_ratios=(2, 3))
    features, rng = Features.of(own), np.random.default_rng(0)
    genes = own.sample_genes(rng, 150)
    assert np.isfinite(features.summary(genes)).all()
    assert all(np.isfinite(matrix).all() for matrix in features.maps.values())
    macs = macs_table(segment_table(own, 3))
    truth = 0.9 - 0.2 * np.exp(-macs.estimate(genes) / macs.estimate(genes).mean())
    for kind in ("linear", "smooth"):
        predictor = AccuracyPredictor.fit(own, genes[:120], truth[:120], weights_hash="a", seed=0, kinds=[kind])
        assert np.abs(predictor.predict(genes[120:]) - truth[120:]).mean() < 0.02
        predictor.save(tmp_path / kind)
        again = AccuracyPredictor.load(tmp_path / kind, own)
        np.testing.assert_allclose(again.predict(genes), predictor.predict(genes), atol=1e-6)
    rows = [AccuracyRow(arch, 0.5 + 0.01 * i, 1.0, 10, 0.1) for i, arch in enumerate(dict.fromkeys(own.archs(genes[:9])))]
    append_rows(tmp_path / "rows", own, rows, weights_hash="a")
    assert [(row.arch, row.top1) for row in read_rows(tmp_path / "rows", own)] == [(row.arch, row.top1) for row in rows]
    low, high = own.largest("16x32"), own.largest(48)
    found = interpolate(own, [AccuracyRow(low, 0.2, 2.0, 9, 0.0), AccuracyRow(high, 0.8, 1.0, 9, 0.0)], macs)
    assert [row.arch.resolution for row in found] == [32, "32x48"]
    costs = macs.estimate([low, high, *(row.arch for row in found)])
    np.testing.assert_allclose([row.top1 for row in found], 0.2 + 0.6 * (costs[2:] - costs[0]) / (costs[1] - costs[0]))
    with pytest.raises(SpaceError, match="steps in pixels need square resolutions"):
        measured_resolutions(own, 16)


def test_what_is_of_the_authors_is_for_squares() -> None:
    own = onceforall.space("mobilenet_v3", resolutions=("128x160", 160))
    with pytest.raises(ArchError, match="the original has no configuration for images of 128×160 px: choose a square resolution"):
        net_config(own, own.largest("128x160"))
    assert net_config(own, own.largest(160))["first_conv"]["in_channels"] == 3
