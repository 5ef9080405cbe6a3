import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder, picture, write_parquet

from onceforall.data import Images, Splits, open_data
from onceforall.data.divide import stratified
from onceforall.errors import DataError, FileError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def splits_of(splits: Splits) -> tuple[Images, Images, Images]:
    return splits.train, splits.held_out, splits.open_test("a test of the splits")


def require_disjoint(splits: Splits) -> None:
    for a, b in ((0, 1), (0, 2), (1, 2)):
        parts = splits_of(splits)
        assert not set(parts[a].names) & set(parts[b].names)
        assert not np.isin(parts[a].digests, parts[b].digests).any()


def test_three_splits_of_two_folders(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"cat": 20, "dog": 40}, "val": {"cat": 3, "dog": 5}})
    splits = open_data(str(root), size=16, holdout=0.2, cache=cache)
    require_disjoint(splits)
    assert splits.classes == ("cat", "dog")
    assert np.bincount(splits.train.labels).tolist() == [16, 32]
    assert np.bincount(splits.held_out.labels).tolist() == [4, 8]
    assert splits.test_size == 8
    assert splits.open_test("x").names == sorted(path.relative_to(root).as_posix() for path in root.glob("val/*/*"))
    assert (splits.duplicates, splits.problems) == (0, ())
    assert all(name.startswith("train") for name in splits.train.names + splits.held_out.names)


def test_images_are_read_only_views_with_their_names(make_folder: MakeFolder, cache: Path) -> None:
    splits = open_data(str(make_folder({"cat": 10, "dog": 10})), size=16, cache=cache)
    for images in splits_of(splits):
        for i in range(len(images)):
            folder, file = Path(images.name(i)).parts
            seed = 1 + int(file[:3]) + (10 if folder == "dog" else 0)
            assert (images.pixels(i) == np.asarray(picture(seed))).all()
            assert images.labels[i] == (folder == "dog")
    pixels = splits.train.pixels(0)
    assert pixels.base is not None
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1
    turned = splits.train.subset(np.array([3, 1]))
    assert turned.names == [splits.train.name(3), splits.train.name(1)]
    assert (turned.pixels(1) == splits.train.pixels(1)).all()


def test_test_part_of_one_folder_never_depends_on_the_seed(make_folder: MakeFolder, cache: Path) -> None:
    root = str(make_folder({"cat": 20, "dog": 30}))
    first, same, other = (open_data(root, size=16, seed=seed, cache=cache) for seed in (0, 0, 1))
    require_disjoint(first)
    assert first.open_test("x").names == other.open_test("x").names
    assert np.bincount(first.open_test("x").labels).tolist() == [4, 6]
    assert first.held_out.names == same.held_out.names
    assert first.held_out.names != other.held_out.names
    assert first.fingerprint == same.fingerprint
    assert first.fingerprint != other.fingerprint


def test_three_folders_are_taken_as_they_are(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"a": 6, "b": 6}, "val": {"a": 2, "b": 3}, "test": {"a": 1, "b": 2}})
    splits = open_data(str(root), size=16, cache=cache)
    require_disjoint(splits)
    assert (len(splits.train), len(splits.held_out), splits.test_size) == (12, 5, 3)


def test_equal_pixels_lose_against_the_split_that_matters_more(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"a": 9, "b": 9}, "val": {"a": 4, "b": 4}, "test": {"a": 4, "b": 4}})
    shutil.copy(root / "test" / "a" / "000.png", root / "train" / "b" / "copy.png")
    shutil.copy(root / "test" / "a" / "000.png", root / "val" / "a" / "copy.png")
    shutil.copy(root / "val" / "b" / "001.png", root / "train" / "b" / "another.png")
    picture(1).save(root / "train" / "a" / "twice.bmp")  # of train/a/000.png: both may stay
    splits = open_data(str(root), size=16, cache=cache)
    require_disjoint(splits)
    assert splits.duplicates == 3
    assert (len(splits.train), len(splits.held_out), splits.test_size) == (19, 8, 8)


def test_opening_the_test_images_is_remembered(make_folder: MakeFolder, cache: Path) -> None:
    splits = open_data(str(make_folder({"cat": 10, "dog": 10})), size=16, cache=cache)
    assert splits.test_openings == []
    splits.open_test("report of the chosen networks")
    assert splits.test_openings == ["report of the chosen networks"]
    with pytest.raises(DataError, match="say what they are opened for"):
        splits.open_test(" ")
    assert "_test" not in repr(splits)


