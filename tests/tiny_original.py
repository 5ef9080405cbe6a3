"""A checkpoint as the Once-for-All authors publish them, with random weights and few classes, and pictures for it."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from onceforall import Supernet
from onceforall.costs import macs_table, segment_table
from onceforall.latency import Device, LatencyTable, list_devices
from onceforall.latency.table import LatencyErrors, Measured
from onceforall.pipeline import Run, import_original
from onceforall.published import original_state_dict, published_space

NAME = "ofa_mbv3_d234_e346_k357_w1_2"
CLASSES = 4
MS_PER_MAC = 1e-8


def original_weights(name: str, classes: int) -> dict[str, Tensor]:
    """Random weights and running statistics, under the original's names."""
    generator = torch.Generator().manual_seed(len(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = original_state_dict(Supernet(published_space(name), classes))
    for key, tensor in weights.items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return weights


def old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names in checkpoints of the first years."""
    return {f"module.{key.replace('.conv.inverted', '.mobile_inverted_conv.inverted')}": t for key, t in weights.items()}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the network `NAME` with `CLASSES` classes."""
    path = tmp_path_factory.mktemp("original") / "ofa_net.pth"
    torch.save({"state_dict": original_weights(NAME, CLASSES)}, path)
    return path


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tensors of the accuracy predictor for `NAME`, small and random, around 0.8."""
    generator = torch.Generator().manual_seed(1)
    sizes, tensors = [128, 6, 6, 6, 1], {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        tensors[f"{2 * layer}.weight"] = 0.1 * torch.randn(outputs, inputs, generator=generator)
        tensors[f"{2 * layer}.bias"] = torch.full((outputs,), 0.8 if outputs == 1 else 0.01)
    path = tmp_path_factory.mktemp("predictor") / "acc_predictor.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 6 small pictures for each of the classes."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for c in range(CLASSES):
        (root / f"class {c}").mkdir()
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (30, 26, 3), dtype=np.uint8)).save(root / f"class {c}" / f"{i:02}.jpg")
    return root


@pytest.fixture(scope="session")
def imported(own_cache: None, checkpoint: Path, predictor: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `ofa import` with images and a predictor, with a latency table made up from MACs."""
    out = tmp_path_factory.mktemp("imported") / "run"
    run = import_original(checkpoint, name=NAME, out=out, data=str(photos), predictor=predictor)
    profiled(run)
    return out


@pytest.fixture
def imported_copy(imported: Path, tmp_path: Path) -> Path:
    """A copy of `imported`, to change."""
    return Path(shutil.copytree(imported, tmp_path / "copy"))


def profiled(run: Run) -> None:
    """Leave a latency table for this machine, as `ofa profile` does in a minute."""
    device = Device.parse("cpu")
    (here,) = (found for found in list_devices() if found.runtime == device.runtime)
    macs = macs_table(segment_table(run.space, run.num_classes))
    costs = replace(macs, values=tuple(MS_PER_MAC * values for values in macs.values))
    measured = Measured(device, here.version or "", 1.0, 1.0, LatencyErrors((1.0, 2.0), (1.1, 2.1)))
    place = run.folder / "latency" / str(device)
    place.mkdir(parents=True)
    LatencyTable(costs, run.num_classes, here.processor, measured).save(place / "table.json")


def bring(checkpoint: Path, out: Path, **changes: Any) -> Run:
    """`ofa import` of the checkpoint, as in `imported`, but for what is given."""
    return import_original(checkpoint, **{"name": NAME, "out": out, **changes})
