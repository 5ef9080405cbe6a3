"""Networks of a user's own, in files as users write them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from onceforall.models import bring

OWN = '''
"""A network of someone's own."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x):
        return x + self.body(x)


class Net(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 16), Block(8, 16))
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))
'''
TRANSFORMER = """
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm2, self.mlp = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, 16, 8, 8), nn.Parameter(0.02 * torch.randn(1, 9, 16))
        self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(16, num_classes)
        self.default_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "input_size": (3, 24, 24)}

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(x).mean(1))
"""
TRAINING: dict[str, Any] = {"epochs": 2.0, "limit": 120, "batch_size": 32}
TRAINING_TEXT = ["--epochs", "2", "--limit", "120", "--batch-size", "32"]


def source(folder: Path, text: str = OWN, name: str = "Net", file: str = "own.py") -> str:
    """The text that names a network in a new file of the folder."""
    (folder / file).write_text(text)
    return f"{folder / file}:{name}"


def trained_model(named: str, classes: int = 10) -> nn.Module:
    """The network as the user would make it, with weights and statistics that are not the initial ones."""
    model = bring(named, seed=classes).model
    if classes != 10:
        model.head = nn.Linear(model.get_submodule("head").in_features, classes)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.3, 0.3, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    return model.eval()
