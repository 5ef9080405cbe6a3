"""Policies, erasing, mixup and cutmix: what they do to images and labels, and that each batch is a function of (seed, step)."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import MakeFolder

from onceforall.data import Augment, DeviceBatches, Images, TrainBatches, open_data
from onceforall.errors import DataError

PLAIN: dict[str, Any] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": False}
CHANGES: list[dict[str, Any]] = [
    {"policy": "trivial_augment"},
    {"policy": "rand_augment"},
    {"erase": 0.5},
    {"mixup": 0.4},
    {"cutmix": 1},
    {"policy": "trivial_augment", "erase": 0.25, "mixup": 0.2, "cutmix": 1.0},
]


@pytest.fixture
def images(make_folder: MakeFolder, tmp_path: Path) -> Images:
    return open_data(str(make_folder({"train": {"a": 20, "b": 20}, "val": {"a": 1, "b": 1}})), size=16, cache=tmp_path / "c").train


def made(images: Images, seed: int = 5, **changes: Any) -> TrainBatches:
    return TrainBatches(images, 8, seed, Augment(**{**PLAIN, **changes}), classes=2)


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "+".join(c))
def test_a_batch_is_a_function_of_seed_and_step(images: Images, changes: dict[str, Any]) -> None:
    first, second, other = made(images, **changes), made(images, **changes), made(images, seed=6, **changes)
    state = torch.get_rng_state()
    later = first.batch(9, 20)
    for step in (0, 9):
        for x, y in zip(first.batch(step, 20), second.batch(step, 20), strict=True):
            assert torch.equal(x, y)
    assert torch.equal(later[0], first.batch(9, 20)[0])
    assert not torch.equal(later[0], other.batch(9, 20)[0])
    assert any(not torch.equal(first.batch(step, 20)[0], made(images).batch(step, 20)[0]) for step in range(4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("changes", [c for c in CHANGES if "policy" not in c], ids=lambda c: "+".join(c))
def test_same_on_a_device(images: Images, changes: dict[str, Any]) -> None:
    """Where images lie in the memory of a GPU: the same boxes, partners and shares."""
    batches = made(images, **changes)
    on_device = DeviceBatches(batches, torch.device("cpu"))
    for step in range(6):
        (x, labels), (z, others) = batches.batch(step, 24), on_device.batch(step, 24)
        assert torch.equal(labels, others)
        assert torch.equal(x == 0, z == 0) or "erase" not in changes
        assert (x - z).abs().max() < 0.1


def test_other_draws_stay_as_they_were(images: Images) -> None:
    """Crops, mirrorings and colours of a seed do not depend on what else is drawn."""
    augment = Augment(colour=0.5)
    plain, more = (TrainBatches(images, 8, 3, a, classes=2) for a in (augment, Augment(**{**asdict(augment), "mixup": 1.0})))
    for step in range(3):
        first, second = plain.draw(step), more.draw(step)
        assert all((a == b).all() for a, b in zip(first[:4], second[:4], strict=True))


def test_processes_change_their_part_of_the_batch(images: Images) -> None:
    """As one process would."""
    augment = Augment(**PLAIN, policy="trivial_augment", erase=0.5)
    whole = TrainBatches(images, 8, 3, augment).batch(4, 16)
    parts = [TrainBatches(images, 8, 3, augment, rank=rank, world=2).batch(4, 16) for rank in range(2)]
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])


def test_mixup_blends_images_as_it_blends_labels(images: Images) -> None:
    plain, mixing = made(images), made(images, mixup=1.0)
    for step in range(5):
        (x, labels), (z, shares) = plain.batch(step, 12), mixing.batch(step, 12)
        assert shares.shape == (8, 2)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        partner, others = x.roll(1, 0), labels.roll(1, 0)
        own = ((z - partner) * (x - partner)).sum((1, 2, 3)) / ((x - partner) ** 2).sum((1, 2, 3))  # share of the image itself
        mixed = [i for i in range(8) if labels[i] != others[i]]
        assert mixed
        torch.testing.assert_close(own[mixed], shares[mixed, labels[mixed]], rtol=1e-3, atol=1e-3)


def test_cutmix_pastes_a_box_of_the_size_of_its_share(images: Images) -> None:
    plain, mixing = made(images), made(images, cutmix=1.0)
    for step in range(5):
        (x, labels), (z, shares) = plain.batch(step, 20), mixing.batch(step, 20)
        partner = x.roll(1, 0)
        pasted = (z != x).any(1)
        assert torch.equal(torch.where((z == x).all(1, keepdim=True), x, partner), z)
        boxes = {
            tuple(map(int, (place.min(), place.max()))) for image in pasted if image.any() for place in image.nonzero(as_tuple=True)
        }
        assert len(boxes) <= 2  # rows and columns of one box
        i = next(i for i in range(8) if labels[i] != labels.roll(1)[i])
        assert float(shares[i, labels.roll(1)[i]]) >= float(pasted[i].float().mean()) - 1e-6


def test_erasing_puts_the_mean_colour_into_boxes_of_some_images(images: Images) -> None:
    plain, erasing = made(images), made(images, erase=0.5)
    changed = 0
    for step in range(10):
        x, z = plain.batch(step, 20)[0], erasing.batch(step, 20)[0]
        touched = x != z
        assert (z[touched] == 0).all()
        changed += int(touched.flatten(1).any(1).sum())
    assert 20 <= changed <= 60  # of 80


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "auto"}, "policy is 'auto': choose from none, trivial_augment, rand_augment"),
        ({"erase": 1.5}, "erase is 1.5: it must be from 0 to 1"),
        ({"mixup": -1.0}, "mixup is -1.0: it must be from 0 to 100"),
        ({"cutmix": float("nan")}, "cutmix is nan: it must be from 0 to 100"),
    ],
)
def test_values_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment(**changes)


def test_mixing_needs_the_number_of_classes(images: Images) -> None:
    with pytest.raises(DataError, match="need the number of classes"):
        TrainBatches(images, 8, 0, Augment(mixup=0.2))
