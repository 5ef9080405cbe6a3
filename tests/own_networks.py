"""Small networks as people write them, none of which was written for this library."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NETWORKS", "stirred"]


def conv(inside: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, norm, activation."""
    return nn.Sequential(
        nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out), nn.SiLU(inplace=True)
    )


class Residual(nn.Module):
    """Inverted residual block with squeeze-and-excitation by a mean."""

    def __init__(self, channels: int, middle: int, kernel: int = 5) -> None:
        super().__init__()
        self.expand, self.depthwise = conv(channels, middle, 1), conv(middle, middle, kernel, groups=middle)
        self.reduce, self.gate = nn.Conv2d(middle, 8, 1), nn.Conv2d(8, middle, 1)
        self.project = nn.Sequential(nn.Conv2d(middle, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = y * self.gate(F.relu(self.reduce(y.mean((2, 3), keepdim=True)))).sigmoid()
        return x + self.project(y)


class Mobile(nn.Module):
    """Two stages of inverted residual blocks."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        self.blocks = nn.Sequential(
            Residual(16, 48), Residual(16, 32), conv(16, 24, stride=2), *(Residual(24, 64, 7) for _ in range(4))
        )
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.blocks(self.stem(x)).mean((2, 3))))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention with a fused projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and MLP with layer scale."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x)) * self.scale
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """Class token, two registers, position embeddings for 8 × 8 patches."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.token, self.registers = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 2, 32))
        self.position = nn.Parameter(torch.randn(1, 65, 32))
        self.layers = nn.ModuleList(Layer(32, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = torch.cat([x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]], 1)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, 0]))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Down, up by interpolation and by a transposed convolution, and across; a map of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 16), conv(16, 32, stride=2), conv(32, 64, stride=2)
        self.up1, self.up2 = conv(64 + 32, 32), conv(16 + 16, 16)
        self.wider = nn.ConvTranspose2d(32, 16, 2, 2)
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(a)
        c = F.interpolate(self.bottom(b), scale_factor=2, mode="bilinear", align_corners=False)
        d = self.up1(torch.cat([c, b], 1))
        return self.out(self.up2(torch.cat([self.wider(d), a], 1)))  # type: ignore[no-any-return]


