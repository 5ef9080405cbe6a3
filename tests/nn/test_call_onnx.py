"""ONNX files of own networks compute what the extracted networks compute."""
# ruff: noqa: E501, one function a line

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import onceforall.nn.onnx
from exported_networks import MODELS, PIXELS, Rooted, ViT, Windows, model_of, supernet_of
from onceforall.errors import CheckpointError, DeviceError, StatisticsError
from onceforall.nn.onnx import to_onnx
from onceforall.nn.torch_onnx import names_of
from onceforall.supernets.conversion import elastic

ROUNDING = 2.0**-24


@pytest.fixture
def own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to torch's exporter."""

    def fail(plan: object, state: object, why: str, **options: Any) -> bytes:
        raise AssertionError(why)

    monkeypatch.setattr(onceforall.nn.onnx, "by_torch", fail)


def run(model: bytes, images: Tensor) -> dict[str, Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, {"images": images.numpy()})), strict=True))


def archs(supernet: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    space = supernet.space
    return [space.largest(), space.smallest(), space.sample(rng), space.sample(rng)]


def assert_same(network: nn.Module, model: bytes, images: Tensor, within: float = 1e-5) -> None:
    """What float32 does is off by a share of the spread of the values."""
    with torch.no_grad():
        exact = network.double()(images.double())
    network.float()
    expected = {"logits": exact} if isinstance(exact, Tensor) else names_of(exact)
    for batch in (1, 3):
        parts = [run(model, part) for part in torch.split(images, batch)]
        assert parts[0].keys() == expected.keys()
        for name, right in expected.items():
            found = torch.cat([part[name] for part in parts])
            assert found.shape == right.shape, name
            assert float((found.double() - right).abs().max()) <= within * float(right.abs().max() + 1e-3), name


def images_of(seed: int = 0, count: int = 3) -> Tensor:
    return torch.randn(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("opset", [10, 13, 17, 20])
@pytest.mark.parametrize("name", MODELS)
def test_own_networks(name: str, opset: int, own_only: None) -> None:
    if name == "unet" and opset < 11:
        pytest.skip("bilinear upsampling needs opset 11")
    supernet = supernet_of(name)
    for arch in archs(supernet):
        network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
        assert_same(network, to_onnx(plan, network, opset=opset), images_of())


@pytest.mark.parametrize("name", MODELS)
def test_narrower_residual_streams(name: str, own_only: None) -> None:
    supernet = elastic(model_of(MODELS[name]), (PIXELS,), stage_widths=(0.5,))
    for arch in archs(supernet):
        network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
        assert_same(network, to_onnx(plan, network), images_of())


@pytest.mark.parametrize("name", MODELS)
def test_macs_are_those_of_torchs_counter(name: str) -> None:
    supernet = supernet_of(name)
    for arch in archs(supernet):
        network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
        # by matrix products: the counter does not know the attention that processors take
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images_of(count=1))
        assert 2 * plan.macs == counter.get_total_flops()
        assert plan.params == sum(value.numel() for value in network.parameters())


def test_norms_are_folded_and_the_batch_can_be_fixed() -> None:
    supernet = supernet_of("conv")
    arch = supernet.space.largest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    model = onnx.load_model_from_string(to_onnx(plan, network, batch=4, softmax=True, metadata={"arch": "a"}))
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == sum(op.target == "conv2d.default" for op in plan.ops)  # type: ignore[union-attr]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [4, 3, PIXELS, PIXELS]
    assert [output.name for output in model.graph.output] == ["probabilities"]
    assert [(prop.key, prop.value) for prop in model.metadata_props] == [("arch", "a")]


def test_a_token_for_each_image_is_a_constant_where_the_batch_is_fixed() -> None:
    supernet = supernet_of("vit")
    arch = supernet.space.smallest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    free, fixed = (onnx.load_model_from_string(to_onnx(plan, network, batch=batch)) for batch in (None, 3))
    assert "Shape" in {node.op_type for node in free.graph.node}
    assert "Shape" not in {node.op_type for node in fixed.graph.node}
    with torch.no_grad():
        torch.testing.assert_close(
            run(fixed.SerializeToString(), images_of())["logits"], network(images_of()), rtol=1e-4, atol=1e-4
        )


class Biased(ViT):
    """The bias of a layer is put together of two, as in BEiT."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3)), nn.Linear(32, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.patches(x).mean((2, 3)), self.last.weight, torch.cat([self.left, self.right]))


def test_a_bias_that_is_computed(own_only: None) -> None:
    model = model_of(Biased)
    supernet = elastic(model, (PIXELS,))
    arch = supernet.space.largest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    with torch.no_grad():
        torch.testing.assert_close(network(images_of()), model(images_of()), rtol=1e-4, atol=1e-4)
    assert_same(network, to_onnx(plan, network), images_of())


def test_every_segment_alone(own_only: None) -> None:
    supernet = supernet_of("csp")
    arch = supernet.space.largest()
    plan = supernet.space.lower(arch, supernet.num_classes)
    for segment in plan.segments:
        piece = plan.piece(segment.name)
        network = supernet.cut(piece)
        x = torch.randn(2, *piece.input_shape)
        with torch.no_grad():
            torch.testing.assert_close(run(to_onnx(piece, network), x)["logits"], network(x), rtol=1e-4, atol=1e-4)


def test_several_outputs_are_named() -> None:
    supernet = supernet_of("heads")
    arch = supernet.space.smallest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    model = onnx.load_model_from_string(to_onnx(plan, network))
    shapes = {o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    assert shapes == {"kind": ["batch", 5], "boxes_0": ["batch", 4, 16, 16], "boxes_1": ["batch", 16, 16, 16]}
    with pytest.raises(DeviceError, match="softmax: the network returns several tensors"):
        to_onnx(plan, network, softmax=True)


class Does(nn.Module):
    """Functions of a feature map (n, 8, 8, 8) and tokens (n, 16, 8)."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.conv, self.patch = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(3, 8, 8, 8)
        self.table = nn.Parameter(torch.randn(49, 8))
        self.register_buffer("spots", torch.randint(0, 49, (16, 16), generator=torch.Generator().manual_seed(0)))
        self.register_buffer("mask", torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) > 0.3)
        self.register_buffer("order", torch.tensor([3, 0, -1, 2]))
        self.register_buffer("kernel", torch.randn(4, 4, 2, 3, generator=torch.Generator().manual_seed(1)))
        self.functions = functions

    def forward(self, x: Tensor) -> dict[str, Any]:
        maps, tokens = self.conv(x), self.patch(x).flatten(2).transpose(1, 2)
        return {name: function(self, maps, tokens) for name, function in self.functions.items()}


