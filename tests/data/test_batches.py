from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder
from torch.nn import functional as F
from torchvision.transforms import v2

from onceforall.data import (
    PREPROCESSING,
    Augment,
    Images,
    Preprocessing,
    TrainBatches,
    calibration_batches,
    eval_batches,
    open_data,
)
from onceforall.data.batches import random_boxes
from onceforall.errors import DataError

WHOLE = Augment(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False)


@pytest.fixture
def images(make_folder: MakeFolder, tmp_path: Path) -> Images:
    """36 images of 12 × 10 pixels, all different."""
    return open_data(str(make_folder({"train": {"a": 20, "b": 20}, "val": {"a": 1, "b": 1}})), size=16, cache=tmp_path / "c").train


def pixels(x: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(PREPROCESSING.mean), torch.tensor(PREPROCESSING.std)
    return (x.permute(0, 2, 3, 1) * std + mean) * 255


def test_shapes_types_and_memory_format(images: Images) -> None:
    batches = TrainBatches(images, 8, 0, Augment(colour=1.0))
    for x, labels in (batches.batch(0, 24), next(eval_batches(images, 24, 8))):
        assert (x.shape, x.dtype, labels.shape, labels.dtype) == ((8, 3, 24, 24), torch.float32, (8,), torch.int64)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert pixels(x).min() > -0.01
        assert pixels(x).max() < 255.01


def test_a_batch_is_a_function_of_seed_step_and_resolution(images: Images) -> None:
    first, second = (TrainBatches(images, 8, 7, Augment(colour=0.5)) for _ in range(2))
    random_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    later = first.batch(9, 20)
    for step in (0, 3, 9):
        for x, y in zip(first.batch(step, 20), second.batch(step, 20), strict=True):
            assert torch.equal(x, y)
    assert torch.equal(later[0], first.batch(9, 20)[0])
    assert not torch.equal(later[0], TrainBatches(images, 8, 8, Augment(colour=0.5)).batch(9, 20)[0])
    assert torch.equal(later[1], first.batch(9, 28)[1])
    assert (np.random.get_state()[1] == random_state).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_an_epoch_has_every_image_once(images: Images) -> None:
    batches = TrainBatches(images.subset(np.arange(32)), 8, 0, WHOLE)
    assert batches.batches_per_epoch == 4
    epochs = [[batches.batch(step, 12)[0] for step in range(4 * epoch, 4 * epoch + 4)] for epoch in range(3)]
    codes = [[tuple(x.flatten(1).sum(1).tolist()) for x in epoch] for epoch in epochs]
    for a, b in pairwise(codes):
        assert sorted(sum(a, ())) == pytest.approx(sorted(sum(b, ())))
        assert a != b
    assert TrainBatches(images, 5, 0, WHOLE).batches_per_epoch == len(images) // 5


def test_labels_belong_to_their_images(images: Images) -> None:
    known = {images.pixels(i)[:, 1:11].tobytes(): int(images.labels[i]) for i in range(len(images))}
    x, labels = TrainBatches(images, len(images), 0, WHOLE).batch(0, 10)
    found = [known[image.tobytes()] for image in pixels(x).round().to(torch.uint8).numpy()]
    assert found == labels.tolist()
    assert sorted(found) == sorted(images.labels.tolist())


def test_whole_square_images_pass_unchanged(images: Images) -> None:
    """The largest square crop at its own size is the image's middle; half of the flipped ones are mirrored."""
    flips = 0
    plain, flipping = (TrainBatches(images, 16, 3, Augment((1.0, 1.0), (1.0, 1.0), flip=flip)) for flip in (False, True))
    middles = {images.pixels(i)[:, 1:11].tobytes() for i in range(len(images))}
    for step in range(6):
        for image in pixels(plain.batch(step, 10)[0]).round().to(torch.uint8).numpy():
            assert image.tobytes() in middles
        for image in pixels(flipping.batch(step, 10)[0]).round().to(torch.uint8).numpy():
            assert (image.tobytes() in middles) != (image[:, ::-1].tobytes() in middles)
            flips += image.tobytes() not in middles
    assert 25 <= flips <= 71


def test_evaluation_is_the_papers(images: Images) -> None:
    """Against torchvision's transforms."""
    reference = v2.Compose(
        [
            v2.Resize(19, antialias=True),
            v2.CenterCrop(16),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
        ]
    )
    seen = 0
    for x, labels in eval_batches(images, 16, 7):
        for image, label in zip(x, labels, strict=True):
            expected = reference(torch.from_numpy(images.pixels(seen).copy()).permute(2, 0, 1))
            assert (image - expected).abs().max() < 0.02
            assert label == images.labels[seen]
            seen += 1
    assert seen == len(images)


def test_evaluation_without_cropping(images: Images) -> None:
    x, _ = next(eval_batches(images, 10, 3, Preprocessing(crop_share=1.0)))
    assert np.abs(pixels(x).numpy() - np.stack([images.pixels(i)[:, 1:11] for i in range(3)])).max() < 0.01
    assert "ceil(resolution / 0.875)" in PREPROCESSING.description
    with pytest.raises(DataError, match=r"the crop share is 0\.1: it must be from 0\.5 to 1"):
        Preprocessing(crop_share=0.1)


def test_calibration_batches(images: Images) -> None:
    first, again = ([*calibration_batches(images, 16, 20, 8, seed)] for seed in (0, 0))
    assert [len(x) for x in first] == [10, 10]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(torch.cat(first).flatten(1).unique(dim=0)) == 20
    assert not torch.equal(first[0], next(calibration_batches(images, 16, 20, 8, 1)))
    known = torch.cat([x for x, _ in eval_batches(images, 16, 8)]).flatten(1)
    assert all((known == image).all(1).any() for image in torch.cat(first).flatten(1))
    assert [len(x) for x in calibration_batches(images, 16, 100, 8, 0)] == [9, 9, 9, 9], "all 36"
    rest = [*calibration_batches(images, 16, 20, 8, 0, after=5)]
    assert torch.equal(torch.cat(rest), torch.cat(first)[5:])
    assert list(calibration_batches(images, 16, 20, 8, 0, after=20)) == []
    assert [len(x) for x in calibration_batches(images.subset(np.arange(5)), 16, 20, 8, 0)] == [5]
    assert list(calibration_batches(images.subset(np.arange(0)), 16, 20, 8, 0)) == []


def test_a_sample_keeps_the_shares_of_classes(images: Images) -> None:
    assert images.sample(36) is images
    turns = images.subset(np.argsort(np.arange(36) % 18, kind="stable"))
    assert turns.labels.tolist() == [0, 1] * 18
    assert turns.sample(6).labels.tolist() == [0, 1] * 3
    some = images.sample(6)
    assert len(some) == len({*some.names}) == 6
    np.testing.assert_array_equal(some.labels, [0, 0, 0, 1, 1, 1])
    assert [some.names.index(name) for name in images.names if name in some.names] == list(range(6))


def test_colour_changes_brightness_and_saturation_only(images: Images) -> None:
    plain, colour = (
        TrainBatches(images, 16, 0, Augment(WHOLE.crop_scale, WHOLE.crop_ratio, False, strength)) for strength in (0, 1)
    )
    x, y = (pixels(batches.batch(0, 10)[0]) for batches in (plain, colour))
    grey = torch.tensor([0.299, 0.587, 0.114])
    inside = ((y > 1) & (y < 254)).all(-1)
    for before, after, clear in zip(x, y, inside, strict=True):
        light = (after @ grey)[clear] / (before @ grey)[clear]
        assert light.std() < 1e-3
        assert 1 - 32 / 255 <= light.mean() <= 1 + 32 / 255
    assert not torch.equal(x, y)


def test_crops_of_a_ramp_have_the_right_place_and_size(tmp_path: Path) -> None:
    """The mean of a crop of a linear image is the value at the crop's centre, whatever the resolution."""
    from PIL import Image

    ramp = np.zeros((40, 60, 3), np.uint8)
    ramp[..., 0] = np.arange(60)[None] * 4
    ramp[..., 1] = np.arange(40)[:, None] * 6
    for name in ("a", "b"):
        for part, count in (("train", 40), ("val", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                ramp[..., 2] = i + (100 if name == "b" else 0) + (50 if part == "val" else 0)
                Image.fromarray(ramp).save(tmp_path / part / name / f"{i}.png")
    images = open_data(str(tmp_path), size=40, cache=tmp_path / "cache").train
    batches = TrainBatches(images, 64, 0, Augment(flip=False))
    small, large = (pixels(batches.batch(0, resolution)[0])[..., :2].mean((1, 2)) for resolution in (16, 48))
    assert (small - large).abs().max() < 2
    assert small[:, 0].std() > 10


@given(
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=20).map(np.array),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted),
    seed=st.integers(0, 99),
)
def test_boxes_lie_inside(shapes: np.ndarray, scale: list[float], ratio: list[float], seed: int) -> None:
    augment = Augment((scale[0], scale[1]), (ratio[0], ratio[1]))
    boxes = random_boxes(shapes, augment, np.random.default_rng(seed))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= shapes).all()


