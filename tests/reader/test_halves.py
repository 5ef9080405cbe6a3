"""Attention and MLP of a transformer's layer are one block, however its author wrote the loop."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import onceforall
from onceforall.spaces.graph import graph_of
from own_networks import Attention


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))


class Layers(nn.Module):
    """Patches, layers, classifier."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5)
        self.layers = nn.ModuleList(self.layer() for _ in range(count))

    def layer(self) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = self.run(layer, x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]

    def run(self, layer: Any, x: Tensor) -> Tensor:
        for half in layer:
            x = x + half(x)
        return x


class Dicts(Layers):
    def layer(self) -> nn.Module:
        return nn.ModuleDict({"norm": nn.LayerNorm(16), "attention": Attention(16, 2), "mlp": mlp()})

    def run(self, layer: Any, x: Tensor) -> Tensor:
        x = x + layer["attention"](layer["norm"](x))
        return x + layer["mlp"](x)


class Lists(Layers):
    def layer(self) -> nn.Module:
        return nn.ModuleList([nn.Sequential(nn.LayerNorm(16), Attention(16, 2)), mlp()])


class Inside(nn.Module):
    """One module makes the sums of all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Lists(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]


class Alike(Layers):
    """Lists of blocks that are alike: stages, not layers."""

    def layer(self) -> nn.Module:
        return nn.ModuleList([mlp(), mlp()])


class Apart(Layers):
    """A list of all attentions and one of all MLPs: nothing says which belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(mlp() for _ in range(4))

    def layer(self) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(16), Attention(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for attention, other in zip(self.layers, self.mlps, strict=True):
            x = x + attention(x)
            x = x + other(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class Again(Layers):
    """One MLP, again and again."""

    def __init__(self) -> None:
        super().__init__(1)

    def layer(self) -> nn.Module:
        return mlp()

    def run(self, layer: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + layer(x)
        return x


@pytest.mark.parametrize(
    ("network", "modules"),
    [
        (Dicts, [f"layers.{i}" for i in range(4)]),
        (Lists, [f"layers.{i}" for i in range(4)]),
        (Inside, ["body.layers.0", "body.layers.1"]),
        (Alike, [""] * 8),
        (Apart, [""] * 8),
        (Again, [""] * 3),
    ],
)
def test_halves_of_a_layer(network: type[nn.Module], modules: list[str]) -> None:
    torch.manual_seed(0)
    model = network().double().eval()
    supernet = onceforall.elastic(model, (32,))
    blocks = [piece for piece in graph_of(supernet.space).pieces if piece.skippable]
    assert [piece.module for piece in blocks] == modules
    assert sum(stage.depths[-1] for stage in supernet.space.stages) == len(modules)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        for arch in (supernet.space.largest(), supernet.space.smallest()):
            torch.testing.assert_close(supernet(images, arch), supernet.extract(arch)(images))
        torch.testing.assert_close(supernet(images, supernet.space.largest()), model(images))
