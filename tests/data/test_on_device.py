"""Batches made by matrix products are those of `TrainBatches`, to one level of 255."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder
from torch.nn import functional as F

from onceforall.data import PREPROCESSING, Augment, DeviceBatches, Images, TrainBatches, open_data
from onceforall.data.on_device import resize_weights

CPU = torch.device("cpu")


@pytest.fixture
def images(make_folder: MakeFolder, tmp_path: Path) -> Images:
    return open_data(str(make_folder({"train": {"a": 20, "b": 20}, "val": {"a": 1, "b": 1}})), size=16, cache=tmp_path / "c").train


@pytest.mark.parametrize(("colour", "levels"), [(0.0, 1.01), (1.0, 2.5)])
@pytest.mark.parametrize("resolution", [6, 12, 24])
def test_same_as_on_the_cpu(images: Images, colour: float, levels: float, resolution: int) -> None:
    augment = Augment(crop_scale=(0.3, 1.0), colour=colour)
    for rank in range(2):
        batches = TrainBatches(images, 8, 3, augment, rank=rank, world=2)
        made = DeviceBatches(batches, CPU)
        for step in (0, 5, 9):
            (x, labels), (z, others) = batches.batch(step, resolution), made.batch(step, resolution)
            assert torch.equal(labels, others)
            assert z.is_contiguous(memory_format=torch.channels_last)
            assert (z.shape, z.dtype) == (x.shape, x.dtype)
            difference = (x - z).abs() * 255 * torch.tensor(PREPROCESSING.std)[:, None, None]
            assert difference.max() < levels
            assert difference.mean() < 0.5


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 5))
def test_weights_are_torchs(sizes: list[int], resolution: int, more: int) -> None:
    span = max(sizes) + more
    weights = resize_weights(torch.tensor(sizes), span, resolution)
    assert weights.shape == (len(sizes), resolution, span)
    for size, own in zip(sizes, weights.double(), strict=True):
        line = torch.randn(1, 1, size, 1, dtype=torch.float64).expand(1, 1, size, 2)  # torch 2.14 errs at width 1
        expected = F.interpolate(line, (resolution, 2), mode="bilinear", antialias=True)[0, 0, :, 0]
        assert (own[:, size:] == 0).all()
        torch.testing.assert_close(own[:, :size] @ line[0, 0, :, 0], expected, atol=1e-5, rtol=1e-4)
