"""Ways in which people write layers, each of which leaves hidden channels elastic; and what a model does besides."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall.errors import ModelError
from onceforall.nn.calls import with_drop_path
from onceforall.nn.onnx import to_onnx
from onceforall.spaces import from_json
from onceforall.spaces.graph import graph_of
from own_networks import conv

X = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Way(nn.Module):
    """A residual branch that a function computes, with a hidden convolution of 32 channels."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], tail: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.wide, self.narrow, self.head = conv(3, 16), nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1), nn.Linear(16, 5)
        self.up, self.down = nn.Parameter(torch.randn(64, 16) / 4), nn.Parameter(torch.randn(16, 64) / 8)
        self.slope, self.gate, self.cell = nn.PReLU(32), nn.Conv2d(16, 3, 1), nn.GRUCell(16, 16)
        self.tensors, self.quantisable = list[Tensor](), torch.ao.nn.quantized.FloatFunctional()
        self.register_buffer("count", torch.zeros(()))
        self.function, self.tail = function, tail

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        return self.tail(self.head((x + self.function(self, x)).mean((2, 3))))


def checked(model: nn.Module) -> onceforall.Supernet:
    """A supernet whose largest network is the model, and whose others are what is extracted, with MACs as torch counts them."""
    supernet = onceforall.elastic(model.double().eval(), (16,))
    space = supernet.space
    for arch in (space.largest(), space.smallest(), space.sample(np.random.default_rng(0))):
        extracted = supernet.extract(arch)
        with torch.no_grad():
            torch.testing.assert_close(extracted(X), supernet(X, arch), rtol=1e-9, atol=1e-9)
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # others are not counted on CPUs
                extracted(X[:1])
        assert counter.get_total_flops() == 2 * space.lower(arch).macs
    with torch.no_grad():
        for batch in (X, X[:1]):
            torch.testing.assert_close(supernet(batch, space.largest()), model(batch), rtol=1e-9, atol=1e-9)
    return supernet


def plain(s: Way, x: Tensor) -> Tensor:
    return s.narrow(s.wide(x).relu())  # type: ignore[no-any-return]


def shuffled(s: Way, x: Tensor) -> Tensor:
    y = F.channel_shuffle(F.conv2d(x, s.wide.weight[:, :4], groups=4), 4)
    return F.conv2d(y, s.narrow.weight[:, :8], groups=4)


def within(context: Callable[[], Any], s: Way, x: Tensor) -> Tensor:
    with context():
        y = s.wide(x)
        y.relu_()
    return s.narrow(y.to(x.dtype))  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[Way, Tensor], Tensor]] = {
    "glu": lambda s, x: F.conv2d(F.glu(s.wide(x), 1), s.down[:, :16, None, None]),
    "prelu": lambda s, x: s.narrow(s.slope(s.wide(x))),
    "pixel unshuffle": lambda s, x: F.conv2d(F.pixel_unshuffle(s.wide(x), 4), s.up[:1, :1, None, None].expand(16, 512, 1, 1)).mean(
        (2, 3), keepdim=True
    ),
    "feature alpha dropout": lambda s, x: s.narrow(F.feature_alpha_dropout(s.wide(x), 0.1, s.training)),
    "einsum": lambda s, x: torch.einsum("bohw,io->bihw", torch.einsum("bihw,oi->bohw", x, s.up).relu(), s.down),
    "einsum with dots": lambda s, x: torch.einsum(
        "...o,io->...i", torch.einsum("...i,oi", x.movedim(1, -1), s.up).movedim(-1, 1).relu().movedim(1, -1), s.down
    ).movedim(-1, 1),
    "einsum of three": lambda s, x: torch.einsum("bohw,io,b->bihw", s.wide(x).relu(), s.down[:, :32], x.mean((1, 2, 3))),
    "weighed by einsum": lambda s, x: torch.einsum("bkhw,kbihw->bihw", s.gate(x).softmax(1), torch.stack([plain(s, x), x, -x])),
    "two branches": lambda s, x: plain(s, x) + s.narrow(s.wide(x).tanh()),
    "recurrent": lambda s, x: s.narrow(s.wide(s.cell(x.mean((2, 3)), x.new_ones(len(x), 16))[:, :, None, None] + x).relu()),
    "without autocast": lambda s, x: within(lambda: torch.autocast(x.device.type, enabled=False), s, x),
    "with gradients": lambda s, x: within(torch.enable_grad, s, x),
    "quantisable": lambda s, x: s.quantisable.add(plain(s, x), s.narrow(s.wide(x))),
}


