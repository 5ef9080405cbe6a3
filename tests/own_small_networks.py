"""Small networks as someone might bring them: convolutions with gates and residual sums, and a transformer."""

import torch
from torch import Tensor, nn

__all__ = ["Convolutional", "Transformer", "images_and_labels"]

CLASSES = 4


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """An inverted residual block."""

    def __init__(self, inside: int, middle: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(inside, middle, 1, bias=False), nn.BatchNorm2d(middle)
        self.depthwise = nn.Conv2d(middle, middle, 5, stride, 2, groups=middle, bias=False)
        self.norm2, self.gate = nn.BatchNorm2d(middle), Gate(middle)
        self.project, self.norm3 = nn.Conv2d(middle, out, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = inside == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.expand(x)))
        y = self.gate(nn.functional.hardswish(self.norm2(self.depthwise(y))))
        y = self.norm3(self.project(y))
        return x + y if self.shortcut else y


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(
            Inverted(8, 32, 16, 2), Inverted(16, 48, 16), Inverted(16, 48, 16), Inverted(16, 64, 24, 2), Inverted(24, 64, 24)
        )
        self.classifier = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and hidden units."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.proj(y)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """With a class token, a position embedding, and no batch norm at all."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.randn(1, 17, 32))
        self.layers = nn.Sequential(Layer(32, 4), Layer(32, 4), Layer(32, 4))
        self.norm, self.dropout, self.head = nn.LayerNorm(32), nn.Dropout(0.0), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.dropout(self.norm(self.layers(x))[:, 0]))  # type: ignore[no-any-return]


def images_and_labels(step: int, resolution: int = 32, count: int = 16) -> tuple[Tensor, Tensor]:
    """Each class is one quarter of the image that is brighter."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = 0.5 * torch.randn(count, 3, resolution, resolution, generator=generator)
    half = resolution // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, half * (label // 2) :, half * (label % 2) :][:, :half, :half] += 1
    return images, labels
