"""The golden outputs: weights and images by the recipe of the reference, and its logits (tests/published_data/README.md)."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[1] / "published_data"
FACTS: dict[str, dict[str, Any]] = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))
Shapes = Mapping[str, tuple[int, ...]]


def digest(shapes: Shapes) -> str:
    """sha256 over all names and shapes, one "name [shape]" a line in order of names."""
    return hashlib.sha256("\n".join(sorted(f"{name} {list(shape)}" for name, shape in shapes.items())).encode()).hexdigest()


def statistics(name: str) -> dict[str, np.ndarray]:
    """The embedded running statistics by name: of each, the first entries, which the embedded architecture reads."""
    with np.load(DATA / "golden.npz") as file:
        values = file[f"{name}.statistics"]
    ends = np.cumsum(list(FACTS[name]["statistics"].values()))
    return dict(zip(FACTS[name]["statistics"], np.split(values, ends[:-1]), strict=True))


def logits(name: str) -> np.ndarray:
    """What the reference computed for the embedded architecture: (2, 1000)."""
    with np.load(DATA / "golden.npz") as file:
        return np.asarray(file[f"{name}.logits"])


def weights(shapes: Shapes, statistics: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """A state dict of these names and shapes; `statistics` may hold the first entries only, the rest is then 0 or 1."""
    result = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            result[name] = torch.zeros(shape, dtype=torch.long)
            continue
        if "running_" in name:
            value = np.full(shape, float(name.endswith("var")), np.float32)
            known = statistics.get(name, value[:0])
            value[: len(known)] = known
        else:
            value = _drawn(name, shape)
        result[name] = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return result


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("_matrix"):
        return np.eye(shape[0], dtype=np.float32) + np.float32(0.05) * z
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + np.float32(0.1) * z
    if name.endswith("bias"):
        return np.float32(0.02) * z
    return z * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def images(resolution: int) -> Tensor:
    """Two images (2, 3, resolution, resolution)."""
    g, shape = np.random.RandomState(resolution), (2, 3)
    noise = g.standard_normal((*shape, resolution, resolution)).astype(np.float32)
    a = g.uniform(1, 6, (*shape, 2)).astype(np.float32)[..., None, None]
    p = g.uniform(0, 6.28, shape).astype(np.float32)[..., None, None]
    u = np.linspace(0, 1, resolution).astype(np.float32)
    waves = np.sin(2 * np.pi * (a[:, :, 0] * u[:, None] + a[:, :, 1] * u) + p)
    return torch.from_numpy((waves + 0.5 * noise).astype(np.float32))
