"""Class folders for several labels an image: the same image linked or copied into several of them, on the disk and in archives."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolder, picture

from onceforall.data import Source, open_data, open_source
from onceforall.data.formats.archives import _Archive
from onceforall.data.formats.folders import _Disk
from onceforall.data.reading import Reading
from onceforall.errors import DataError

SEVERAL = Reading(task="multilabel")


def told(source: Source) -> dict[str, list[str]]:
    """The labels of each training image."""
    rows = zip(source.train.names, source.train.labels > 0, strict=True)
    return {name: [label for label, has in zip(source.classes, row, strict=True) if has] for name, row in rows}


@pytest.fixture
def linked(make_folder: MakeFolder) -> Path:
    """cat/000 is in dog by a symbolic link, cat/001 in dog and red by hard links, and red/000 in dog as a copy of another name."""
    root = make_folder({"cat": 3, "dog": 2, "red": 1})
    (root / "dog" / "link.png").symlink_to("../cat/000.png")
    os.link(root / "cat" / "001.png", root / "dog" / "hard.png")
    os.link(root / "cat" / "001.png", root / "red" / "hard.png")
    shutil.copy(root / "red" / "000.png", root / "dog" / "copy.png")
    return root


LABELS = {
    "cat/000.png": ["cat", "dog"],
    "cat/001.png": ["cat", "dog", "red"],
    "cat/002.png": ["cat"],
    "dog/000.png": ["dog"],
    "dog/001.png": ["dog"],
    "dog/copy.png": ["dog", "red"],
}
REMARK = "10 files in class folders are 6 images: an image in several folders has all of their labels"


def test_links_and_copies(linked: Path) -> None:
    source = open_source(str(linked), SEVERAL)
    assert source.classes == ("cat", "dog", "red")
    assert told(source) == LABELS
    assert source.train.labels.dtype == np.float32
    assert REMARK in source.remarks
    pixels = [np.asarray(load(16)).tobytes() for load in source.train.read(np.arange(6))]
    assert len(set(pixels)) == 6
    assert len(open_source(str(linked)).train) == 10, "with one class an image, each file is one"
    assert open_source(str(linked)).train.identity != source.train.identity, "a cache has other rows"


def test_files_of_equal_size_are_not_one_image(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for k in range(3):
            picture(10 * i + k).save(tmp_path / name / f"{k}.bmp")
    sizes = {path.stat().st_size for path in tmp_path.rglob("*.bmp")}
    assert len(sizes) == 1
    source = open_source(str(tmp_path), SEVERAL)
    assert source.train.labels.tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert source.remarks == (
        "no image is in several class folders: each has one label (--task multiclass learns one class per image)",
    )


def test_little_is_kept_of_a_million_files(linked: Path) -> None:
    (linked / "large.bmp").write_bytes(os.urandom(10_000))
    assert len(_Disk(linked).head(str(linked / "large.bmp"))) == 16
    assert _Disk(linked).head(str(linked / "none.bmp")) == str(linked / "none.bmp")


@pytest.mark.parametrize("kind", ["zip", "zip with links", "tar"])
def test_archives(linked: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"packed.{kind[:3]}"
    if kind == "tar":
        with tarfile.open(path, "w:") as archive:  # hard links are links in it too
            archive.add(linked, "")
    else:
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted(linked.rglob("*.*")):
                name = str(file.relative_to(linked))
                if file.is_symlink() and kind == "zip with links":
                    info = zipfile.ZipInfo(name)
                    info.external_attr = 0o120777 << 16
                    packed.writestr(info, os.readlink(file))
                else:
                    packed.write(file, name)
    source = open_source(str(path), SEVERAL)
    assert told(source) == LABELS
    assert source.left_out == {}
    archive = _Archive(path)
    heads = {archive.head(member.path) for member in archive.members.values() if not member.folder}
    assert len(heads) == len(LABELS), "the same of copies, and only of these"
    one = open_source(str(path))
    lost = {"zip": 0, "zip with links": 1, "tar": 3}[kind]
    assert len(one.train) == 10 - lost
    assert sum(map(len, one.left_out.values())) == lost, "as before, where an image has one class"


def test_links_out_of_an_archive_and_in_circles(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w:") as archive:
        for folder in ("a", "b"):
            picture(ord(folder)).save(tmp_path / "p.png")
            archive.add(tmp_path / "p.png", f"{folder}/p.png")
        for name, target in (
            ("out", "/etc/passwd"),
            ("up", "../../../x"),
            ("one", "two.png"),
            ("two", "one.png"),
            ("gone", "no.png"),
        ):
            link = tarfile.TarInfo(f"a/{name}.png")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    source = open_source(str(path), SEVERAL)
    assert told(source) == {"a/p.png": ["a"], "b/p.png": ["b"]}
    assert sorted(source.left_out["link in an archive (not followed)"]) == [
        f"a/{n}.png" for n in ("gone", "one", "out", "two", "up")
    ]


def test_splits_and_bad_files(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train": {"cat": 30, "dog": 30}, "test": {"cat": 6, "dog": 6}})
    for split, count in (("train", 12), ("test", 3)):
        for i in range(count):
            (root / split / "dog" / f"also{i}.png").symlink_to(f"../cat/{i:03}.png")
    (root / "train" / "dog" / "torn.png").write_bytes(b"torn")
    (root / "train" / "cat" / "torn.png").write_bytes(b"torn")
    splits = open_data(str(root), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    assert (splits.sizes["train"] + splits.sizes["held-out"], splits.test_size) == (60, 12)
    assert splits.open_test("x").labels.sum(0).tolist() == [6, 9]
    assert [problem.name for problem in splits.problems] == ["train/cat/torn.png"]
    (root / "train" / "dog" / "nowhere.png").symlink_to("../cat/none.png")
    splits = open_data(str(root), size=16, cache=tmp_path / "cache", reading=SEVERAL)
    assert sorted(problem.name for problem in splits.problems) == ["train/cat/torn.png", "train/dog/nowhere.png"]


def test_what_still_has_one_class_an_image() -> None:
    with pytest.raises(DataError, match=r"digits: its images have one class each: .* and class folders with an image in several"):
        open_source("digits", SEVERAL)