def test_boxes_are_distributed_as_torchvisions() -> None:
    rng, n = np.random.default_rng(0), 4000
    boxes = random_boxes(np.full((n, 2), (100, 150)), Augment(), rng)
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    image = torch.empty(1, 100, 150)
    reference = np.array([v2.RandomResizedCrop(8).make_params([image]).values() for _ in range(n)], dtype=object)
    torch.set_rng_state(generator_state)
    expected = np.array([[*row] for row in reference], dtype=np.float64)
    assert boxes.mean(0) == pytest.approx(expected.mean(0), rel=0.06)
    assert boxes.std(0) == pytest.approx(expected.std(0), rel=0.06)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda images: TrainBatches(images, 100, 0, Augment()),
            "the batch size is 100 but there are only 36 training images: use smaller batches, with --batch-size 36 or less",
        ),
        (lambda images: TrainBatches(images, 0, 0, Augment()), "batch size is 0 and the seed 0: use at least 1 and 0"),
        (lambda images: Augment(crop_scale=(0.5, 0.1)), r"crop_scale is \(0\.5, 0\.1\)"),
        (lambda images: Augment(crop_ratio=(0, 1)), r"crop_ratio is \(0, 1\)"),
        (lambda images: Augment(colour=-1), "the strength of color changes is -1"),
    ],
)
def test_wrong_arguments(images: Images, build: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(images)  # type: ignore[operator]


def test_upscaling_matches_interpolate_in_float(images: Images) -> None:
    x, _ = TrainBatches(images, 4, 0, WHOLE).batch(0, 32)
    chosen = np.random.default_rng([0, 0, 0]).permutation(len(images))[:4]
    squares = torch.stack([torch.from_numpy(images.pixels(i)[:, 1:11].copy()) for i in chosen]).permute(0, 3, 1, 2).float()
    expected = F.interpolate(squares, (32, 32), mode="bilinear", antialias=True)
    assert (pixels(x).permute(0, 3, 1, 2) - expected).abs().max() <= 1.01
