"""A small network with real statistics, and real images: the handwritten digits that scikit-learn ships."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, fx
from torch.nn import functional as F

import onceforall
from onceforall.arch import Arch
from onceforall.calibrate import Calibrated, recalibrate
from onceforall.export import CardFacts, ExportConfig, InputSteps
from onceforall.space import Space
from onceforall.supernets.supernet import Supernet
from one_export import export_network

STEPS = InputSteps((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), 0.875, "short side to ceil(resolution / 0.875), bilinear; centre crop")
CLASSES = tuple(f"digit {i}" for i in range(10))
SPACE = onceforall.space("mobilenet_v3", width=0.25, resolutions=(20, 28), depths=(1, 2), strides=(1, 1, 2, 2, 1, 1, 2))


@dataclass(frozen=True)
class Sample:
    """One network, calibrated, with the images (64, 3, r, r) and labels of its proof."""

    space: Space
    arch: Arch
    calibrated: Calibrated
    images: Tensor
    labels: Tensor

    @property
    def network(self) -> fx.GraphModule:
        return self.calibrated.network

    def arguments(self, **changes):
        """Of `export_network`, all but the folder."""
        facts = CardFacts(
            name="digits, under 1 ms",
            data="handwritten digits",
            top1=0.975,
            test_images=360,
            latency=[("onnxruntime, 1 thread", "median of 60, batch 1", (0.412, 0.409, 0.416))],
            made_with=["ofa specialise runs/digits --latency 1ms", "torch 2.15.0"],
            notes=["tested on <b>a</b> laptop"],
        )
        arguments = {
            "space": self.space,
            "arch": self.arch,
            "network": self.network,
            "classes": CLASSES,
            "preprocessing": STEPS,
            "formats": ["onnx"],
            "images": self.images,
            "measure": lambda folder: facts,
        }
        return arguments | changes


def digits(resolution: int, n: int) -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels[:n].astype(np.float32) / 16).view(n, 1, 8, 8)
    x = F.interpolate(x, (resolution, resolution), mode="bilinear").expand(n, 3, resolution, resolution)
    return (x - 0.3) / 0.4, torch.from_numpy(labels[:n])


@pytest.fixture(scope="session")
def supernet() -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Supernet(SPACE, num_classes=10)


@pytest.fixture
def sample(supernet) -> Sample:
    return make_sample(supernet)


@pytest.fixture(scope="session")
def exported(supernet, tmp_path_factory) -> Path:
    """An export that no test may change."""
    folder = tmp_path_factory.mktemp("exported") / "net"
    export_network(folder, **make_sample(supernet).arguments())
    return folder


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    """A copy of it, alone in `tmp_path`."""
    return Path(shutil.copytree(exported, tmp_path / "net"))


def make_sample(supernet: Supernet) -> Sample:
    arch = replace(SPACE.sample(np.random.default_rng(3)), resolution=28)
    images, labels = digits(arch.resolution, 64)
    return Sample(SPACE, arch, recalibrate(supernet.extract(arch), images.split(32)), images, labels)


@pytest.fixture
def config(sample: Sample) -> ExportConfig:
    return ExportConfig(SPACE, CLASSES, replace(STEPS, resolution=sample.arch.resolution))
