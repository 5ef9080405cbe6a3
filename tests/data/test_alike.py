"""Images that are nearly the same, over splits."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from onceforall.common.records import read_records
from onceforall.data import Problem, open_data, open_source
from onceforall.data.alike import alike, thumbnails
from onceforall.data.divide import grouped
from onceforall.data.reading import Reading
from onceforall.errors import DataError


def scene(seed: int) -> Image.Image:
    """Coarse shapes, as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((96, 80), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("RGB")


COPIES = {
    "jpeg": jpeg,
    "half the size": lambda image: image.resize((48, 40)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "gray": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_found_and_others_are_not(how: str) -> None:
    originals = [scene(seed) for seed in range(40)]
    copies = [COPIES[how](scene(seed)) for seed in range(30, 60)]
    pairs = alike(thumbnails(map(np.asarray, copies)), thumbnails(map(np.asarray, originals)))
    assert pairs == [(i, 30 + i) for i in range(10)]


def test_flat_and_tiny_images_are_like_nothing() -> None:
    flat, tiny = np.full((64, 64, 3), 200, np.uint8), np.asarray(scene(1).resize((16, 16)))
    found = thumbnails([flat, flat + 1, tiny, tiny])
    assert not found.any()
    assert alike(found, found) == []
    assert alike(found, thumbnails([])) == []


def write(root: Path, layout: dict[str, list[Image.Image]]) -> Path:
    for name, images in layout.items():
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            image.save(root / name / f"object{i % 12:02}-{i}.png")
    return root


def test_they_are_told_with_an_example(tmp_path: Path) -> None:
    root = write(
        tmp_path / "photos",
        {
            "train/a": [scene(i) for i in range(12)],
            "train/b": [scene(100 + i) for i in range(12)],
            "test/a": [jpeg(scene(3)), scene(50)],
            "test/b": [scene(60)],
        },
    )
    splits = open_data(str(root), size=64, cache=tmp_path / "cache", compare=True)
    (remark,) = splits.remarks
    assert remark.startswith(
        "1 of 3 test images are nearly the same as a training image (test/a/object00-0.png and train/a/object03-3.png)"
    )
    assert [(problem.name, problem.doubtful, problem.alike) for problem in splits.problems] == [
        ("test/a/object00-0.png", True, True)
    ]
    assert (
        open_data(str(root), size=64, cache=tmp_path / "cache", compare=True).remarks == splits.remarks
    )  # from what the cache keeps
    assert not open_data(str(root), size=64, cache=tmp_path / "cache").remarks, "only where a run is made"


def test_a_name_does_not_make_a_doubtful_label_a_copy(tmp_path: Path) -> None:
    """Lines of earlier versions, where only the reason tells, and of this one."""
    name = "nearly the same as a training image.png"
    lines = [
        {"name": "a.png", "reason": f"kept: of cat, with the pixels of {name} of dog", "doubtful": True},
        {"name": "b.png", "reason": f"kept: a test image nearly the same as the training image {name}", "doubtful": True},
        {"name": "7 more", "reason": "kept: held-out images nearly the same as a training image", "doubtful": True, "count": 7},
        {"name": "c.png", "reason": "whatever", "doubtful": True, "alike": True},
    ]
    (tmp_path / "problems.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert [problem.alike for problem in read_records(tmp_path / "problems.jsonl", Problem)] == [False, True, True, True]


def test_groups_stay_together(tmp_path: Path) -> None:
    """Three exposures of each object: without groups they are on all sides, with groups none is."""
    layout = {
        name: [ImageEnhance.Brightness(scene(s + i % 12)).enhance(1 - 0.02 * (i // 12)) for i in range(36)]
        for name, s in (("a", 0), ("b", 20))
    }
    root = write(tmp_path / "photos", layout)
    alone = open_data(str(root), size=64, cache=tmp_path / "cache", compare=True)
    assert "are nearly the same as a training image" in alone.remarks[0]
    splits = open_data(str(root), size=64, cache=tmp_path / "cache", compare=True, reading=Reading(group=r"./object\d+"))
    assert not splits.remarks
    parts = [set(images.groups or ()) for images in (splits.train, splits.held_out, splits.open_test("test"))]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24
    again = open_data(str(root), size=64, cache=tmp_path / "cache", compare=True, reading=Reading(group=r"./object\d+"))
    assert again.fingerprint == splits.fingerprint != alone.fingerprint


def test_a_column_of_groups(tmp_path: Path) -> None:
    write(tmp_path / "photos", {"a": [scene(i) for i in range(24)], "b": [scene(50 + i) for i in range(24)]})
    rows = [{"file_name": f"{name}/object{i % 12:02}-{i}.png", "label": name, "patient": i % 6} for name in "ab" for i in range(24)]
    table = tmp_path / "photos" / "all.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = open_data(str(table), size=64, cache=tmp_path / "cache", compare=True, reading=Reading(group="patient"))
    test = splits.open_test("test")
    assert set(test.groups or ()) & set(splits.train.groups or ()) == set()
    assert len(set(test.groups or ())) >= 1


def test_groups_that_the_data_divide_are_told(tmp_path: Path) -> None:
    root = write(
        tmp_path / "photos",
        {
            f"{split}/{name}": [scene(s + i) for i in range(n)]
            for split, n, s in (("train", 12, 0), ("test", 3, 40))
            for name, s in (("a", s), ("b", s + 100))
        },
    )
    remarks = open_data(str(root), size=64, cache=tmp_path / "cache", compare=True, reading=Reading(group=r"object\d+")).remarks
    assert any(text.startswith("groups that the data's own splits divide: 3 in train and test (object00, …)") for text in remarks)


def test_a_pattern_without_its_group_is_told(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a": [scene(i) for i in range(3)], "b": [scene(50 + i) for i in range(3)]})
    source = open_source(str(root), Reading(group=r"a/(object\d+)|b/"))
    assert source.train.groups == ("object00", "object01", "object02", "", "", "")
    assert "finds an empty group in 3 names: these form one group" in source.remarks[-1]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"neither a column nor a regular expression"),
        ("patient", r"is not a column, and does not match 24 of 24 names, such as a/"),
        ("object", r"all images belong to the group object, .* at least 2: leave --group out"),
        ("[ab]/", r"none of 2 groups \(a/, …\) can be held out without a class losing its last images: leave --group out"),
    ],
)
def test_groups_that_make_no_sense(tmp_path: Path, pattern: str, message: str) -> None:
    root = write(tmp_path / "photos", {"a": [scene(i) for i in range(12)], "b": [scene(50 + i) for i in range(12)]})
    with pytest.raises(DataError, match=message):
        open_data(str(root), size=64, cache=tmp_path / "cache", compare=True, reading=Reading(group=pattern))


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(2, 5), st.floats(0.05, 0.5))
def test_no_group_is_divided_and_no_class_is_lost(seed: int, groups: int, classes: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels, own = rng.integers(0, classes, 200), rng.integers(0, groups, 200)
    chosen = grouped(labels, [f"g{i}" for i in own], share, np.random.default_rng(0))
    rest = np.setdiff1d(np.arange(200), chosen)
    assert not set(own[chosen]) & set(own[rest])
    assert set(labels[rest]) == set(labels)
    if all(len(set(own[labels == label])) > 2 * classes for label in range(classes)):
        assert set(labels[chosen]) == set(labels)
        assert len(chosen) <= 200 * share + classes * np.bincount(own).max()
