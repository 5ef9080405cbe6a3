"""Kinds of models that people have: what they return, types of numbers, constants made on the way, ways to write attention."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import onceforall
from onceforall.errors import DeviceError, ModelError
from onceforall.nn.onnx import to_onnx
from onceforall.spaces.graph import graph_of
from own_networks import Residual, conv


def checked(model: nn.Module) -> nn.Module:
    """The smallest network of a model in float64, after the largest was found to be the model, and this one what it is inside."""
    supernet = onceforall.elastic(model, (16,))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x), rtol=1e-9, atol=1e-9)
        smallest = supernet.extract(supernet.space.smallest())
        torch.testing.assert_close(smallest(x), supernet(x, supernet.space.smallest()), rtol=1e-9, atol=1e-9)
    return smallest


class Made(nn.Module):
    """Convolutions, and what a function makes of their result."""

    def __init__(self, function: Callable[["Made", Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Sequential(conv(3, 16, stride=2), Residual(16, 32)), nn.Linear(16, 5)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.body(x))


@dataclass
class Both:
    """As transformers returns it."""

    logits: Tensor
    features: tuple[Tensor, ...]
    hidden: Tensor | None = None


def test_dataclasses_are_mappings() -> None:
    model = Made(lambda s, y: Both(s.head(y.mean((2, 3))), (y,))).double().eval()
    supernet = onceforall.elastic(model, (16,))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        expected, found = model(x), supernet(x, supernet.space.largest())
    assert list(found) == ["logits", "features", "hidden"]
    assert found["hidden"] is None
    torch.testing.assert_close(found["logits"], expected.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["features"], expected.features, rtol=1e-9, atol=1e-9)
    onnx = pytest.importorskip("onnx")
    arch = supernet.space.smallest()
    model = onnx.load_model_from_string(to_onnx(supernet.space.lower(arch), supernet.float().extract(arch)))
    assert [output.name for output in model.graph.output] == ["logits", "features_0"]
    assert model.producer_name == "onceforall"


def test_several_types_become_the_widest() -> None:
    """A part in half precision, with the casts that it needs."""
    model = Made(lambda s, y: s.head(y.mean((2, 3)).bfloat16()).float()).eval()
    model.head.bfloat16()
    supernet = onceforall.elastic(model, (16,))
    assert {parameter.dtype for parameter in supernet.parameters()} == {torch.float32}
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x), rtol=2e-2, atol=2e-2)
        supernet.extract(supernet.space.smallest())(x)


def constants(s: Made, y: Tensor) -> Tensor:
    scale = torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0], device=y.device, dtype=y.dtype)
    scale[1:3] *= 2
    return s.head(y.mean((2, 3))) * scale.mul_(0.5)  # type: ignore[no-any-return]


def test_constants_that_are_made_in_forward() -> None:
    """They are written to, and anew in the next run."""
    model = Made(constants).eval()
    supernet, x = onceforall.elastic(model, (16,)), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))


def partly_without_numbers() -> nn.Module:
    model = nn.Sequential(conv(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    model[3].to("meta")
    return model


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a way that torch gives up
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), dtype=torch.qint8)


def one_by_one(s: Made, y: Tensor) -> Tensor:
    return torch.cat([s.head(y[i : i + 1].mean((2, 3))) for i in range(len(y))])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (partly_without_numbers(), r"the model's 3\.weight is on the meta device"),
        (Made(one_by_one), "the model runs other operations for another batch size, so it cannot be read"),
        (quantised(), r"the model's 1 is a quantized Linear, which cannot be read: give the network from before quantization"),
        (
            Made(lambda s, y: y[y > 0]),
            r"index\.Tensor in the model makes a tensor whose size depends on the pixels",
        ),
    ],
    ids=["partly without numbers", "a loop over the images", "quantised", "as many as are positive"],
)
def test_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        onceforall.elastic(model.eval(), (16,))
    assert "\n" not in str(caught.value)


class Partial(nn.Module):
    """A layer without a part of its bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.wide, self.head = conv(3, 16), nn.Linear(16, 48), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.wide.bias.clone()
        bias[16:32].zero_()
        return self.head(F.linear(self.body(x).mean((2, 3)), self.wide.weight, bias).relu())  # type: ignore[no-any-return]


