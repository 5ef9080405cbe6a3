"""What published predictors are: features built one by one from the original's settings, and a torch network on them."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onceforall import Arch, Space, space
from onceforall.arch import Block, Stage

SPACES = {"mobilenet_v3": space("mobilenet_v3", width=1.2), "resnet50d": space("resnet50d")}
FILES = {"mobilenet_v3": "acc_predictor.pth", "resnet50d": "ofa_resnet50_acc_predictor.pth"}
INPUTS = {"mobilenet_v3": 128, "resnet50d": 82}
RESNET_SIZES = [128, 144, 160, 176, 192, 224, 240, 256]
MOBILE_WIDTHS = (32, 48, 96, 136, 192)
WIDTHS = [(24, 24, 32), (40, 48, 64), (168, 208, 256), (336, 408, 512), (664, 816, 1024), (1328, 1640, 2048)]
BOTH = pytest.mark.parametrize("family", list(SPACES))
Settings = dict[str, Any]


def some_settings(family: str, rng: random.Random, resolution: int) -> Settings:
    if family == "mobilenet_v3":
        chosen = {"ks": rng.choices((3, 5, 7), k=20), "e": rng.choices((3, 4, 6), k=20), "d": rng.choices((2, 3, 4), k=5)}
    else:
        widths = [rng.choice((0, 2)), *rng.choices((0, 1, 2), k=5)]
        depths = [rng.choice((0, 2)), *rng.choices((0, 1, 2), k=4)]
        chosen = {"e": rng.choices((0.2, 0.25, 0.35), k=18), "d": depths, "w": widths}
    return {**chosen, "resolution": resolution}


def arch_of(family: str, s: Settings) -> Arch:
    if family == "mobilenet_v3":
        blocks = [Block(k, e) for k, e in zip(s["ks"], s["e"], strict=True)]
        stages = [Stage(w, tuple(blocks[4 * i : 4 * i + d])) for i, (w, d) in enumerate(zip(MOBILE_WIDTHS, s["d"], strict=True))]
        return Arch(s["resolution"], tuple(stages))
    widths, stem = [options[w] for options, w in zip(WIDTHS, s["w"], strict=True)], Block(3, 1)
    stages = [Stage(widths[0], (stem, stem) if s["d"][0] else (stem,)), Stage(widths[1], (stem,))]
    first = 0
    for width, most, d in zip(widths[2:], (4, 4, 6, 4), s["d"][1:], strict=True):
        stages.append(Stage(width, tuple(Block(3, e) for e in s["e"][first : first + most - 2 + d])))
        first += most
    return Arch(s["resolution"], tuple(stages))


def features_of(family: str, s: Settings) -> list[float]:
    x: list[float] = []
    if family == "mobilenet_v3":
        present = [i < d for d in s["d"] for i in range(4)]
        for name, choices in (("ks", (3, 5, 7)), ("e", (3, 4, 6))):
            for value, there in zip(s[name], present, strict=True):
                x += [float(there and value == choice) for choice in choices]
        return x + [float((s["resolution"] - 112) // 16 == i) for i in range(8)]
    known = max(size for size in RESNET_SIZES if size <= s["resolution"])
    x += [float(known == size) for size in RESNET_SIZES]
    x += [float(s["d"][0] == 0), float(s["d"][0] == 2)]
    for w in s["w"]:
        x += [float(w == i) for i in range(3)]
    present = [i < most - 2 + d for most, d in zip((4, 4, 6, 4), s["d"][1:], strict=True) for i in range(most)]
    for value, there in zip(s["e"], present, strict=True):
        x += [float(there and value == choice) for choice in (0.2, 0.25, 0.35)]
    return x


def random_tensors(family: str, seed: int = 0, units: int = 24) -> dict[str, Tensor]:
    """Weights with the published names; some negligible, as in the published files, and some units without inputs."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [INPUTS[family], units, units + 3, units + 5, 1]
    layers = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = torch.randn(outputs, inputs, generator=generator) * (2 / min(inputs, 40)) ** 0.5 * (0.2 if i == 3 else 1)
        weight[torch.rand(weight.shape, generator=generator) < 0.3] = 1e-40
        weight[: outputs // 5] = 1e-41
        layers.append((weight, 0.3 * torch.randn(outputs, generator=generator)))
    layers[-1] = (layers[-1][0], torch.tensor([0.75]))
    if family == "mobilenet_v3":
        return {f"{2 * i}.{n}": t for i, pair in enumerate(layers) for n, t in zip(("weight", "bias"), pair, strict=True)}
    named = {f"layers.{i}.0.{n}": t for i in range(3) for n, t in zip(("weight", "bias"), layers[i], strict=True)}
    return {"base_acc": layers[3][1], **named, "layers.3.weight": layers[3][0]}


def reference(family: str, tensors: dict[str, Tensor]) -> Callable[[list[Settings]], np.ndarray]:
    """The published network in torch, in float64."""
    weights = [t for name, t in tensors.items() if name.endswith("weight")]
    biases = [t for name, t in tensors.items() if name.endswith("bias")]
    biases = biases if family == "mobilenet_v3" else [*biases, tensors["base_acc"]]
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
        layer.load_state_dict({"weight": weight.double(), "bias": bias.double()})
        layers += [layer, nn.ReLU()]
    network = nn.Sequential(*layers[:-1])

    def predict(chosen: list[Settings]) -> np.ndarray:
        x = torch.tensor([features_of(family, s) for s in chosen], dtype=torch.float64)
        with torch.no_grad():
            return network(x)[:, 0].numpy()

    return predict


def a_file(family: str, folder: Path, **changed: Tensor | None) -> Path:
    tensors = {name: t for name, t in {**random_tensors(family), **changed}.items() if t is not None}
    torch.save(tensors, folder / FILES[family])
    return folder / FILES[family]


def sizes_of(part: Space, family: str) -> list[int]:
    low, high = (112, 239) if family == "mobilenet_v3" else (128, 271)
    return [r for r in part.resolutions if low <= r <= high]
