"""Which classes are used, and classes with few images."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import MakeFolder, write_parquet
from test_tables import classes_of

from onceforall.data import open_data, open_source
from onceforall.data.classes import doubtful_names
from onceforall.data.reading import Reading, classes_of_text, reading_of
from onceforall.errors import DataError

LAYOUT = {"train": {"cat": 5, "dog": 6, "eel": 4, "cow": 5}, "test": {"cat": 3, "dog": 2, "eel": 1, "cow": 2}}


def test_some_classes_in_an_order_and_two_as_one(make_folder: MakeFolder) -> None:
    root = make_folder(LAYOUT)
    source = open_source(str(root), Reading(classes=classes_of_text("pet=dog+cat, eel")))
    assert source.classes == ("pet", "eel")
    assert source.remarks[-1] == "--classes leaves out cow (7 images)"
    wanted = [
        {pixels: "pet" if name in ("cat", "dog") else name for pixels, name in part.items() if name != "cow"}
        for part in classes_of(open_source(str(root)))
    ]
    assert classes_of(source) == wanted
    assert np.bincount(source.train.labels).tolist() == [11, 4]


def test_a_file_of_classes(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("eel\n\ncow\r\n pet = cat + dog \n")
    source = open_source(str(make_folder(LAYOUT)), Reading(classes=classes_of_text(str(tmp_path / "classes.txt"))))
    assert source.classes == ("eel", "cow", "pet")
    assert not source.remarks


def test_the_images_of_all_classes_stay_in_the_cache(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 9, "dog": 9, "eel": 9})
    open_data(str(root), size=8, cache=tmp_path / "cache")
    before = sorted(path.name for path in (tmp_path / "cache").iterdir())
    turned = open_data(str(root), size=8, cache=tmp_path / "cache", reading=Reading(classes=classes_of_text("eel,dog,cat")))
    assert turned.classes == ("eel", "dog", "cat")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) != before or len(before) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,cat", "cat appears twice"),
        ("pet=cat+cat,dog", "cat appears twice"),
        ("cat,=dog", "a class without a name"),
        ("cat", "--classes cat: at least 2 classes are needed"),
        ("cat,dgo", "names dgo, which is not a class there: did you mean dog"),
    ],
)
def test_refused(make_folder: MakeFolder, text: str, message: str) -> None:
    root = make_folder({"cat": 9, "dog": 9})
    with pytest.raises(DataError, match=message):
        open_source(str(root), Reading(classes=classes_of_text(text)))


def test_classes_of_one_image(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20, "eel": 1, "cow": 2})
    with pytest.raises(
        DataError,
        match=r"too few usable train images in 2 of 4 classes: cow \(2\), eel \(1\).*\(--few allows fewer, --classes merges",
    ):
        open_data(str(root), size=8, cache=tmp_path / "cache")
    splits = open_data(str(root), size=8, cache=tmp_path / "cache", reading=Reading(few=True))
    assert splits.classes == ("cat", "cow", "dog", "eel")
    test = splits.open_test("test")
    counts = [np.bincount(images.labels, minlength=4).tolist() for images in (splits.train, splits.held_out, test)]
    assert np.sum(counts, 0).tolist() == [20, 2, 20, 1]
    assert all(counts[0])
    assert any("without images in a split" in remark for remark in splits.remarks)


def test_an_empty_class_in_val(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train": {"cat": 9, "dog": 9, "eel": 9}, "val": {"cat": 3, "dog": 3}})
    with pytest.raises(DataError, match=r"val has 2; only in one of them: eel: .*\(--few allows val to lack some\)"):
        open_data(str(root), size=8, cache=tmp_path / "cache")
    (root / "val" / "eel").mkdir()
    with pytest.raises(
        DataError,
        match=r"too few usable test images in 1 of 3 classes: eel \(0\); each needs 1 \(--few allows fewer, --classes merges",
    ):
        open_data(str(root), size=8, cache=tmp_path / "cache")
    splits = open_data(str(root), size=8, cache=tmp_path / "cache", reading=Reading(few=True))
    assert splits.classes == ("cat", "dog", "eel")
    assert "classes without images in a split: eel (test)" in splits.remarks


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"label": "tags", "task": "multilabel"},
        {"classes": "cat,dog,other=eel+cow", "few": True, "group": r"(p\d+)"},
    ],
)
def test_options_that_mean_a_reading(asked: dict[str, Any]) -> None:
    reading = reading_of(**asked)
    words = iter(reading.words)
    again = {word.removeprefix("--"): True if word == "--few" else next(words) for word in words}
    assert reading_of(**again) == reading


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("cat", "dog", "eel"), []),
        (("c", "c++", "c#", "1", "10", "-2"), []),
        (
            ("Cat", "cat", "dog"),
            ["class names that hardly differ: Cat, cat: each .*, --classes Cat=Cat\\+cat,… merges them"],
        ),
        (("hot dog", "hot_dog", "Hot-Dog"), ["hardly differ: hot dog, hot_dog, Hot-Dog: .*=hot dog\\+hot_dog\\+Hot-Dog,…"]),
        (("cat", "cat "), ["hardly differ: cat, 'cat ': "]),
        (("1", "01", "1.0", "2"), ["hardly differ: 1, 01, 1.0: "]),
        (("True", "true", "False", "FALSE"), ["hardly differ: True, true; False, FALSE: "]),
        (("cat", "cat", "dog"), ["occur twice or hardly differ: cat, cat: .*: give each its own name"]),
        (("nan", "NaN", "cat"), ["used as a class: nan, NaN; if that means a missing label"]),
        (("Nancy", "None", "x"), ["used as a class: None; "]),
        (("-1", "0", "1"), ["used as a class: -1; "]),
        (("?", "Unlabeled", "x"), ["used as a class: \\?, Unlabeled; "]),
    ],
)
def test_doubtful_names_are_told(names: tuple[str, ...], told: list[str]) -> None:
    found = list(doubtful_names(names))
    assert len(found) == len(told)
    for line, pattern in zip(found, told, strict=True):
        assert re.search(pattern, line), line


def test_names_that_differ_in_capitals_are_told_before_the_training(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"Cat": 9, "cat": 9})
    assert "hardly differ: Cat, cat" in open_data(str(root), size=8, cache=tmp_path / "cache").remarks[0]
    chosen = Reading(classes=classes_of_text("cats=Cat+cat,dog"))
    root = make_folder({"Cat": 9, "cat": 9, "dog": 9}, name="more")
    found = open_data(str(root), size=8, cache=tmp_path / "cache", reading=chosen)
    assert found.classes == ("cats", "dog")
    assert not any("hardly" in remark for remark in found.remarks)


def test_images_named_as_masks_of_others_are_told(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    assert open_data(str(root), size=8, cache=tmp_path / "cache").remarks == ()
    for i, suffix in enumerate(("_mask", "_mask_1", "-GT")):
        (root / "cat" / f"00{i + 6}.png").rename(root / "cat" / f"00{i}{suffix}.png")
    (root / "dog" / "000.png").rename(root / "dog" / "hockey_mask.png")  # of no other image
    (remark,) = open_data(str(root), size=8, cache=tmp_path / "cache").remarks
    assert remark.startswith("3 of 24 images are named like masks of others (cat/00"), remark


def test_classes_of_one_name_are_chosen_together(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 2] * 4, names=["cat", "cat", "dog"])
    found = open_source(str(tmp_path), Reading(classes=classes_of_text("dog,cat")))
    assert np.bincount(found.train.labels).tolist() == [4, 8]
    assert not found.remarks
