"""The cache of pixels for evaluation: made once, never wrong, and of bounded size."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolder, picture
from PIL import Image

from onceforall import preprocess
from onceforall.common import files
from onceforall.common.files import one_at_a_time
from onceforall.data import Images, Read, fitted, open_data, splits
from onceforall.data.fitted import Keep, fitted_batches
from onceforall.data.preparation import PREPROCESSING, Preprocessing
from onceforall.errors import DataError, FileError, Note

GROUPS = [np.array([3, 0]), np.array([7, 5, 4, 19])]


@pytest.fixture
def images(make_folder: MakeFolder, tmp_path: Path) -> Images:
    """36 images of 12 × 10 pixels; they are the first 18 files of each class."""
    root = make_folder({"train": {"a": 20, "b": 20}, "val": {"a": 2, "b": 2}})
    return open_data(str(root), size=16, cache=tmp_path / "cache").train


def expected(images: Images, group: np.ndarray, resolution: int) -> np.ndarray:
    originals = [preprocess.load(images.files(Path("/nowhere"))[i]) for i in group]
    return np.stack([np.asarray(preprocess.fit(image, resolution, 0.875)) for image in originals])


def places(images: Images) -> list[Path]:
    return sorted(path for path in (images.keep.folder / "fitted").iterdir() if path.is_dir())


def check(images: Images, groups: list[np.ndarray], resolution: int) -> None:
    for found, group in zip(images.fitted(groups, resolution, PREPROCESSING), groups, strict=True):
        np.testing.assert_array_equal(found, expected(images, group, resolution))


def test_images_are_decoded_once_and_in_any_order(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    real = preprocess.fit
    monkeypatch.setattr(preprocess, "fit", lambda image, *rest: decoded.append(image) or real(image, *rest))
    for groups in (GROUPS, GROUPS, [np.array([19, 3])], [np.arange(10)], [np.arange(len(images))]):
        list(images.fitted(groups, 9, PREPROCESSING))
    assert len(decoded) == len(images)
    monkeypatch.undo()
    check(images, [*GROUPS, np.arange(len(images)), np.array([5, 5])], 9)
    check(images.subset(np.array([9, 2, 30])), [np.array([2, 0, 1])], 9)
    assert len(places(images)) == 1
    check(images, GROUPS, 11)
    list(images.fitted(GROUPS, 9, Preprocessing(crop_share=0.9)))
    assert len(places(images)) == 3
    assert list(images.fitted([], 9, PREPROCESSING)) == []


@pytest.mark.parametrize("damage", ["pixels.bin", "positions.npy"])
@pytest.mark.parametrize("how", ["cut", "emptied", "removed"])
def test_what_is_damaged_is_made_again(images: Images, damage: str, how: str) -> None:
    check(images, GROUPS, 9)
    path = places(images)[0] / damage
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-7])
        case "emptied":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
    check(images, GROUPS, 9)


def test_what_was_kept_before_an_interrupt_stays(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "AT_ONCE", 4)
    monkeypatch.setattr(fitted, "processors", lambda: 1)  # others may be at the image that stops all before the first is written
    real, calls = preprocess.fit, []

    def stopping(image: Image.Image, *rest: float) -> Image.Image:
        calls.append(image)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return real(image, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(preprocess, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        list(images.fitted([np.arange(20)], 9, PREPROCESSING))
    kept = np.load(places(images)[0] / "positions.npy")
    assert 4 <= len(kept) <= 8
    with open(places(images)[0] / "pixels.bin", "ab") as file:
        file.write(b"torn")
    monkeypatch.setattr(preprocess, "fit", real)
    check(images, [np.arange(20)], 9)
    assert np.load(places(images)[0] / "positions.npy")[: len(kept)].tolist() == kept.tolist()


def test_the_longest_unused_makes_room(images: Images) -> None:
    limited = Images(images.store, images.rows, images.part, images.labels, Keep(images.keep.folder, 36 * 300))
    everything = [np.arange(len(images))]
    for age, resolution in enumerate((6, 7, 8)):  # 3,888, 5,292 and 6,912 bytes
        list(limited.fitted(everything, resolution, PREPROCESSING))
        for path in places(images):
            os.utime(path / "positions.npy", (1000 + age, 1000 + age) if path not in places(images)[:-1] else None)
    assert sum((path / "pixels.bin").stat().st_size for path in places(images)) <= 36 * 300
    check(limited, everything, 8)
    with one_at_a_time(images.keep.folder / "fitted" / f".{places(images)[0].name}.lock"):
        check(limited, [np.arange(10)], 9)  # a folder that another process writes stays
    before = places(images)
    for groups in (everything, [np.array([4, 2]), np.array([9])]):  # 36 of 1,200 bytes are over the limit: not kept
        check(Images(images.store, images.rows, images.part, images.labels, Keep(images.keep.folder, 1000)), groups, 20)
    assert places(images) == before


def test_a_full_disk_is_one_line(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 100))
    with pytest.raises(FileError, match=r"the images for evaluation need .* GB are free: free some space, or set XDG_CACHE_HOME"):
        list(images.fitted(GROUPS, 9, PREPROCESSING))


def test_an_original_that_is_gone_is_named(images: Images) -> None:
    images.files(Path("/nowhere"))[5].unlink()
    with pytest.raises(DataError, match=r"train/a/.*\.png: no such file"):
        list(images.fitted([np.arange(20)], 9, PREPROCESSING))


def test_somebody_is_told_when_it_takes_long(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "PATIENCE_S", -1.0)
    told: list[str] = []
    list(fitted_batches(images.part, [np.arange(30)], 9, PREPROCESSING, Keep(images.keep.folder, 10**9, told.append)))
    assert len(told) == 1
    assert told[0].startswith("preparing 30 images at 9×9 for evaluation, once: about ")
    list(fitted_batches(images.part, [np.arange(30)], 9, PREPROCESSING, Keep(images.keep.folder, 10**9, told.append)))
    assert len(told) == 1


def test_larger_photographs_are_left_out_by_the_limit(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            picture(100 * ord(name) + i, 12, 10).save(tmp_path / "images" / name / f"{i:02}.png")
    picture(1, 13, 10).save(tmp_path / "images" / "a" / "99.png")
    limited = open_data(str(tmp_path / "images"), size=16, cache=tmp_path / "cache", how=Read(120))
    assert [(p.name, p.reason) for p in limited.problems] == [
        ("a/99.png", "13×10 pixels, more than the limit of 120 (a decompression bomb?): see max_pixels")
    ]
    default = open_data(str(tmp_path / "images"), size=16, cache=tmp_path / "cache")
    assert default.problems == ()
    assert default.fingerprint != limited.fingerprint
    before = open_data(str(tmp_path / "images"), size=16, cache=tmp_path / "cache", how=Read(preprocess.LARGE))
    assert before.fingerprint == default.fingerprint
    with pytest.raises(DataError, match="the limit is 0 pixels per image: use 1 or more"):
        open_data(str(tmp_path / "images"), size=16, cache=tmp_path / "cache", how=Read(0))


def test_nothing_is_written_where_there_are_no_locks(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that append to the same file would keep wrong pixels."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    check(images, GROUPS, 9)
    before = (places(images)[0] / "pixels.bin").read_bytes()
    monkeypatch.setattr(files.fcntl, "flock", refuse)
    check(images, GROUPS, 9)  # what is there is read
    with pytest.warns(Note, match="no locks"):
        check(images, [*GROUPS, np.arange(10)], 9)
    assert (places(images)[0] / "pixels.bin").read_bytes() == before
    with pytest.warns(Note, match="no locks"):
        check(images, GROUPS, 11)
    assert len(places(images)) == 1


def test_a_cache_that_can_only_be_read(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is taken from it, other pixels go where there is a place for them."""
    root = str(make_folder({"train": {"a": 20, "b": 20}, "val": {"a": 2, "b": 2}}))
    usual, other = tmp_path / "usual", tmp_path / "other"
    check(open_data(root, size=16, cache=usual).train, GROUPS, 9)
    monkeypatch.setattr(splits, "cache_folder", lambda holds=(): usual if holds else other)
    images = open_data(root, size=16).train
    check(images, GROUPS, 9)
    assert not other.exists()
    check(images, GROUPS, 11)
    assert len(places(images)) == 1
    assert [path.name for path in (other / "fitted").iterdir() if path.is_dir()] != []