@pytest.mark.parametrize("name", WAYS)
def test_hidden_channels_are_elastic(name: str) -> None:
    supernet = checked(Way(WAYS[name]))
    graph = graph_of(supernet.space)
    assert any(group.kind == "width" for group in graph.groups), supernet.space.summary()
    assert any(piece.skippable for piece in graph.pieces)
    assert "its weight is computed" not in supernet.space.summary() or name in ("glu", "pixel unshuffle", "weighed by einsum")


def test_shuffled_groups_go_as_a_whole() -> None:
    checked(Way(shuffled))


class First(nn.Module):
    """Layers of torch with the tokens first, as they are by default and in CLIP."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.head, self.mean = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5), nn.Parameter(torch.randn(4, 1, 16))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, norm_first=True) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(2, 0, 1) + self.mean
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(0))  # type: ignore[no-any-return]


def test_layers_are_dropped_where_tokens_come_first() -> None:
    onnx, supernet = pytest.importorskip("onnx"), checked(First())
    space, arch = supernet.space, supernet.space.smallest()
    assert [stage.depths for stage in space.stages] == [(1, 2, 3)]
    assert onnx.load_model_from_string(to_onnx(space.lower(arch), supernet.float().extract(arch))).producer_name == "onceforall"
    assert with_drop_path(space.lower(arch).segments[1]) == space.lower(arch).segments[1]  # which drops for images


def test_two_factors_of_one_tensor_stay() -> None:
    """Bilinear pooling: each of the 256 products has two channels, of which no one went with the norm."""

    class Bilinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(conv(3, 32), conv(32, 16)), nn.Linear(256, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x).flatten(2)
            return self.head(F.normalize((y @ y.transpose(1, 2)).flatten(1).tanh()))  # type: ignore[no-any-return]

    assert "body.1.0: fixed by" in checked(Bilinear()).space.summary()


def test_a_weight_that_is_returned_is_not_sorted() -> None:
    model = Way(plain)
    model.tail = lambda x: (x, model.head.weight, model.wide.weight)
    checked(model)


def test_the_number_of_images_may_be_returned() -> None:
    model = Way(plain)
    model.tail = lambda x: (x, len(x), model.head.in_features)
    supernet = checked(model)
    again = onceforall.Supernet(from_json(supernet.space.to_json()))
    assert again(X[:2].float(), again.space.smallest())[1:] == (2, 16)


def test_logits_of_all_images_in_one_row() -> None:
    onnx, supernet = pytest.importorskip("onnx"), checked(Way(plain, torch.flatten))
    arch = supernet.space.smallest()
    file = onnx.load_model_from_string(to_onnx(supernet.space.lower(arch), supernet.float().extract(arch)))
    assert [dim.dim_param for dim in file.graph.output[0].type.tensor_type.shape.dim] == ["rows"]


def test_the_number_of_images_is_free_in_what_torchs_exporter_writes() -> None:
    runtime = pytest.importorskip("onnxruntime")
    supernet = checked(Way(lambda s, x: s.narrow(s.wide(s.cell(x.mean((2, 3)), x.new_zeros(len(x), 16))[:, :, None, None] + x))))
    arch = supernet.space.smallest()
    network = supernet.float().extract(arch)
    session = runtime.InferenceSession(to_onnx(supernet.space.lower(arch), network), providers=["CPUExecutionProvider"])
    for images in (X.float(), X[:1].float()):
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(images), rtol=1e-3, atol=1e-3)


def test_running_statistics_of_an_instance_norm() -> None:
    """In eval mode it is a batch norm, which ONNX has."""
    model = nn.Sequential(conv(3, 16), nn.Conv2d(16, 32, 1), nn.InstanceNorm2d(32, affine=True, track_running_stats=True))
    supernet = checked(nn.Sequential(*model, nn.Conv2d(32, 4, 1)))
    pytest.importorskip("onnx")
    assert to_onnx(supernet.space.lower(supernet.space.smallest()), supernet.float().extract(supernet.space.smallest()))


def test_numbers_of_a_model_in_double_precision_follow_the_supernet() -> None:
    """What it makes in its own type is made in the supernet's, whatever that becomes."""
    supernet = checked(
        Way(lambda s, x: plain(s, x) * torch.linspace(0, 1, 16, dtype=x.dtype, device=x.device) @ torch.eye(16).to(x))
    )
    assert supernet.float().extract(supernet.space.smallest())(X.float()).dtype == torch.float32


