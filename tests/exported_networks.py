"""Small torch networks of many kinds, as somebody may bring them, with weights and statistics that are not the initial ones."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.supernets.conversion import elastic
from onceforall.supernets.supernet import Supernet

PIXELS = 32


class Gated(nn.Module):
    """Depthwise convolution between pointwise ones, with squeeze-and-excitation."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.spatial = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.less, self.more = nn.Conv2d(hidden, 8, 1), nn.Conv2d(8, hidden, 1)
        self.project, self.norm3 = nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.norm1(self.expand(x)))
        y = F.silu(self.norm2(self.spatial(y)))
        y = y * F.hardsigmoid(self.more(F.relu(self.less(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.norm3(self.project(y))


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Gated(16, 48, 5), Gated(16, 32, 3), Gated(16, 48, 5))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, 2, 1)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.blocks(x), 1), 1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, -1)
        x = x + self.proj(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 17, 32))
        self.blocks = nn.Sequential(*(Attention(32, 4) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Two(nn.Sequential):
    def __init__(self, inside: int, outside: int) -> None:
        hidden = 2 * outside
        super().__init__(
            nn.Conv2d(inside, hidden, 3, padding=1),
            nn.BatchNorm2d(hidden),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, outside, 3, padding=1),
        )


class UNet(nn.Module):
    """Ends with a map of the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.up1, self.up2 = Two(3, 8), Two(8, 16), Two(24, 8), nn.ConvTranspose2d(8, 8, 2, 2)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(F.avg_pool2d(x, 2))
        second = self.down2(F.max_pool2d(first, 2))
        up = F.interpolate(second, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.up2(self.up1(torch.cat([first, up], 1))))


class Split(nn.Module):
    """A block that leaves half of its channels as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.inner = nn.Sequential(
            nn.Conv2d(width // 2, width, 3, padding=1), nn.ReLU6(), nn.Conv2d(width, width // 2, 3, padding=1)
        )
        self.last = nn.Conv2d(width + width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.norm(self.first(x)).chunk(2, 1)
        return x + self.last(torch.cat([a, b, self.inner(b)], 1))


class Csp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, 16, 3, 4, 1), nn.Sequential(Split(16), Split(16)), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Next(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 4, 4), nn.Sequential(Next(16), Next(16), Next(16))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((-2, -1))))


class Grouped(nn.Module):
    def __init__(self, width: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.conv2, self.norm2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(hidden)
        self.conv3, self.norm3 = nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return F.relu(x + self.norm3(self.conv3(y)))


class ResNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 24, 3, 2, 1), nn.Sequential(Grouped(24, 32, 4), Grouped(24, 64, 8))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.blocks(F.max_pool2d(self.stem(x), 3, 2, 1)), 1).flatten(1))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 3, 2, 1), nn.Sequential(Gated(16, 32, 3), Gated(16, 32, 3))
        self.kind, self.box = nn.Linear(16, 5), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.blocks(self.stem(x))
        return {"kind": self.kind(x.mean((2, 3))), "boxes": (self.box(x).sigmoid(), x)}


class Windows(nn.Module):
    """An operation that is not written here as ONNX, but by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 16, 3, 4, 1), Gated(16, 32, 3), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.unfold(self.block(self.stem(x)), 2).unflatten(1, (16, 4))
        return self.head(windows.logsumexp(2).mean(-1))


class Rooted(Windows):
    """An operation that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.special.i0(self.block(self.stem(x))).mean((2, 3)))


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {"conv": Conv, "vit": ViT, "csp": Csp, "convnext": ConvNeXt, "resnext": ResNeXt}
MODELS: dict[str, Callable[[], nn.Module]] = {**CLASSIFIERS, "unet": UNet, "heads": Heads}


def model_of(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """In eval mode; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        with torch.no_grad():
            for name, value in (*model.named_parameters(), *model.named_buffers()):
                if not value.is_floating_point():
                    continue
                if "running_var" in name:
                    value.uniform_(0.5, 1.5)
                elif "running_mean" in name or name in ("token", "places"):
                    value.normal_(0, 0.2)
                elif value.ndim == 1:
                    value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


@cache
def supernet_of(name: str) -> Supernet:
    """One of `MODELS`, elastic. Tests do not write to it."""
    return elastic(model_of(MODELS[name]), (PIXELS,))
