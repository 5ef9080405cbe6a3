"""What tracing and tying must not get wrong without a word: small networks, each with one trap, against the model itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import onceforall
from onceforall import Supernet
from onceforall.errors import ModelError
from own_networks import Residual, conv


class Trap(nn.Module):
    """Convolution, a trap, convolution, classifier."""

    def __init__(self, function: Callable[["Trap", Tensor], Tensor], out: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(out, 24, 1), nn.Linear(24, 5)
        self.other, self.third = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 1)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(32, 32, 3, padding=1))
        self.mixture = nn.Parameter(torch.randn(2, 32, 32, 1, 1))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.function(self, self.first(x))).relu().mean((2, 3)))  # type: ignore[no-any-return]


def chunked(s: Trap, h: Tensor) -> Tensor:
    a, _ = h.chunk(2, 1)
    a.relu_()
    return h


def viewed(s: Trap, h: Tensor) -> Tensor:
    v = h.flatten(1)
    h.relu_()
    return v.view(h.shape)


def sliced(s: Trap, h: Tensor) -> Tensor:
    v = h[:, :16]
    h.add_(1)
    return torch.cat([v, h[:, 16:]], 1)


TRAPS: dict[str, Callable[[Trap, Tensor], Tensor]] = {
    "a chunk is written to": chunked,
    "a base is written to": viewed,
    "a base is written to after a slice": sliced,
    "weight norm": lambda s, h: s.normed(h),
    "larger of two": lambda s, h: torch.max(s.other(h), s.third(h)),
    "places": lambda s, h: h * h.max(1, keepdim=True)[1],
    "a multiple of the batch's mark": lambda s, h: h * 2018 / 1013,
    "top": lambda s, h: h * h.topk(4, 1)[0].sum(1, keepdim=True),
    "one of a view": lambda s, h: h.view(len(h), 4, 8, *h.shape[2:])[:, 3].repeat(1, 4, 1, 1),
    "squeezed": lambda s, h: h.mean((2, 3), keepdim=True).squeeze()[:, :, None, None] * h,
    "type of another": lambda s, h: h.type_as(s.first.weight),
    "narrow from the end": lambda s, h: torch.cat([h.narrow(1, -8, 8), h[:, :0], h[:, :24]], 1),
    "five dimensions": lambda s, h: F.conv2d(h, s.mixture[0] + s.mixture[1]),
    "dropout in place": lambda s, h: F.dropout(h.flatten(2), 0.1, s.training, True).view(h.shape),
    "split by edges": lambda s, h: torch.cat(torch.tensor_split(h, (8,), 1)[::-1], 1),
}


def same(model: nn.Module, supernet: Supernet, pixels: int = 8) -> None:
    """The largest is the model, and smaller ones are what is extracted."""
    space, rng = supernet.space, np.random.default_rng(0)
    for batch in (2, 3):
        x = torch.randn(batch, 3, pixels, pixels, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(supernet(x, space.largest()), model(x), rtol=1e-9, atol=1e-9)
            for arch in (space.smallest(), space.sample(rng)):
                torch.testing.assert_close(supernet.extract(arch)(x), supernet(x, arch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TRAPS)
def test_traps(name: str) -> None:
    model = Trap(TRAPS[name]).eval()
    supernet = onceforall.elastic(model, (8,), importance="none")
    same(model.double(), supernet.double())


@pytest.mark.parametrize(
    "function",
    [
        lambda s, h: h * (1 / h.shape[0]),
        lambda s, h: h * (h.shape[0] - 1),
        lambda s, h: torch.as_strided(h, h.shape, h.stride()),
    ],
    ids=["share of the batch", "one less than the batch", "strides"],
)
def test_refused_traps(function: Callable[[Trap, Tensor], Tensor]) -> None:
    with pytest.raises(ModelError) as caught:
        onceforall.elastic(Trap(function).eval(), (8,))
    assert "\n" not in str(caught.value)


def test_limits_of_the_type() -> None:
    """They are those of the type that the model has."""
    model = Trap(lambda s, h: h.masked_fill(h < -1e30, torch.finfo(h.dtype).min) + torch.finfo(h.dtype).eps).eval()
    supernet = onceforall.elastic(model, (8,))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, supernet.space.largest()), model(x))


def test_classes_that_are_chosen() -> None:
    """A network that returns the numbers of classes keeps all of them, in their order."""

    class Labels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(conv(3, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).argmax(1)  # type: ignore[no-any-return]

    model = Labels().eval()
    supernet = onceforall.elastic(model, (8,))
    x = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(supernet(x, supernet.space.largest()), model(x))
        assert supernet.extract(supernet.space.smallest()).get_submodule("body.3").out_features == 16


def test_features_are_no_classes() -> None:
    """What a backbone returns is read by its own blocks: no other number of classes can be asked for."""
    model = nn.Sequential(conv(3, 24), Residual(24, 48), Residual(24, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    supernet = onceforall.elastic(model, (8,))
    assert supernet.space.lowering.graph.classes == -1  # type: ignore[attr-defined]
    same(model.double(), supernet.double())


def test_shared_weights_are_counted_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = conv(3, 24), Residual(24, 48), Residual(24, 32)
            self.down, self.head = conv(24, 40, stride=2), nn.Linear(40, 4)
            self.three = Residual(40, 64)

        def forward(self, x: Tensor) -> Tensor:
            x = self.two(self.one(self.stem(x)))
            return self.head(self.three(self.one(self.down(x)[:, :24]).mean((2, 3))[:, :1, None, None] + self.down(x)).mean((2, 3)))  # type: ignore[no-any-return]

    supernet = onceforall.elastic(Twice().eval(), (8,))
    rng = np.random.default_rng(0)
    for arch in (supernet.space.largest(), supernet.space.smallest(), *(supernet.space.sample(rng) for _ in range(4))):
        assert supernet.space.lower(arch).params == sum(p.numel() for p in supernet.extract(arch).parameters())


def test_torchvisions_efficientnet_keeps_its_norms() -> None:
    """Its dropout writes to a view, of which nothing else is read."""
    model = torchvision.models.efficientnet_b0(num_classes=5)
    supernet = onceforall.elastic(model, (32,), importance="none")
    assert sum(name.endswith("running_mean") for name in supernet._statistics) == 49
    space = supernet.space
    assert space.lower(space.smallest()).macs < 0.2 * space.lower(space.largest()).macs


def test_a_counter_in_a_buffer_is_refused() -> None:
    class Counts(nn.Module):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 1)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.body(x) * self.calls  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="the model modifies its own calls in forward"):
        onceforall.elastic(Counts().eval(), (8,))


def test_complex_numbers_are_refused() -> None:
    class Waves(nn.Module):
        wave: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 1)
            self.register_buffer("wave", torch.randn(4, 1, 1, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return (self.body(x) * self.wave).real.mean((2, 3))  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="wave is complex"):
        onceforall.elastic(Waves().eval(), (8,))


def test_no_parameters() -> None:
    model = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    supernet = onceforall.elastic(model, (8,))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(supernet.extract(supernet.space.largest())(x), model(x))


class Shortcut(nn.Module):
    """Reads the images by a pointwise convolution with strides, which oneDNN cannot do backwards with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Conv2d(3, 32, 1, stride=2, bias=False)
        self.main = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1))
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.short(x) + self.main(x)).mean((2, 3)))


def test_pointwise_strides_on_few_channels_do_not_crash(tmp_path: Path) -> None:
    """In a process of its own: what crashes takes the interpreter with it."""
    code = """
import torch, onceforall
from test_traps import Shortcut
torch.manual_seed(0)
model = Shortcut().double().eval()
supernet = onceforall.elastic(model, (64,))
x = torch.randn(16, 3, 64, 64, dtype=torch.float64)
largest = supernet.space.largest()
extracted = supernet.extract(largest)
with torch.no_grad():
    for network in (lambda x: supernet(x, largest), extracted):
        assert float((network(x) - model(x)).abs().max()) < 1e-12
supernet.float().train(), extracted.float().train()
for network in (supernet.at(largest), supernet.at(supernet.space.smallest()), extracted):
    for _ in range(10):
        network(x.float()).square().sum().backward()
print("well")
"""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr[-2000:]