def test_a_part_that_is_written_to() -> None:
    """As torchvision's Swin v2 takes the biases of its keys away."""
    checked(Partial().double().eval())


def _written(model: Made, y: Tensor) -> Tensor:
    changed = y * 2
    changed[:, :, 1:3, :] += y[:, :, 2:4, :].square()
    changed[:, :, :, 2] = changed[:, :, :, 1]
    changed[:, :, 0].copy_(y.mean((2, 3))[..., None])
    return model.head(changed.mean((2, 3)))  # type: ignore[no-any-return]


def test_what_is_written_has_gradients() -> None:
    """`aten::copy`, which torch.export makes of it, has no derivative (timm's mvitv2_tiny)."""
    model = Made(_written).double().eval()
    supernet = onceforall.elastic(model, (16,))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for network in (model, supernet.extract(supernet.space.largest())):
        network(x).square().mean().backward()
        grads = [p.grad for p in network.parameters()]
    for theirs, mine in zip(model.parameters(), grads, strict=True):
        assert theirs.grad is not None
        assert theirs.grad.norm() == pytest.approx(float(mine.norm()), rel=1e-9)
    checked(model)


def test_what_torch_export_gives() -> None:
    """It says that it is in train mode, and is not."""
    model = Made(lambda s, y: s.head(y.mean((2, 3)))).eval()
    x = torch.randn(2, 3, 16, 16)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    assert exported.training
    supernet = onceforall.elastic(exported, (16,))
    assert not supernet.training
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))


def test_a_weight_for_each_image() -> None:
    """Dynamic convolutions: their groups are as many as the images."""

    def mixed(s: Made, y: Tensor) -> Tensor:
        weight = (s.head(y.mean((2, 3)))[:, :1, None, None, None] * s.body[0][0].weight.mean(1, keepdim=True)).flatten(0, 1)
        y = F.conv2d(y.flatten(0, 1)[None], weight, padding=1, groups=len(weight)).view(y.shape)
        return s.head(y.mean((2, 3)))  # type: ignore[no-any-return]

    model = Made(mixed).double().eval()
    supernet = onceforall.elastic(model, (16,))
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x), rtol=1e-9, atol=1e-9)
        smallest = supernet.space.smallest()
        torch.testing.assert_close(supernet.extract(smallest)(x), supernet(x, smallest), rtol=1e-9, atol=1e-9)
    pytest.importorskip("onnx")
    with pytest.raises(DeviceError, match=r"conv2d in .*one group per image"):
        to_onnx(supernet.space.lower(smallest), supernet.float().extract(smallest))


