"""Batches made by matrix products are those of `TrainBatches`, to one level of 255."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

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


class Largest(TorchDispatchMode):
    """The most bytes that any tensor takes that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        own = [t for t in args if isinstance(t, torch.Tensor)]
        if isinstance(out, torch.Tensor) and all(out.data_ptr() != t.data_ptr() for t in own):
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_memory_is_that_of_a_few_batches(images: Images) -> None:
    """Not that of the weights for every row."""
    made = DeviceBatches(TrainBatches(images, 8, 3, Augment(colour=1.0)), CPU)
    with Largest() as largest:
        x, _ = made.batch(0, 48)
    assert largest.bytes <= 2 * x.numel() * x.element_size()


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