@pytest.mark.parametrize("way", ["closure", "partial", "list"])
def test_weights_that_the_model_has_in_two_places(way: str) -> None:
    """A function took the place of a forward, or a list holds them too."""
    model = Way(plain if way != "list" else lambda s, x: s.narrow(F.conv2d(x, s.tensors[0]).relu()))
    wide, own = model.wide, model.wide.forward
    model.tensors.append(wide.weight)
    if way != "list":
        new = (lambda x: 2 * own(x)) if way == "closure" else functools.partial(F.conv2d, weight=wide.weight)
        wide.forward = new  # type: ignore[method-assign, assignment]
    supernet = checked(model)
    assert "wide.weight" in dict(supernet.named_parameters())
    assert any(group.units == 32 for group in graph_of(supernet.space).groups)


def test_features_that_a_hook_keeps() -> None:
    model = Way(plain)
    model.wide.register_forward_hook(lambda module, args, result: model.tensors.append(result))
    model(torch.zeros(2, 3, 16, 16))
    checked(model)


def counting(s: Way, x: Tensor) -> Tensor:
    s.count += 1
    return plain(s, x)


class Straight(torch.autograd.Function):
    """Rounds, as if it did not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (counting, "count: not updated, since no output of the model depends on it"),
        (lambda s, x: Straight.apply(plain(s, x)), "Straight: its custom backward is lost; gradients are derived from its forward"),
    ],
)
def test_what_is_lost_is_said(function: Callable[[Way, Tensor], Tensor], line: str) -> None:
    assert checked(Way(function)).space.summary().count(line) == 1
    assert "lost" not in checked(Way(plain)).space.summary()


def test_autocast_in_forward_is_ignored_and_reported() -> None:
    model = Way(lambda s, x: within(lambda: torch.autocast(x.device.type, torch.bfloat16), s, x)).eval()
    supernet = onceforall.elastic(model, (16,))
    assert "the model: torch.autocast in its forward is ignored" in supernet.space.summary()
    with torch.no_grad():
        torch.testing.assert_close(supernet(X.float(), supernet.space.largest()), model(X.float()), rtol=0.1, atol=0.1)


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(conv(3, 8), nn.LazyConv2d(8, 1))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(conv(3, 8), torch.jit.script(nn.Conv2d(8, 8, 1)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lazy, r"the model's 1 is a LazyConv2d that has never run: run the model once on a batch of images"),
        (scripted, r"the model's 1 is a TorchScript module, which cannot be read: give the nn.Module that it was made from"),
        (
            lambda: Way(lambda s, x: torch.vmap(lambda y: y + 1)(plain(s, x))),
            r"run-time control flow or a transform such as torch\.vmap, which cannot be read",
        ),
    ],
)
def test_refused(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        onceforall.elastic(model().eval(), (16,))
    assert "\n" not in str(caught.value)