def test_limit_takes_the_first_of_every_class(make_folder: MakeFolder, cache: Path) -> None:
    root = str(make_folder({"train": {"cat": 40, "dog": 20}, "val": {"cat": 20, "dog": 10}}))
    splits = open_data(root, size=16, limit=15, cache=cache)
    names = sorted(splits.train.names + splits.held_out.names)
    assert names == [f"train/cat/{i:03}.png" for i in range(10)] + [f"train/dog/{i:03}.png" for i in range(5)]
    assert np.bincount(splits.open_test("x").labels).tolist() == [10, 5]
    assert len(open_data(root, size=16, limit=1000, cache=cache).train) == 54
    with pytest.raises(DataError, match=r"the limit of 7 images leaves fewer than 4 for each of 2 classes: use 8 or more"):
        open_data(root, size=16, limit=7, cache=cache)


def test_progress_counts_all_parts_and_bad_images_are_reported(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"cat": 20, "dog": 20}, "val": {"cat": 15, "dog": 15}})
    (root / "train" / "cat" / "007.png").write_text("no")
    (root / "val" / "dog" / "003.png").write_text("no")
    calls: list[tuple[int, int]] = []
    splits = open_data(str(root), size=16, cache=cache, on_progress=lambda *call: calls.append(call))
    assert calls == [(i, 70) for i in range(1, 71)]
    assert [problem.name for problem in splits.problems] == ["train/cat/007.png", "val/dog/003.png"]
    assert (len(splits.train) + len(splits.held_out), splits.test_size) == (39, 29)


def test_digits(cache: Path) -> None:
    splits = open_data("digits", size=32, cache=cache)
    require_disjoint(splits)
    assert (len(splits.train), len(splits.held_out), splits.test_size) == (1295, 143, 359)
    assert splits.train.pixels(0).shape == (8, 8, 3)
    assert splits.fingerprint == "c935720ab574582a"  # of version 630d9cc


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"cat": 30}, r"images has one class \(cat\), and at least 2 are needed"),
        ({str(i): 1 for i in range(11)}, r"if these numbers are measurements \(there is no regression\), divide them into ranges"),
        ({"cat": 1, "dog": 1}, r"too few usable train images in 2 of 2 classes: cat \(1\), dog \(1\); each needs 5"),
        ({"cat": 30, "dog": 0}, r"one class \(cat\), and at least 2 are needed.*; left out: 1 folder without images: dog"),
        ({"train": {"cat": 9, "dog": 3}, "val": {"cat": 1, "dog": 1}}, r"train images in 1 of 2 classes: dog \(3\); each needs 4"),
        ({"train": {"cat": 9, "dog": 9}, "val": {"cat": 1, "dog": 0}}, r"test images in 1 of 2 classes: dog \(0\); each needs 1"),
    ],
)
def test_too_little(make_folder: MakeFolder, cache: Path, layout: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_data(str(make_folder(layout)), size=16, cache=cache)
    assert "\n" not in str(caught.value)


def test_nothing_left_after_dropping_copies(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"cat": 5, "dog": 5}, "val": {"cat": 1, "dog": 1}})
    for i in range(5):
        shutil.copy(root / "train" / "cat" / f"{i:03}.png", root / "val" / "cat" / f"copy{i}.png")
    (root / "train" / "cat" / "damaged.png").write_text("no")
    with pytest.raises(DataError, match=r"too few usable train images in 1 of 2 classes: cat \(0\)") as caught:
        open_data(str(root), size=16, cache=cache)
    assert "; 4 images of these classes were dropped, because a more important split has the same pixels (train/cat/00" in str(
        caught.value
    )
    assert "; 1 image of these classes cannot be read; 4" in str(caught.value)


def test_dropped_copies_of_another_class_are_named_as_the_reason(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"cat": 12, "dog": 5}, "val": {"cat": 9, "dog": 5}})
    for i in range(5):
        shutil.copy(root / "train" / "dog" / f"{i:03}.png", root / "val" / "cat" / f"copy{i}.png")
    with pytest.raises(DataError, match=r"dog \(0\); each needs 1; 4 images .* dropped.*/dog/00..png is val/cat/copy..png"):
        open_data(str(root), size=16, holdout=0.1, cache=cache)