ONE = (
    F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.silu, F.gelu, F.softplus, F.elu, F.leaky_relu, F.mish, F.logsigmoid, F.selu,
    torch.sigmoid, torch.tanh, torch.exp, torch.neg, torch.abs, torch.sin, torch.erf,
)  # fmt: skip


def written(maps: Tensor) -> Tensor:
    """Parts of a copy are written to."""
    changed = maps * 1
    changed[:, 1:3] = maps[:, :2] * 2
    changed[:, :, 2] = 0.5
    changed[..., ::3] *= -1
    return changed


FUNCTIONS: dict[str, dict[str, Callable[..., Any]]] = {
    "elementwise": {
        "each": lambda s, m, t: [function(m) for function in ONE],
        "sqrt": lambda s, m, t: torch.sqrt(m.abs() + 1),
        "rsqrt": lambda s, m, t: torch.rsqrt(m.abs() + 1),
        "gelu tanh": lambda s, m, t: F.gelu(m, approximate="tanh"),
        "clamp": lambda s, m, t: (m.clamp(-0.5, 0.7), m.clamp(min=0.1), m.clamp(max=0.2), m.clamp_min(0.3)),
        "pow": lambda s, m, t: (m**2, m.abs() ** 0.5, m.abs() ** 1.5, m**3),
        "softplus beta": lambda s, m, t: F.softplus(m, beta=2),
        "glu": lambda s, m, t: F.glu(m, 1),
    },
    "arithmetic": {
        "numbers": lambda s, m, t: (m + 2, 2 - m, m * 3, m / 4, 1 / (m.abs() + 1), m - 0.5),
        "alpha": lambda s, m, t: (torch.add(m, m, alpha=2), torch.sub(m, m * m, alpha=0.5), torch.add(m, 1, alpha=3)),
        "broadcast": lambda s, m, t: m * m.mean((2, 3), keepdim=True) + m[:, :1],
        "addcmul": lambda s, m, t: torch.addcmul(m, m, m, value=0.5),
        "sums": lambda s, m, t: (
            m.cumsum(1),
            (m > 0).cumsum(2),
            torch.where((m > 0) & ~(m > 1), m, 0.5),
            torch.where((m >= 0) | (m <= -1), m, 0.5),
        ),
        "spread": lambda s, m, t: (m.var((2, 3)), m.std(1, keepdim=True), m.var((2, 3), unbiased=False, keepdim=True)),
        "bounds": lambda s, m, t: (m.clamp(-1, 0.5), (m > 0).long().cumsum(1).clamp(1, 5), (m > 0).long().cumsum(1).clamp(min=2)),
        "bounds that are tensors": lambda s, m, t: (
            m.clamp(m.mean((2, 3), keepdim=True), torch.ones(1)),
            torch.clamp(m, max=m[:, :1]),
        ),
        "maximum": lambda s, m, t: torch.maximum(m, -m),
        "where": lambda s, m, t: torch.where(m > 0, m, m * 0.1),
        "cast": lambda s, m, t: (m.float() + (m > 0).to(m.dtype), m * s.spots[:8, :8]),
        "dropout": lambda s, m, t: F.dropout(m, 0.5, s.training),
    },
    "shapes": {
        "cat": lambda s, m, t: torch.cat([m, m * 2, m[:, :3]], 1),
        "stack": lambda s, m, t: torch.stack([m, m + 1], 1),
        "split": lambda s, m, t: (m.split(3, 1)[2], m.split([5, 3], 1)[0], m.chunk(2, -1)[1], m.unbind(1)[3], t.unbind(-1)[0]),
        "slices": lambda s, m, t: (m[:, 1:5], m[..., ::2], m[:, -1], m.narrow(2, 1, 3), m[:, :, 2:-1], t[:, 0], m[:, :, 0, None]),
        "views": lambda s, m, t: (
            m.flatten(2),
            m.flatten(1),
            m.view(m.shape[0], 2, 4, 8, 8),
            m.reshape(-1, 8),
            m.unflatten(1, (4, 2)),
            m.reshape(m.shape[0] * 4, 2, 64)[:, 0],
        ),
        "back": lambda s, m, t: (m.reshape(-1, 64) * 2).reshape(m.shape[0], 8, 64),
        "turns": lambda s, m, t: (
            m.permute(0, 2, 3, 1),
            m.transpose(1, 2),
            m.unsqueeze(1),
            m[:, :1].squeeze(1),
            t.mT,
            m.movedim(1, -1),
        ),
        "expand": lambda s, m, t: (
            torch.cat([s.table[None].expand(m.shape[0], -1, -1), t], 1),
            m[:, :1].expand(-1, 4, -1, -1),
            t.repeat(1, 2, 3),
        ),
        "repeat": lambda s, m, t: torch.cat([s.table[:1].repeat(m.shape[0], 16, 1), t], 1),
        "interleaved": lambda s, m, t: (t.repeat_interleave(3, 1), m.repeat_interleave(2, 1), m.repeat_interleave(1, -1)),
        "zeros": lambda s, m, t: torch.cat([m, m.new_zeros(m.shape[0], 1, 8, 8), torch.ones_like(m)], 1),
        "pad": lambda s, m, t: (
            F.pad(m, (1, 2)),
            F.pad(m, (1, 0, 2, 1), value=0.5),
            F.pad(m, (2, 1, 1, 1), mode="reflect"),
            F.pad(m, (1,) * 4, mode="replicate"),
        ),
        "written": lambda s, m, t: (
            written(m),
            torch.slice_scatter(t, t[:, 1:3] * 2, 1, -2),
            torch.select_scatter(m, m[:, 0] * 2, 1, -3),
            m.slice_scatter(m[:, :2] + 1, 1, 1, 5, 2),
        ),
        "runs": lambda s, m, t: (m.unfold(2, 3, 2), t.unfold(1, 4, 4)),
        "roll": lambda s, m, t: (torch.roll(m, (-2, 3), (2, 3)), torch.roll(m, 1, 1)),
        "flip": lambda s, m, t: m.flip((2, 3)),
        "one hot": lambda s, m, t: F.one_hot((m[:, 0] > 0).long() + (m[:, 1] > 0), 3) * 1.0,
        "index": lambda s, m, t: (m[:, s.order], t[:, s.order], t.index_select(1, s.order.abs())),
        "pixels": lambda s, m, t: (F.pixel_shuffle(m, 2), F.pixel_unshuffle(m, 2), F.channel_shuffle(m, 4)),
    },
    "layers": {
        "extremes": lambda s, m, t: (m.max(1)[0], t.min(-1, keepdim=True).values),
        "patches": lambda s, m, t: (
            F.unfold(m, (3, 2), (1, 2), 1, (2, 1)),
            F.fold(F.unfold(m, 3, 1, 1, 2) * 2, (8, 8), 3, 1, 1, 2),
        ),
        "conv": lambda s, m, t: (
            F.conv2d(m, s.kernel[:, :, :, :].repeat(1, 2, 1, 1), padding="same"),
            F.conv2d(m, s.kernel, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        ),
        "conv1d": lambda s, m, t: F.conv1d(t, s.kernel[..., 0].repeat(1, 4, 1), padding=1),
        "transposed": lambda s, m, t: F.conv_transpose2d(
            m, s.kernel.repeat(2, 1, 1, 1), stride=2, padding=1, output_padding=1, groups=2
        ),
        "linear": lambda s, m, t: (
            F.linear(t, s.table),
            F.linear(m.mean((2, 3)), s.table),
            F.linear(m.mean((2, 3)), s.table, s.table[:, 0]),
        ),
        "norms": lambda s, m, t: (
            F.layer_norm(m, (8, 8)),
            F.layer_norm(t, (8,), s.table[0], s.table[1]),
            F.group_norm(m, 4, s.table[0], s.table[1]),
            F.rms_norm(t, (8,), s.table[0]),
        ),
        "batch norm": lambda s, m, t: F.batch_norm(m + m * m, s.table[0], s.table[1].abs() + 1, s.table[2], s.table[3]),
        "normalize": lambda s, m, t: F.normalize(t, dim=-1),
        "means": lambda s, m, t: (
            m.mean(),
            m.mean((2, 3)),
            m.sum(1),
            m.amax((2, 3)),
            m.mean(1, keepdim=True),
            m.sum((2, 3), keepdim=True),
        )[1:],
        "pools": lambda s, m, t: (
            F.max_pool2d(m, 3, 2, 1),
            F.max_pool2d(m, 3, 2, ceil_mode=True),
            F.max_pool2d(m, 2, 3, 1, ceil_mode=True),
            F.avg_pool2d(m, 3, 2, 1),
            F.avg_pool2d(m, 3, 2, 1, count_include_pad=False),
            F.avg_pool2d(m, 3, 2, ceil_mode=True),
            F.max_pool2d(m, 3, 1, dilation=2),
        ),
        "adaptive": lambda s, m, t: (
            F.adaptive_avg_pool2d(m, 1),
            F.adaptive_avg_pool2d(m, (4, 2)),
            F.adaptive_avg_pool2d(m, 3),
            F.adaptive_avg_pool1d(t, 3),
        ),
    },
    "sizes": {
        "nearest": lambda s, m, t: (F.interpolate(m, scale_factor=2), F.interpolate(m, size=(12, 20))),
        "linear": lambda s, m, t: (
            F.interpolate(m, scale_factor=2, mode="bilinear"),
            F.interpolate(m, size=(5, 12), mode="bilinear"),
            F.interpolate(m, size=15, mode="bilinear", align_corners=True),
        ),
        "cubic": lambda s, m, t: F.interpolate(m, scale_factor=2, mode="bicubic"),
    },
    "products": {
        "matmul": lambda s, m, t: (t @ t.mT, m @ m, t @ s.table.T, torch.bmm(t, t.mT)),
        "baddbmm": lambda s, m, t: torch.baddbmm(t @ t.mT, t, t.mT, beta=0.5, alpha=2),
        "einsum": lambda s, m, t: (torch.einsum("bnc, bmc -> bnm", t, t), torch.einsum("bchw,kc->bkhw", m, s.table)),
        "softmax": lambda s, m, t: (m.softmax(1), m.softmax(-1), F.log_softmax(m, 1)),
        "attention": lambda s, m, t: F.scaled_dot_product_attention(*(t.reshape(t.shape[0], 16, 2, 4).transpose(1, 2),) * 3),
        "groups of queries": lambda s, m, t: F.scaled_dot_product_attention(
            m.transpose(1, 3), m[:, :, :4].transpose(1, 2), m[:, :, 4:].transpose(1, 2), enable_gqa=True
        ),
        "scaled": lambda s, m, t: F.scaled_dot_product_attention(t, t, t, scale=0.3),
        "causal": lambda s, m, t: F.scaled_dot_product_attention(t, t, t, is_causal=True),
        "masked": lambda s, m, t: (
            F.scaled_dot_product_attention(t, t, t, s.mask),
            F.scaled_dot_product_attention(t, t, t, s.table[s.spots.view(-1), 0].view(16, 16)),
        ),
        "constant": lambda s, m, t: t @ s.table[s.spots.view(-1)].view(16, 16, 8).permute(2, 0, 1).sigmoid().mean(0)[:8, :8],
    },
}


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("group", FUNCTIONS)
def test_operations(group: str, opset: int, own_only: None) -> None:
    supernet = elastic(model_of(lambda: Does(FUNCTIONS[group])), (PIXELS,))
    arch = supernet.space.largest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    assert_same(network, to_onnx(plan, network, opset=opset), images_of())


def test_what_is_not_written_here_is_left_to_torch() -> None:
    supernet = elastic(model_of(Windows), (PIXELS,))
    for arch in archs(supernet)[:2]:
        network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
        assert_same(network, to_onnx(plan, network, metadata={"arch": "a"}), images_of())


def test_places_of_maxima_that_are_used_are_left_to_torch() -> None:
    supernet = elastic(model_of(lambda: Does({"place": lambda s, m, t: m.max(1)[1].float() + m.max(1)[0]})), (PIXELS,))
    arch = supernet.space.largest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    assert_same(network, to_onnx(plan, network), images_of())


def test_what_onnx_cannot_hold_is_said_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    supernet = elastic(model_of(Rooted), (PIXELS,))
    arch = supernet.space.largest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    with pytest.raises(DeviceError, match=r"cannot express special_i0 in .*model\.pt2") as caught:
        to_onnx(plan, network)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # torch's exporter writes the whole graph


def test_weights_are_checked() -> None:
    supernet = supernet_of("conv")
    arch = supernet.space.smallest()
    state, plan = supernet.extract(arch).state_dict(), supernet.space.lower(arch, supernet.num_classes)
    with pytest.raises(CheckpointError, match=r"stem\.weight is missing"):
        to_onnx(plan, {name: value for name, value in state.items() if name != "stem.weight"})
    with pytest.raises(StatisticsError, match=r"norm\.running_var .* not finite"):
        to_onnx(plan, {**state, "norm.running_var": torch.full((16,), torch.nan)})
    with pytest.raises(StatisticsError, match="a variance is never negative"):
        to_onnx(plan, {**state, "norm.running_var": torch.full((16,), -1.0)})
    with pytest.raises(CheckpointError, match=r"head\.weight has shape"):
        to_onnx(plan, {**state, "head.weight": torch.zeros(10, 3)})
    with pytest.raises(CheckpointError, match=r"head\.bias .* not finite"):
        to_onnx(plan, {**state, "head.bias": torch.full((10,), torch.inf)})


def test_tokens_of_float64_are_written_as_float32() -> None:
    supernet = elastic(model_of(ViT).double(), (PIXELS,))
    arch = supernet.space.smallest()
    network, plan = supernet.extract(arch), supernet.space.lower(arch, supernet.num_classes)
    assert_same(network, to_onnx(plan, network), images_of())
