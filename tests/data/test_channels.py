"""Images of one, three and four channels and of more than 8 bits: the same pixels whichever way, and what is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall import preprocess
from onceforall.data import Augment, DeviceBatches, Preprocessing, Read, Splits, TrainBatches, eval_batches, open_data
from onceforall.data.batches import _jitter, random_boxes
from onceforall.data.preparation import PREPROCESSING, channel_values, for_channels
from onceforall.errors import DataError
from onceforall.resolutions import of_sides

WAYS = {
    "gray": Read(channels=1),
    "gray, 12 bits": Read(channels=1, range=(0, 4095)),
    "colours": Read(),
    "alpha": Read(channels=4),
}


def steps(how: Read) -> Preprocessing:
    return Preprocessing(for_channels(PREPROCESSING.mean, how.channels), for_channels(PREPROCESSING.std, how.channels))


def image(i: int, kind: str) -> Image.Image:
    rng = np.random.default_rng(i)
    match kind:
        case "12 bits":
            return Image.fromarray(rng.integers(0, 4096, (14, 17)).astype(np.uint16))
        case "gray":
            return Image.fromarray(rng.integers(0, 256, (14, 17), dtype=np.uint8))
        case "gray as colours":
            return image(i, "gray").convert("RGB")
        case "alpha":
            return Image.fromarray(rng.integers(0, 256, (14, 17, 4), dtype=np.uint8))
    return Image.fromarray(rng.integers(0, 256, (14, 17, 3), dtype=np.uint8))


def folder(root: Path, *kinds: str, each: int = 12) -> Path:
    for c, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for i in range(each):
            image(100 * c + i, kinds[i % len(kinds)]).save(root / name / f"{i:02}.png")
    return root


def opened(root: Path, how: Read, **more: object) -> Splits:
    return open_data(str(root), size=12, cache=root.parent / "cache", how=how, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", ["12 bits", "colours", "alpha"])
def test_training_and_evaluation_have_the_pixels_of_preprocess(tmp_path: Path, how: Read, kind: str) -> None:
    """Kept or decoded when they are needed, on the CPU or as on a GPU."""
    root = folder(tmp_path / "images", kind)
    kept, passing = opened(root, how).train, opened(root, how, caching="none").train
    assert (kept.decoded, passing.decoded) == (True, False)
    loaded = [preprocess.load(file, channels=how.channels, range=how.range) for file in kept.files(tmp_path)]
    for i in range(len(kept)):
        assert kept.pixels(i).shape == (12, 15, how.channels)
        np.testing.assert_array_equal(kept.pixels(i), passing.pixels(i))
        small = loaded[i].resize((15, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(kept.pixels(i), preprocess.pixels_of(small))
    own = steps(how)
    facts = {"mean": own.mean, "std": own.std, "crop_share": 0.875, "range": how.range}
    (x, labels), *_ = eval_batches(kept, 10, 32, own)
    assert x.shape == (len(kept), how.channels, 10, 10)
    for i, file in enumerate(kept.files(tmp_path)):
        np.testing.assert_array_equal(x[i].numpy(), preprocess.prepare(file, facts, 10)[0])
    augment = Augment(crop_scale=(0.3, 1.0), colour=1.0, mixup=0.2, erase=0.3)
    batches = [TrainBatches(images, 6, 1, augment, own, classes=2) for images in (kept, passing)]
    (x, labels), (z, others) = (made.batch(3, 9) for made in batches)
    assert torch.equal(x, z)
    assert torch.equal(labels, others)
    on_device, _ = DeviceBatches(batches[0], torch.device("cpu")).batch(3, 9)
    assert on_device.shape == x.shape
    levels = (on_device - x).abs() * 255 * torch.tensor(own.std)[:, None, None]
    assert levels.max() < 2.5


@pytest.mark.parametrize("resolution", ["9x15", "15x9", "24x10"])
def test_batches_of_rectangles(tmp_path: Path, resolution: str) -> None:
    """On the CPU and as on a GPU, decoded when needed, and in evaluation what `prepare` gives."""
    how = Read(channels=1, long=3.0)
    root = folder(tmp_path / "images", "gray")
    kept, passing = opened(root, how).train, opened(root, how, caching="none").train
    height, width = map(int, resolution.split("x"))
    for images in (kept, passing):
        (x, _), *_ = eval_batches(images, resolution, 32, steps(how))
        assert x.shape == (len(kept), 1, height, width)
        facts = {"mean": steps(how).mean, "std": steps(how).std, "crop_share": 0.875, "resolution": resolution}
        for i, file in enumerate(kept.files(tmp_path)):
            np.testing.assert_array_equal(x[i].numpy(), preprocess.prepare(file, facts)[0])
    augment = Augment(crop_scale=(0.3, 1.0), colour=1.0)
    batches = [TrainBatches(images, 6, 1, augment, steps(how), aspect=width / height) for images in (kept, passing)]
    (x, _), (z, _) = (made.batch(3, resolution) for made in batches)
    assert torch.equal(x, z)
    assert x.shape == (6, 1, height, width)
    on_device, _ = DeviceBatches(batches[0], torch.device("cpu")).batch(3, resolution)
    assert ((on_device - x).abs() * 255 * steps(how).std[0]).max() < 2.5
    decoded, _ = batches[0].batch(3, of_sides(height, height))
    assert decoded.shape == (6, 1, height, height), "the same crops at another resolution"


def test_random_crops_have_the_shape_of_the_networks_images() -> None:
    """On average what is kept is as much wider as the images are; of squares the same crops as ever."""
    shapes, augment = np.full((4000, 2), (300, 500)), Augment(crop_scale=(0.05, 0.3))
    for aspect in (0.5, 1.0, 2.0):
        boxes = random_boxes(shapes, augment, np.random.default_rng(0), aspect)
        ratios = np.log(boxes[:, 3] / boxes[:, 2])
        assert ratios.mean() == pytest.approx(np.log(aspect), abs=0.02)
        assert np.abs(ratios - np.log(aspect)).max() < np.log(4 / 3) + 0.05
    plain = random_boxes(shapes, augment, np.random.default_rng(0))
    np.testing.assert_array_equal(plain, random_boxes(shapes, augment, np.random.default_rng(0), 1.0))


def test_long_images_are_kept_long_where_networks_take_such(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(np.random.default_rng([i, ord(name)]).integers(0, 256, (10, 60, 3), dtype=np.uint8)).save(
                root / name / f"{i}.png"
            )
    assert opened(root, Read()).train.pixels(0).shape == (10, 20, 3)
    assert opened(root, Read(long=8.0)).train.pixels(0).shape == (10, 60, 3)
    assert opened(root, Read(long=5.0)).train.pixels(0).shape == (10, 50, 3)


def test_what_the_originals_are_like_is_said(tmp_path: Path) -> None:
    said = {name: opened(folder(tmp_path / name, *name.split(", ")), Read(channels=c, range=r)).remarks for name, c, r in (
        ("12 bits", 1, None), ("gray", 1, (0, 4095)), ("gray, colours", 1, None), ("alpha", 4, None), ("alpha, colours", 4, None),
        ("colours", 4, None), ("gray as colours", 1, None),
    )}  # fmt: skip
    assert said["alpha"] == said["gray as colours"] == ()
    (dark,) = said["12 bits"]
    assert dark.startswith("24 images of 16 bits have no value above 4,09")
    assert dark.endswith("of 65,535, and are read as dark images: if they use 12 bits, give --range 0,4095")
    assert said["gray"] == ("--range has no effect: it applies to gray images of more than 8 bits, and there are none",)
    assert said["gray, colours"] == ("12 of 24 images are in color: with --channels 1 their luminance is used",)
    assert said["alpha, colours"] == ("12 of 24 images have no alpha channel: theirs is 255 everywhere",)
    assert said["colours"] == (
        "no image has an alpha channel, so the fourth of --channels 4 is 255 everywhere: leave the option out",
    )
    dead = folder(tmp_path / "dead pixel", "12 bits")
    pixels = np.asarray(Image.open(first := min(dead.rglob("*.png")))).astype(np.uint16)
    pixels[0, 0] = 65535
    Image.fromarray(pixels).save(first)
    assert opened(dead, Read(channels=1)).remarks[0].startswith("23 of 24 images of 16 bits have no value above 4,09")
    again = opened(tmp_path / "12 bits", Read(channels=1))
    assert again.remarks == said["12 bits"], "from the cache"
    pages = folder(tmp_path / "pages", "gray")
    first = next(pages.rglob("*.png"))
    Image.open(first).save(first.with_suffix(".tif"), save_all=True, append_images=[Image.new("L", (30, 20))])
    assert opened(pages, Read()).remarks == ("1 of 25 images have several frames or pages: only the first of each is used",)
    assert opened(tmp_path / "12 bits", Read(channels=1, range=(0, 4095))).remarks == ()


@pytest.mark.parametrize(("kind", "gray"), [("12 bits", True), ("gray", True), ("gray as colours", True), ("colours", False)])
def test_whether_all_are_gray(tmp_path: Path, kind: str, gray: bool) -> None:
    root = folder(tmp_path / "images", kind)
    assert [opened(root, Read(), caching=caching).gray for caching in ("decoded", "decoded", "none")] == [gray] * 3


def test_caches_of_different_ways_are_apart_and_old_ones_are_read(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", "12 bits")
    found = {name: opened(root, how) for name, how in WAYS.items()}
    assert len({splits.fingerprint for splits in found.values()}) == len(WAYS)
    assert len({splits.train.store.place for splits in found.values()}) == len(WAYS)
    (meta,) = (path for path in (tmp_path / "cache").glob("*/meta.json") if path.parent == found["colours"].train.store.place)
    text = meta.read_text()
    at = text.index(', "channels"') if ', "channels"' in text else text.index(',\n "channels"')
    meta.write_text(text[:at] + "}")
    old = opened(root, Read())
    assert old.fingerprint == found["colours"].fingerprint
    assert (old.train.store.seen, old.gray) == (None, False)


def test_gray_images_and_alpha_in_changes_of_colour() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(-1, 1, (2, 3, 1, 1, 1)).astype(np.float32)
    four = rng.uniform(0, 255, (3, 5, 5, 4)).astype(np.float32)
    three, changed, gray = four[..., :3].copy(), four.copy(), four[..., :1].copy()
    _jitter(three, spread)
    _jitter(changed, spread)
    np.testing.assert_array_equal(changed[..., :3], three)
    np.testing.assert_array_equal(changed[..., 3], four[..., 3])
    as_colours = np.repeat(gray, 3, 3)
    _jitter(gray, spread)
    _jitter(as_colours, spread)
    np.testing.assert_allclose(np.repeat(gray, 3, 3), as_colours, atol=1e-3)


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
def test_policies_change_gray_images_and_refuse_alpha(tmp_path: Path, policy: str) -> None:
    root = folder(tmp_path / "images", "alpha")
    gray, alpha = WAYS["gray"], WAYS["alpha"]
    batches = TrainBatches(opened(root, gray).train, 8, 0, Augment(policy=policy), steps(gray))
    assert not torch.equal(batches.batch(0, 12)[0], TrainBatches(batches.images, 8, 0, Augment(), steps(gray)).batch(0, 12)[0])
    with pytest.raises(DataError, match=f"the policy {policy} needs images of 1 or 3 channels, not 4: leave it out"):
        TrainBatches(opened(root, alpha).train, 8, 0, Augment(policy=policy), steps(alpha))
    with pytest.raises(DataError, match="mean and std have 3 values, and the images 1 channel: give one value"):
        TrainBatches(batches.images, 8, 0, Augment())


def test_numbers_of_channels() -> None:
    assert for_channels((0.2, 0.4, 0.9), 1) == (pytest.approx(0.5),)
    assert for_channels((0.2, 0.4, 0.9), 4) == (0.2, 0.4, 0.9, pytest.approx(0.5))
    assert for_channels((0.2, 0.4, 0.9), 3) == (0.2, 0.4, 0.9)
    assert for_channels((0.2,), 3) == (0.2, 0.2, 0.2)
    assert channel_values("mean", None, 3) is None
    assert channel_values("mean", (0.5,), 4) == (0.5,) * 4
    assert channel_values("mean", (0.5, 0.25), None) == (0.5, 0.25)
    for name, values, channels, message in (
        ("mean", (0.5, 0.4), 3, "--mean has 2 numbers for images of 3 channels: give one per channel, or a single one"),
        ("std", (0.0,), 1, r"--std \[0.0\]: use numbers from 1e-06 to 1, since pixels are scaled to \[0, 1\]"),
        ("std", (1e-300,), 1, r"--std \[1e-300\]: use numbers from 1e-06 to 1"),
        ("mean", (123.7, 116.3, 103.5), 3, r"--mean \[123.7, 116.3, 103.5\]: use numbers from 0 to 1"),
        ("mean", (), 3, "--mean"),
        ("mean", (float("nan"),), 3, "--mean"),
    ):
        with pytest.raises(DataError, match=message):
            channel_values(name, values, channels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 2}, r"images of 2 channels: use 1 \(gray\), 3 \(RGB\) or 4 \(RGB and alpha\)"),
        ({"range": (5, 1)}, "the range is 5 to 1: two numbers are needed, the lower one first"),
        ({"range": (float("nan"), 1)}, "the range is nan to 1"),
        ({"range": (0, float("inf"))}, "the range is 0 to inf"),
        ({"range": (float("-inf"), 1)}, "the range is -inf to 1"),
    ],
)
def test_ways_that_there_are_not(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Read(**given)  # type: ignore[arg-type]


def test_mean_and_std_of_a_preprocessing() -> None:
    for mean, std in (((0.5,), (0.5, 0.5, 0.5)), ((0.5, 0.5), (0.5, 0.5)), ((0.5,), (0.0,))):
        with pytest.raises(DataError, match="give one number per channel"):
            Preprocessing(mean, std)