def test_equal_pixels_under_two_labels_are_told(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train": {"cat": 20, "dog": 20}, "val": {"cat": 4, "dog": 4}, "test": {"cat": 4, "dog": 4}})
    shutil.copy(root / "train" / "cat" / "003.png", root / "train" / "dog" / "copy.png")
    shutil.copy(root / "test" / "cat" / "001.png", root / "train" / "dog" / "leak.png")
    shutil.copy(root / "train" / "cat" / "005.png", root / "train" / "cat" / "twice.png")  # under one label
    splits = open_data(str(root), size=16, cache=cache)
    assert (len(splits.train), splits.duplicates, splits.unreadable) == (42, 1, 0)
    assert [(problem.name, problem.reason) for problem in sorted(splits.problems, key=lambda problem: problem.name)] == [
        ("test/cat/001.png", "kept: of class cat, with the pixels of train/dog/leak.png of class dog"),
        ("train/cat/003.png", "kept: of class cat, with the pixels of train/dog/copy.png of class dog"),
        ("train/dog/copy.png", "kept: of class dog, with the pixels of train/cat/003.png of class cat"),
        ("train/dog/leak.png", "dropped as a duplicate: of class dog, with the pixels of test/cat/001.png of class cat"),
    ]
    (remark,) = splits.remarks
    assert remark.startswith("4 images have the same pixels as one of another class (")
    assert "where both are in one split they are kept under both labels" in remark


def test_what_was_left_out_is_in_problems_and_remarks(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onceforall.data.splits.MOST_LISTED", 3)
    root = make_folder({"cat": 10, "dog": 10})
    for i in range(5):
        (root / "cat" / f"{i:03}.txt").write_text("a box")
    (root / "dog" / "000.png").write_text("no")
    splits = open_data(str(root), size=16, cache=cache)
    assert splits.remarks == ("left out: 5 files without an image in it (.txt): cat/000.txt, …",)
    assert splits.unreadable == 1
    assert [(problem.name, problem.reason) for problem in splits.problems[1:]] == [
        *((f"cat/{i:03}.txt", "left out: file without an image in it (.txt)") for i in range(3)),
        ("2 more", "left out: file without an image in it (.txt)"),
    ]


@pytest.mark.parametrize(
    ("layout", "fingerprint"),
    [
        ({"cat": 12, "dog": 9, "B 2": 7}, "99034a6147322ec9"),
        ({"train": {"cat": 12, "dog": 9}, "val": {"cat": 3, "dog": 4}}, "9ebdb439907380ce"),
        ({"train": {"cat": 12, "dog": 9}, "val": {"cat": 3, "dog": 4}, "test": {"cat": 2, "dog": 2}}, "7a0cda8ba8ea6de8"),
    ],
)
def test_run_directories_of_earlier_versions_find_the_same_images(
    make_folder: MakeFolder, cache: Path, layout: dict[str, int], fingerprint: str
) -> None:
    """What version 630d9cc computed: a run directory does not open its data if this changes."""
    root = make_folder(layout)
    if "cat" in layout:
        (root / "cat" / "deeper").mkdir()
        picture(500).save(root / "cat" / "deeper" / "x.PNG")
    assert open_data(str(root), size=16, cache=cache).fingerprint == fingerprint


def test_parquet_files_of_earlier_runs_are_the_same_images(tmp_path: Path, cache: Path) -> None:
    """As above."""
    files = {"train-00000-of-00002": [0, 1] * 8, "train-00001-of-00002": [1, 0] * 8, "test-0": [1, 0] * 3}
    for i, (name, labels) in enumerate(files.items()):
        write_parquet(tmp_path / "data" / f"{name}.parquet", labels, seed=100 * i, names=["cat", "dog"])
    assert open_data(str(tmp_path), size=16, cache=cache).fingerprint == "1aeced64dedba8de"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "images of size 4 are too small"),
        ({"holdout": 0.0}, r"the held-out share is 0\.0: it must be above 0 and at most 0\.5"),
        ({"holdout": 0.9}, "the held-out share is"),
        ({"seed": -1}, "the seed is -1: use 0 or more"),
        ({"limit": 0}, "the limit is 0 images"),
        (
            {"limit_gb": 1e-6},
            r"20 images of size 16 would take about 0\.0 GB in .*, over the limit of 1e-06 GB: raise it with --cache-gb",
        ),
    ],
)
def test_arguments(make_folder: MakeFolder, cache: Path, arguments: dict[str, float], message: str) -> None:
    root = str(make_folder({"cat": 10, "dog": 10}))
    with pytest.raises(DataError, match=message):
        open_data(root, **{"size": 16, "cache": cache, **arguments})  # type: ignore[arg-type]
    assert not cache.exists()


def test_unwritable_cache(make_folder: MakeFolder) -> None:
    with pytest.raises(FileError, match="/proc/nowhere"):
        open_data(str(make_folder({"cat": 10, "dog": 10})), size=16, cache=Path("/proc/nowhere/cache"))


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array),
    share=st.floats(0, 1),
    least=st.integers(1, 5),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_stratified(labels: np.ndarray, share: float, least: int, seed: int | None) -> None:
    def choose() -> np.ndarray:
        return stratified(labels, share, None if seed is None else np.random.default_rng(seed), least=least)

    chosen = choose()
    assert chosen.tolist() == sorted(set(chosen.tolist())) == choose().tolist()
    for label in np.unique(labels):
        count, total = int((labels[chosen] == label).sum()), int((labels == label).sum())
        assert min(least, total) <= count <= total
        assert abs(count - share * total) <= max(0.5, least)
