"""Position embeddings of models of one size: at others they are what timm and torchvision make of them."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VisionTransformer as TorchvisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

import onceforall
from onceforall import Arch, Supernet
from onceforall.calibrate import recalibrate
from onceforall.costs import macs_table, memory_table, params_table, segment_table
from onceforall.errors import ModelError, SpaceError
from onceforall.nn.bundle_source import to_bundle_source
from onceforall.nn.onnx import to_onnx
from onceforall.nn.shared import network_on, own_weights, share
from onceforall.nn.source import to_source
from onceforall.ops import Grid
from onceforall.spaces import from_json
from onceforall.spaces.graph import graph_of
from own_networks import Layer, conv, stirred

OWN = 48
SIZES = (24, OWN, 64)
SHAPE: dict[str, Any] = {"img_size": OWN, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
KINDS: dict[str, dict[str, Any]] = {
    "class token": {},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "registers": {"reg_tokens": 3},
    "not of prefix tokens": {"no_embed_class": True, "reg_tokens": 2},
    "oblong patches": {"patch_size": (8, 4)},
}


@cache
def case(name: str) -> tuple[VisionTransformer, VisionTransformer, Supernet]:
    """A model of timm's, the same with dynamic_img_size, and the supernet."""
    arguments = SHAPE | KINDS[name]
    model = VisionTransformer(**arguments).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    any_size = VisionTransformer(**arguments, dynamic_img_size=True).eval()
    any_size.load_state_dict(model.state_dict())
    return model, any_size, onceforall.elastic(model, SIZES, importance="none")


def images(pixels: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, pixels, pixels, dtype=dtype, generator=torch.Generator().manual_seed(pixels))


def archs(supernet: Supernet, pixels: int) -> list[Arch]:
    space = supernet.space
    return [space.largest(pixels), space.smallest(pixels)]