class C2f(nn.Module):
    """The block of YOLOv8: split, a chain of bottlenecks, all joined."""

    def __init__(self, inside: int, out: int, count: int = 2) -> None:
        super().__init__()
        self.first, self.last = conv(inside, out, 1), conv(out // 2 * (2 + count), out, 1)
        self.inner = nn.ModuleList(nn.Sequential(conv(out // 2, out // 2), conv(out // 2, out // 2)) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.inner:
            parts.append(parts[-1] + block(parts[-1]))
        return self.last(torch.cat(parts, 1))  # type: ignore[no-any-return]


class Yolo(nn.Module):
    """Backbone and a neck with upsampling; boxes and scores at two scales, in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 16, stride=2), C2f(16, 32), nn.Sequential(conv(32, 48, stride=2), C2f(48, 48))
        self.neck = C2f(48 + 32, 32)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.boxes, self.scores = nn.ModuleList([nn.Conv2d(c, 4, 1) for c in (32, 48)]), nn.ModuleList(
            [nn.Sequential(conv(c, 16), nn.Conv2d(16, 3, 1)) for c in (32, 48)]
        )  # fmt: skip

    def forward(self, x: Tensor) -> dict[str, Any]:
        a = self.a(self.stem(x))
        b = self.b(a)
        b = torch.cat([b, self.pool(b)], 1)[:, : b.shape[1]] + b
        a = self.neck(torch.cat([F.interpolate(b, scale_factor=2.0), a], 1))
        return {"boxes": [f(y) for f, y in zip(self.boxes, (a, b), strict=True)], "scores": [
            f(y) for f, y in zip(self.scores, (a, b), strict=True)]}  # fmt: skip


class TwoHeads(nn.Module):
    """One backbone, two classifiers, a mapping of both."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2), Residual(32, 64))
        self.colour, self.shape = nn.Linear(32, 3), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x).mean((2, 3))
        return {"colour": self.colour(y), "shape": self.shape(y)}


class Shared(nn.Module):
    """One block that is used three times, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = conv(3, 16, stride=2), Residual(16, 32)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.two.weight = self.one.weight
        self.head = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(self.block(self.block(self.stem(x)))).mean((2, 3))
        return self.head(self.two(self.one(y).relu()).relu())  # type: ignore[no-any-return]


class Buffered(nn.Module):
    """A buffer that is none of a norm, a constant that is no buffer, and an operation that no rule knows."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 24, stride=2), conv(24, 24), conv(24, 32, stride=2))
        self.register_buffer("scale", torch.linspace(0.5, 2, 24)[:, None, None])
        self.shift = torch.linspace(-1, 1, 32)
        self.head = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body[1](self.body[0](x) * self.scale)
        y = self.body[2](y).mean((2, 3)) + self.shift
        return self.head(torch.cumsum(y.tanh(), 1).flip(1))  # type: ignore[no-any-return]


class Grouped(nn.Module):
    """Grouped convolutions, group norm, a shuffle of channels, padding as TensorFlow's, dilation, ceil mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        self.wide, self.grouped, self.norm = nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=8), nn.GroupNorm(4, 64)
        self.narrow, self.dilated = nn.Conv2d(64, 32, 1), nn.Conv2d(32, 48, 3, padding=2, dilation=2)
        self.head = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(F.pad(x, (0, 1, 0, 1))))
        y = self.norm(self.grouped(F.hardswish(self.wide(x))))
        b, c, h, w = y.shape
        y = y.view(b, 8, c // 8, h, w).transpose(1, 2).reshape(b, c, h, w)
        x = F.max_pool2d(x + self.narrow(y), 3, 2, ceil_mode=True)
        return self.head(F.adaptive_avg_pool2d(F.leaky_relu(self.dilated(x)), 1).flatten(1))  # type: ignore[no-any-return]


class Next(nn.Module):
    """ConvNeXt's block: depthwise 7 × 7, layer norm with the channels last, GRN, layer scale; weights standardised in the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Parameter(0.2 * torch.randn(24, 3, 4, 4))
        self.depthwise = nn.ModuleList(nn.Conv2d(24, 24, 7, padding=3, groups=24) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(3))
        self.up, self.down = (nn.ModuleList(nn.Linear(*n) for _ in range(3)) for n in ((24, 96), (96, 24)))
        self.gamma, self.beta = (nn.ParameterList(torch.rand(96) for _ in range(3)) for _ in range(2))
        self.scale = nn.Parameter(torch.rand(24))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.stem - self.stem.mean((1, 2, 3), keepdim=True)) / self.stem.std((1, 2, 3), keepdim=True)
        x = F.conv2d(x, weight, stride=4)
        lists = (self.depthwise, self.norms, self.up, self.down, self.gamma, self.beta)
        for depthwise, norm, up, down, gamma, beta in zip(*lists, strict=True):
            y = F.gelu(up(norm(depthwise(x).permute(0, 2, 3, 1))))
            length = y.norm(p=2, dim=(1, 2), keepdim=True)
            y = y + gamma * y * (length / (length.mean(-1, keepdim=True) + 1e-6)) + beta
            x = x + (self.scale * down(y)).permute(0, 3, 1, 2)
        return self.head(x.mean((-2, -1)))  # type: ignore[no-any-return]


class Plain(nn.Module):
    """As VGG: no residuals; the classifier reads a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d(4),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Linear(32 * 16, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.body(x), 1))  # type: ignore[no-any-return]


NETWORKS: dict[str, type[nn.Module]] = {
    "mobile": Mobile,
    "vit": ViT,
    "unet": UNet,
    "yolo": Yolo,
    "two-heads": TwoHeads,
    "shared": Shared,
    "buffered": Buffered,
    "grouped": Grouped,
    "next": Next,
    "plain": Plain,
}


def stirred(name: str) -> nn.Module:
    """One of them in eval mode, all numbers away from what they begin with."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for key, buffer in network.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.2)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return network.eval()