class Tokens(nn.Module):
    """Patches, two residual attentions, classifier."""

    mask: Tensor

    def __init__(self, attend: Callable[["Tokens", Tensor, Tensor, Tensor], Tensor], shared: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.head = nn.Conv2d(3, 32, 8, 8), nn.Linear(32, 5)
        self.qkv, self.out = (nn.ModuleList(nn.Linear(32, width) for _ in range(2)) for width in (32 + 64 // shared, 32))
        self.register_buffer("mask", torch.randn(4, 4))
        self.attend, self.sizes = attend, (32, 32 // shared, 32 // shared)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for qkv, out in zip(self.qkv, self.out, strict=True):
            q, k, v = (part.unflatten(2, (-1, 8)).transpose(1, 2) for part in qkv(x).split(self.sizes, -1))
            x = x + out(self.attend(self, q, k, v).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def turned(z: Tensor, halves: bool) -> Tensor:
    """Rotary embeddings that are computed on the way, of halves or of neighbouring channels."""
    steps = torch.pow(torch.tensor(100.0, device=z.device, dtype=z.dtype), -torch.arange(4, device=z.device, dtype=z.dtype) / 4)
    angles = torch.arange(z.shape[2], device=z.device, dtype=z.dtype)[:, None] * steps
    if halves:
        angles, other = torch.cat([angles, angles], -1), torch.cat([-z[..., 4:], z[..., :4]], -1)
    else:
        angles, other = angles.repeat_interleave(2, -1), torch.stack([-z[..., 1::2], z[..., ::2]], -1).flatten(-2)
    return z * angles.cos() + other * angles.sin()


def weighed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **more: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **more)


ATTENTION: dict[str, Callable[[Tokens, Tensor, Tensor, Tensor], Tensor]] = {
    "rotary, halves": lambda s, q, k, v: weighed(turned(q, True), turned(k, True), v),
    "rotary, neighbours": lambda s, q, k, v: weighed(turned(q, False), turned(k, False), v),
    "normalised": lambda s, q, k, v: weighed(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v),
    "a mask for each head": lambda s, q, k, v: weighed(q, k, v, s.mask.expand(len(q), 4, 4, 4)),
    "an empty end": lambda s, q, k, v: weighed(torch.cat([turned(q[..., :8], True), q[..., 8:]], -1), k, v),
    "a scale for each head": lambda s, q, k, v: weighed(q * s.mask[0, 0].expand(4)[:, None, None], k, v),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_heads_are_found(name: str) -> None:
    model = Tokens(ATTENTION[name]).double().eval()
    supernet = onceforall.elastic(model, (16,))
    space, rng = supernet.space, np.random.default_rng(0)
    assert [group.units for group in graph_of(space).groups if group.kind == "heads"] == [4, 4]
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, space.largest()), model(x), rtol=1e-9, atol=1e-9)
        for arch in (space.smallest(), space.sample(rng)):
            torch.testing.assert_close(supernet.extract(arch)(x), supernet(x, arch), rtol=1e-9, atol=1e-9)
    assert supernet.extract(space.smallest()).get_submodule("qkv.0").out_features == 24


SHARED: dict[str, Callable[[Tokens, Tensor, Tensor, Tensor], Tensor]] = {
    "groups of queries": lambda s, q, k, v: weighed(q, k, v, enable_gqa=True),
    "repeated": lambda s, q, k, v: weighed(q, k.repeat_interleave(2, 1, output_size=4), v.repeat_interleave(2, dim=1)),
    "expanded": lambda s, q, k, v: weighed(q, *(z[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1, 2) for z in (k, v))),
}


@pytest.mark.parametrize("name", SHARED)
def test_heads_that_share_keys_and_values_go_together(name: str) -> None:
    model = Tokens(SHARED[name], shared=2).double().eval()
    supernet = onceforall.elastic(model, (16,))
    space = supernet.space
    assert [group.units for group in graph_of(space).groups if group.kind == "heads"] == [2, 2]
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, space.largest()), model(x), rtol=1e-9, atol=1e-9)
        smallest = supernet.extract(space.smallest())
        torch.testing.assert_close(smallest(x), supernet(x, space.smallest()), rtol=1e-9, atol=1e-9)
    assert smallest.get_submodule("qkv.0").out_features == 32


class Selective(nn.Module):
    """Two branches whose channels are weighed against each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.shares = conv(3, 32), conv(3, 32, 5), nn.Linear(32, 64)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.one(x), self.two(x)], 1)
        shares = self.shares(both.sum(1).mean((2, 3))).view(len(x), 2, 32, 1, 1).softmax(1)
        return self.head((both * shares).sum(1).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_softmax_over_branches_leaves_their_channels_elastic() -> None:
    """As in selective kernels and split attention."""
    smallest = checked(Selective().double().eval())
    assert smallest.get_submodule("one.0").out_channels == 8
    assert smallest.get_submodule("shares").out_features == 16


class Copies(nn.Module):
    """Two convolutions, a weight for each of four copies of their channels, classifier."""

    def __init__(self, copied: Callable[["Copies", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head = conv(3, 32, stride=2), conv(32, 32), nn.Linear(32, 5)
        self.four, self.copied = nn.Parameter(torch.randn(4)), copied

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.copied(self, x))  # type: ignore[no-any-return]

    def pooled(self, x: Tensor) -> Tensor:
        return self.two(self.one(x)).mean((2, 3))  # type: ignore[no-any-return]


COPIES: dict[str, Callable[[Copies, Tensor], Tensor]] = {
    "gray images": lambda s, x: s.pooled(x.mean(1, keepdim=True).expand(-1, 3, -1, -1)) * s.four[0],
    "weighed": lambda s, x: (s.pooled(x)[:, None].expand(-1, 4, -1) * s.four[:, None]).mean(1),
    "weighed, then channels": lambda s, x: (
        (s.pooled(x)[..., None].expand(-1, -1, 4) * s.four).flatten(1).unflatten(1, (-1, 4)).sum(2)
    ),
    "weighed, then channels of each": lambda s, x: (
        (s.pooled(x)[:, None].expand(-1, 4, -1) * s.four[:, None]).flatten(1).unflatten(1, (4, -1)).sum(1)
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_that_no_layer_makes_stay(name: str) -> None:
    """A narrower network would read one of three channels, or have the copies of others in their places."""
    model = Copies(COPIES[name]).double().eval()
    supernet = onceforall.elastic(model, (16,))
    x, smallest = torch.randn(2, 3, 16, 16, dtype=torch.float64), supernet.space.smallest()
    narrow = supernet.extract(smallest)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(narrow(x), supernet(x, smallest), rtol=1e-9, atol=1e-9)
    assert narrow.get_submodule("one.0").weight.shape == (8, 3, 3, 3)
    assert narrow.four.shape == (4,)


def test_an_empty_end_is_of_no_channel() -> None:
    model = Copies(lambda s, x: torch.cat([(y := s.pooled(x))[:, :32], y[:, 32:]], 1) * s.four[0]).double().eval()
    supernet = onceforall.elastic(model, (16,))
    x, smallest = torch.randn(2, 3, 16, 16, dtype=torch.float64), supernet.space.smallest()
    narrow = supernet.extract(smallest)
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), supernet(x, smallest), rtol=1e-9, atol=1e-9)
    assert narrow.get_submodule("two.0").out_channels == 8


def test_copies_of_pixels_are_no_channels() -> None:
    """What is expanded to the size of an image, and meets no weight, keeps it."""

    def placed(s: Made, y: Tensor) -> Tensor:
        across = torch.linspace(-1, 1, y.shape[-1], device=y.device, dtype=y.dtype).expand(len(y), 1, *y.shape[2:])
        down = across.transpose(2, 3)
        return s.head((y * across.cos() + down).mean((2, 3)))  # type: ignore[no-any-return]

    model = Made(placed).double().eval()
    supernet = onceforall.elastic(model, (16,))
    kinds = [group.kind for group in graph_of(supernet.space).groups]
    assert sorted(kinds) == ["classes", "width", "width"]  # of the block and of its gate
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x), rtol=1e-9, atol=1e-9)


def test_what_is_kept_for_the_most_images() -> None:
    """A run with more images than any before does more than others."""

    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.bias, self.kept = conv(3, 16), nn.Parameter(torch.randn(1, 16)), torch.zeros(0, 16)

        def forward(self, x: Tensor) -> Tensor:
            if len(self.kept) < len(x):
                self.kept = self.bias.exp().expand(len(x), -1)
            return self.body(x).mean((2, 3)) + self.kept[: len(x)]  # type: ignore[no-any-return]

    model, x = Grows().eval(), torch.randn(2, 3, 16, 16)
    supernet = onceforall.elastic(model, (16,))
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))


def test_what_is_kept_from_the_first_run() -> None:
    """As LeViT and EfficientViT keep their attention biases: the first run does more than others."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.bias, self.kept = conv(3, 16), nn.Parameter(torch.randn(16)), dict[str, Tensor]()

        def forward(self, x: Tensor) -> Tensor:
            if str(x.device) not in self.kept:
                self.kept[str(x.device)] = self.bias.exp() + 1
            return self.body(x).mean((2, 3)) + self.kept[str(x.device)]  # type: ignore[no-any-return]

    model, x = Keeps().eval(), torch.randn(2, 3, 16, 16)
    supernet = onceforall.elastic(model, (16,))
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))