def assert_close(found: Tensor, expected: Tensor, within: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < within * float(expected.std())


@pytest.mark.parametrize("name", KINDS)
def test_they_are_timms(name: str) -> None:
    model, any_size, supernet = case(name)
    space = supernet.space
    assert space.resolutions == SIZES
    with torch.no_grad():
        for pixels in SIZES:
            assert_close(supernet(images(pixels), space.largest(pixels)), any_size(images(pixels)))
        own = supernet(images(OWN), space.largest(OWN))
        alone = onceforall.elastic(model, (OWN,), importance="none")
        assert torch.equal(own, alone(images(OWN), alone.space.largest()))
        assert_close(own, model(images(OWN)))
        positions = supernet.get_parameter("pos_embed")
        positions.copy_(model.pos_embed.roll(1, 1))
        moved = supernet(images(24), space.largest(24)) - any_size(images(24))
        positions.copy_(model.pos_embed)
    assert moved.abs().max() > 1e-2  # they matter


@pytest.mark.parametrize("name", KINDS)
def test_same_gradients(name: str) -> None:
    _, any_size, supernet = case(name)
    for pixels in SIZES:
        for network in (any_size, supernet):
            network.zero_grad()
        supernet(images(pixels), supernet.space.largest(pixels)).square().sum().backward()
        any_size(images(pixels)).square().sum().backward()
        own = dict(supernet.named_parameters())
        for key, parameter in any_size.named_parameters():
            assert parameter.grad is not None
            assert own[key].grad is not None
            torch.testing.assert_close(own[key].grad, parameter.grad, rtol=1e-3, atol=1e-4 * float(parameter.grad.abs().max()))


@pytest.mark.parametrize("name", KINDS)
def test_extracted_networks_are_plain(name: str) -> None:
    """Their position embedding has the size that they need."""
    model, any_size, supernet = case(name)
    for pixels in SIZES:
        rows, columns = any_size.patch_embed.dynamic_feat_size((pixels, pixels))
        for arch in archs(supernet, pixels):
            network = supernet.extract(arch)
            with torch.no_grad():
                active = supernet(images(pixels), arch)
                assert_close(network(images(pixels)), active, 1e-6)
                assert torch.equal(supernet.at(arch)(images(pixels)), active)
            prefix = model.pos_embed.shape[1] - model.patch_embed.num_patches
            assert network.get_parameter("pos_embed").shape == (1, prefix + rows * columns, 32)
            assert "interpolate" not in network.code
            assert "upsample" not in network.code


def test_costs_are_torchs() -> None:
    supernet = case("registers")[2]
    space = supernet.space
    table = segment_table(space, space.classes)
    some = [arch for pixels in SIZES for arch in archs(supernet, pixels)]
    for arch in some:
        network, plan, counter = supernet.extract(arch), space.lower(arch), FlopCounterMode(display=False)
        with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            network(images(arch.resolution, 1))
        assert 2 * plan.macs == counter.get_total_flops()
        assert plan.params == sum(p.numel() for p in network.parameters())
    plans = [space.lower(arch) for arch in some]
    assert len({plan.params for plan in plans}) == len(some)
    assert macs_table(table).estimate(some).tolist() == [plan.macs for plan in plans]
    assert params_table(table).estimate(some).tolist() == [plan.params for plan in plans]
    assert memory_table(table).estimate(some).tolist() == [plan.peak_memory_bytes for plan in plans]


@pytest.mark.parametrize("name", ["registers", "oblong patches"])
def test_a_space_needs_no_model(name: str) -> None:
    supernet = case(name)[2]
    space = from_json(supernet.space.to_json())
    assert space == supernet.space
    assert space.summary() == supernet.space.summary()
    again = Supernet(space).eval()
    again.load_state_dict(supernet.state_dict())
    with torch.no_grad():
        for pixels in SIZES:
            for arch in archs(supernet, pixels):
                assert torch.equal(again(images(pixels), arch), supernet(images(pixels), arch))


def test_a_damaged_space() -> None:
    text = case("registers")[2].space.to_json()
    assert '"align_corners"' in text
    with pytest.raises(SpaceError, match="damaged graph"):
        from_json(text.replace('"align_corners"', '"corners"'))
    data = json.loads(text)
    data["arguments"]["graph"]["weights"]["pos_embed"]["grids"].pop()
    with pytest.raises(SpaceError, match="a grid for each resolution"):
        from_json(json.dumps(data))


@pytest.mark.parametrize("name", ["class token", "oblong patches"])
def test_onnx_holds_plain_numbers(name: str) -> None:
    supernet = case(name)[2]
    for pixels in SIZES:
        for arch in archs(supernet, pixels):
            network = supernet.extract(arch)
            written = to_onnx(supernet.space.lower(arch), network)
            assert not {"Resize", "Upsample"} & {node.op_type for node in onnx.load_from_string(written).graph.node}
            session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
            with torch.no_grad():
                assert_close(torch.from_numpy(session.run(None, {"images": images(pixels).numpy()})[0]), network(images(pixels)))


def run_text(text: str, file: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": file.stem}
    exec(compile(text, str(file), "exec"), names)
    return names


def test_sources_and_bundles(tmp_path: Path) -> None:
    supernet = case("registers")[2]
    chosen = {f"at{pixels}": supernet.space.smallest(pixels) for pixels in SIZES}
    plans = {name: supernet.space.lower(arch) for name, arch in chosen.items()}
    shared = share(supernet.state_dict(), list(plans.values()))
    assert shared["pos_embed"].shape == supernet.get_parameter("pos_embed").shape
    save_file({key: value.detach().contiguous().clone() for key, value in shared.items()}, tmp_path / "weights.safetensors")
    bundle = run_text(to_bundle_source(plans, about="a test"), tmp_path / "bundle.py")["Bundle"](tmp_path / "weights.safetensors")
    for name, arch in chosen.items():
        network, plan, x = supernet.extract(arch), plans[name], images(arch.resolution)
        own = run_text(to_source(plan, about="a test"), tmp_path / "model.py")["Network"]()
        own.load_state_dict(network.state_dict())
        with torch.no_grad():
            for other in (own.eval(), network_on(plan, own_weights(plan, shared), {}), bundle.network(name)):
                assert_close(other(x), network(x))


@pytest.mark.parametrize("pixels", [(OWN,), (32, OWN), (24, 64), (64,)])
def test_which_sizes_may_be_asked_for(pixels: tuple[int, ...]) -> None:
    """Its own need not be among them."""
    model, any_size, _ = case("class token")
    supernet = onceforall.elastic(model, pixels)
    assert supernet.space.resolutions == pixels
    with torch.no_grad():
        for size in pixels:
            assert_close(supernet(images(size), supernet.space.largest(size)), any_size(images(size)))
    assert supernet.get_parameter("pos_embed").shape == model.pos_embed.shape


def test_it_is_said() -> None:
    text = case("oblong patches")[2].space.summary()
    assert "\nresolutions: 24, 48, 64 pixels\ninterpolated at 24, 64 pixels: pos_embed\n" in text
    assert "interpolated at 64 pixels" in case("oblong patches")[2].space.restrict(resolutions=(48, 64)).summary()
    only = onceforall.elastic(case("oblong patches")[0], (OWN,)).space
    assert "interpolated" not in only.summary()
    assert "grids" not in only.to_json()


def test_widths_of_the_stream() -> None:
    """Narrower networks interpolate their own channels."""
    supernet = onceforall.elastic(case("registers")[0], SIZES, stage_widths=(0.5,))
    for pixels in SIZES:
        arch = supernet.space.smallest(pixels)
        assert arch.stages[0].width == 16
        network = supernet.extract(arch)
        assert network.get_parameter("pos_embed").shape[-1] == 16
        with torch.no_grad():
            assert_close(network(images(pixels)), supernet(images(pixels), arch), 1e-6)


def test_torchvisions() -> None:
    def made(pixels: int) -> nn.Module:
        return TorchvisionTransformer(pixels, 8, 2, 4, 32, 64, num_classes=5).eval()

    model = made(OWN)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    supernet = onceforall.elastic(model, SIZES)
    with torch.no_grad():
        for pixels in SIZES:
            expected = made(pixels)
            expected.load_state_dict(interpolate_embeddings(pixels, 8, copy.deepcopy(model.state_dict())))  # type: ignore[arg-type]
            assert_close(supernet(images(pixels), supernet.space.largest(pixels)), expected(images(pixels)))


class Hybrid(nn.Module):
    """Convolutions with batch norm before the tokens; a class token before those that get positions; no size is checked."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=4))
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 37, 32))
        self.layers, self.head = nn.Sequential(Layer(32, 4), Layer(32, 4)), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.position + torch.concat([self.token.expand(len(x), -1, -1), x], dim=-2)
        return self.head(self.layers(x)[:, 0])  # type: ignore[no-any-return]


def test_own_networks() -> None:
    """In double precision, at half the size and above."""
    for model, own, key in ((Hybrid().eval(), OWN, "position"), (stirred("vit"), 32, "position")):
        sizes = (own // 2, own, own + 8)
        model.double()
        supernet = onceforall.elastic(model, sizes)
        tensor = model.get_parameter(key)
        with torch.no_grad():
            for pixels in sizes:
                other = copy.deepcopy(model)
                side = round((tensor.shape[1] - 1) ** 0.5) * pixels // own
                setattr(other, key, nn.Parameter(resample_abs_pos_embed(tensor, [side, side])))
                x = images(pixels, dtype=torch.float64)
                assert_close(supernet(x, supernet.space.largest(pixels)), other(x), 1e-5)  # timm's is in single precision
                arch = supernet.space.smallest(pixels)
                assert_close(supernet.extract(arch)(x), supernet(x, arch), 1e-12)


def test_recalibration() -> None:
    supernet = onceforall.elastic(Hybrid().eval(), (32, OWN))
    arch = supernet.space.smallest(32)
    network = recalibrate(supernet.extract(arch), [images(32, 8)]).network
    assert network(images(32)).isfinite().all()


class Map(nn.Module):
    """Positions of a map, channels first or last, twice; the second of no size that images have."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.patches = conv(3, 16, stride=8)
        self.position = nn.Parameter(torch.randn(1, 6, 6, 16) if last else torch.randn(1, 16, 6, 6))
        self.bias = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.body, self.head = conv(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x) + self.bias
        x = (x.permute(0, 2, 3, 1) + self.position).permute(0, 3, 1, 2) if self.last else x + self.position
        return self.head(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("last", [False, True])
def test_maps(last: bool) -> None:
    model = Map(last=last).eval()
    supernet = onceforall.elastic(model, SIZES)
    order = (0, 3, 1, 2) if last else (0, 1, 2, 3)
    with torch.no_grad():
        for pixels in SIZES:
            other = copy.deepcopy(model)
            found = F.interpolate(model.position.permute(order), [pixels // 8] * 2, mode="bicubic", antialias=True)
            other.position = nn.Parameter(found.permute(np.argsort(order).tolist()))
            assert_close(supernet(images(pixels), supernet.space.largest(pixels)), other(images(pixels)))
    assert supernet.get_parameter("bias").shape == (1, 16, 1, 1)


class Rows(nn.Module):
    """Patches of half an image's width without a convolution: how many stand side by side is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(3 * 8 * 16, 32), nn.Parameter(torch.randn(1, 18, 32))
        self.layer, self.head = Layer(32, 4), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unfold(2, 8, 8).unfold(3, 16, 16).flatten(2, 3).transpose(1, 2).flatten(2)
        return self.head(self.layer(self.embed(x) + self.position).mean(1))  # type: ignore[no-any-return]


class Shared(nn.Module):
    """Positions that are also read otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.position, self.head = conv(3, 16, stride=8), nn.Parameter(torch.randn(1, 36, 16)), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head((x + self.position.mean(1)).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "model",
    [SwinTransformer(img_size=64, patch_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 2), window_size=4), Rows(), Shared()],
    ids=["windows", "unknown rows", "read otherwise"],
)
def test_refused(model: nn.Module) -> None:
    own = 64 if isinstance(model, SwinTransformer) else OWN
    with pytest.raises(ModelError) as caught:
        onceforall.elastic(model.eval(), (32, own))
    text = str(caught.value)
    assert "cannot read" in text
    assert "with images of 32 pixels" in text
    assert text.endswith(f"; it can be read at {own} pixels, and has no position embedding that could be interpolated for others")
    assert onceforall.elastic(model, (own,)).space.resolutions == (own,)


def test_images_smaller_than_a_patch_are_refused_by_what_is_wrong_with_them() -> None:
    with pytest.raises(ModelError) as caught:
        onceforall.elastic(case("class token")[0], (4, OWN))
    text = str(caught.value)
    assert f"(4) doesn't match model ({OWN}); it can be read at {OWN} pixels" in text
    assert text.endswith("Kernel size: (8 x 8). Kernel size can't be greater than actual input size; give other resolutions")


def test_a_grid() -> None:
    tokens = Grid(1, True, 2, (3, 4), (5, 6))
    assert tokens.dims == (1,)
    assert tokens.shape((1, 14, 8), tokens.after) == (1, 32, 8)
    rows = Grid(2, False, 0, (3, 4), (3, 4))
    assert (rows.dims, rows.same, tokens.same) == ((2, 3), True, False)
    assert rows.shape((1, 8, 3, 4), (5, 6)) == (1, 8, 5, 6)


def test_what_is_stored() -> None:
    """A supernet's tensor has its own size, whatever the largest network needs."""
    supernet = case("class token")[2]
    graph = graph_of(supernet.space)
    assert graph.weights["pos_embed"].shape == tuple(supernet.get_parameter("pos_embed").shape) == (1, 37, 32)
    assert [grid.after for grid in graph.weights["pos_embed"].grids] == [(3, 3), (6, 6), (8, 8)]


class Windows(nn.Module):
    """Tokens window after window."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, (OWN // 8) ** 2, 16))
        self.layer, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w, c) + self.position
        return self.head((x + self.layer(x)).mean(1))  # type: ignore[no-any-return]


def test_tokens_in_another_order_than_row_after_row_are_refused() -> None:
    with pytest.raises(ModelError, match="has no position embedding that could be interpolated for others"):
        onceforall.elastic(Windows().eval(), (OWN, 64))
