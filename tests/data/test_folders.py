"""Image folders as people leave them: nothing is dropped, guessed or chosen without a word."""

import errno
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import MakeFolder, picture
from PIL import Image

from onceforall.data import Source, open_data, open_source
from onceforall.data.formats.scan import left_out_line
from onceforall.errors import DataError, FileError

AB = {"a": 3, "b": 3}


def sizes(source: Source) -> tuple[int, int | None, int | None]:
    test, held_out = (None if part is None else len(part) for part in (source.test, source.held_out))
    return len(source.train), test, held_out


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"Training": AB, "Testing": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"x_train": AB, "x_test": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"training_set": AB, "test_set": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"seg_train": AB, "seg_test": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"train": AB, "eval": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"train": AB, "dev": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"train": AB, "holdout": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"train": AB, "held-out": {"a": 1, "b": 2}, "test": {"a": 1, "b": 1}}, (6, 2, 3)),
        ({"train": AB, "eval": {"a": 1, "b": 2}, "test": {"a": 1, "b": 1}}, (6, 2, 3)),
        ({"train": AB, "dev": {"a": 1, "b": 2}, "eval": {"a": 1, "b": 1}}, (6, 2, 3)),
        ({"train": AB}, (6, None, None)),
        ({"bullet_train": 3, "test_tube": 3}, (6, None, None)),
        ({"bullet_train/new": AB, "test_tube/new": AB, "cat": AB}, (18, None, None)),
        ({"bullet_train": AB, "test_tube": AB, "cat": AB}, (18, None, None)),
        ({"valid": 3, "invalid": 3}, (6, None, None)),
        ({"vehicles": {"train": 3, "bus": 3}, "animals": {"a": 3, "b": 3}}, (12, None, None)),
        ({"photos/train": AB, "photos/val": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"images/images": AB}, (6, None, None)),
        ({"train/train": AB, "val/images": {"a": 1, "b": 1}}, (6, 2, None)),
        ({"train/deep": AB, "train/deeper": AB, "val/deep": AB, "val/deeper": AB}, (12, 12, None)),
    ],
)
def test_layouts(make_folder: MakeFolder, layout: dict[str, dict[str, int]], expected: tuple[int, int | None, int | None]) -> None:
    source = open_source(str(make_folder(layout)))
    assert sizes(source) == expected
    assert source.left_out == {}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"train": AB, "train_small": AB}, "which are the train images, train or train_small"),
        ({"train": AB, "val": AB, "dev": AB}, "which are the validation images, dev or val"),
        ({"train": AB, "val": AB, "eval": AB, "test": AB}, "which two of test, eval, val are the test and the held-out images"),
        (
            {"train": AB, "bus": AB},
            r"is train a class beside bus, or does it hold all the training images\? Give .*/train ",
        ),
        ({"train": AB, "bus": 3, "car": 3}, "is train a class beside bus, car"),
        ({"val": AB, "test": AB}, "there are no training images beside test, val"),
        ({"val": AB}, "there are no training images beside val"),
        ({"train": 3, "test": 3}, "no class folders in test, train"),
        ({"cat": 3, "dog": 3, "test": 3}, r"is test a class, or are these the test images\? If a class, rename it \(class test\)"),
        ({"cat": 3, "dog": 3, "val": AB}, "is val a class, or are these the validation images"),
        ({"v1/train": AB, "v1/test": AB, "v2/train": AB}, r"v1, v2 with test, train in it: .* give one of them, such as .*/v1;"),
        ({"a": {"train": 3, "test": 2}, "b": {"train": 3, "test": 2}}, "a, b with test, train in it: are these classes, or sets"),
        ({"a": {"test": 2}, "b": {"test": 2}, "c": 3}, "a, b with test in it: are these classes"),
        ({"v1/train": AB, "more": 3}, "v1 with train in it: are these classes"),
        ({"trainA": 3, "trainB": 3, "testA": 2, "testB": 2}, "are testA and trainA classes, or splits"),
        ({"train_cat": 3, "test_cat": 2}, "are test_cat and train_cat classes, or splits"),
        ({"a": 3, "b": 3, "old_test": AB}, "is old_test a class, or does it hold more images of a, b"),
    ],
)
def test_more_than_one_reading_is_asked_about(make_folder: MakeFolder, layout: dict[str, dict[str, int]], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(str(make_folder(layout)))
    assert "\n" not in str(caught.value)


def test_folders_of_a_class_that_may_be_classes_are_told(make_folder: MakeFolder) -> None:
    said = "all folders in a class folder belong to that class, such as cat, dog in animals: if they are classes, move them up"
    inner = {"animals/cat": 2, "animals/dog": 2, "plants/elm": 2, "plants/oak": 2}
    assert open_source(str(make_folder(inner, name="flat"))).remarks == (said,)
    assert open_source(str(make_folder({"train": inner, "test": inner}, name="divided"))).remarks == (said,)


def test_what_is_guessed_is_told(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"bus": 2, "train": 2})))
    assert source.remarks == ("used as a class: train, because there are no class folders in it",)
    wrapped = open_source(str(make_folder({"photos/train": AB, "photos/val/images": AB}, name="wrapped")))
    assert wrapped.remarks == (f"read from photos, {os.path.join('photos', 'val', 'images')}: nothing else is beside it",)
    assert open_source(str(make_folder(AB, name="flat"))).remarks == ()


def test_folders_that_hold_the_same_folders_are_classes_with_a_word(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"fold1": AB, "fold2": AB})))
    assert source.classes == ("fold1", "fold2")
    assert source.remarks == ("used as classes: fold1, fold2, though each holds the same folders (a, b)",)


def test_splits_with_longer_names_are_known_by_their_equal_class_folders(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"seg_train/seg_train": AB, "seg_test/seg_test": AB, "seg_pred/seg_pred": 2})))
    assert (source.classes, sizes(source)) == (("a", "b"), (6, 6, None))
    assert list(source.left_out.values()) == [["seg_pred"]]


def test_a_single_folder_that_may_be_a_class_is_no_wrapper(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"cat/2019": AB, "cat/2020": AB})))
    assert source.classes == ("cat",)


def test_a_wrapper_of_any_name_is_told(make_folder: MakeFolder) -> None:
    root = make_folder({"flowers": {"rose": 3, "tulip": 2}})
    source = open_source(str(root))
    assert source.classes == ("rose", "tulip")
    assert source.remarks == (
        "read from flowers: nothing else is beside it",
        "classes are the folders in flowers (rose, tulip); if flowers is the class, add a second class",
    )
    assert open_source(str(root), known=("flowers", "trees")).classes == ("flowers",), "it is a class of the network"
    splits = open_source(str(make_folder({"train/flowers": AB, "test/plants": AB}, name="splits")))
    assert (splits.classes, sizes(splits)) == (("a", "b"), (6, 6, None))
    picture(90).save(root / "loose.png")
    assert open_source(str(root)).classes == ("flowers",)


def test_a_class_that_is_alone_says_how_else_it_may_be_meant(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat/2019": AB, "cat/2020": AB})
    with pytest.raises(
        DataError, match=r"has one class \(cat\), .*: if the folders in it are the classes \(2019, 2020\), give .*/cat$"
    ):
        open_data(str(root), size=16, cache=tmp_path / "cache")
    with pytest.raises(
        DataError, match=r"has one class \(cat\), and at least 2 are needed: give a folder with one folder per class"
    ):
        open_data(str(make_folder({"cat": 5}, name="one")), size=16, cache=tmp_path / "cache")


def test_a_folder_of_the_same_name_in_two_splits_is_a_class(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train/images/defect": AB, "test/images/defect": AB})
    assert open_source(str(root)).classes == ("defect",)
    with pytest.raises(DataError, match=r"one class \(defect\), .*: if the folders in it are the classes \(a, b\), move them up"):
        open_data(str(root), size=16, cache=tmp_path / "cache")


def test_folders_of_splits_without_class_folders_are_told(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"train": AB, "test": 4, "val": AB, "docs": 0, "figures": 2})))
    assert sizes(source) == (6, 6, None)
    assert dict(source.left_out) == {
        "folder without images": ["docs"],
        "folder without a split's name, or without class folders": ["figures", "test"],
    }


def test_images_are_known_by_their_content(make_folder: MakeFolder) -> None:
    root = make_folder(AB)
    for i, kind in enumerate(("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")):
        picture(100 + i, 32, 32).save(root / "a" / f"plain{i}", format=kind)
        picture(200 + i, 32, 32).save(root / "a" / f"odd{i}.dat", format=kind)
    picture(300).save(root / "a" / "x.jfif", format="JPEG")
    picture(301).save(root / "a" / "a.photo.heic", format="JPEG")  # a wrong suffix
    (root / "b" / "BM").write_text("BMW and P1 and II are no images")
    (root / "b" / "P6").write_text("P6 is a road")
    source = open_source(str(root))
    assert sizes(source) == (26, None, None)
    assert dict(source.left_out) == {"file without an image in it (without suffix)": ["b/BM", "b/P6"]}


def test_files_that_are_not_read_are_told(make_folder: MakeFolder) -> None:
    root = make_folder(AB)
    for i in range(3):
        (root / "a" / f"h{i}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (root / "b" / "IMG_1").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0heic" + bytes(100))
    picture(1).save(root / "b" / "raw.nef", format="TIFF")  # a camera's file looks like TIFF and holds a small preview
    (root / "b" / "x.svg").write_text("<svg/>")
    (root / "b" / "boxes.txt").write_text("")
    (root / "about.md").write_text("")
    picture(2).save(root / "cover.jpg")
    os.mkfifo(root / "a" / "pipe")
    source = open_source(str(root))
    assert sizes(source) == (6, None, None)
    assert {reason: len(names) for reason, names in source.left_out.items()} == {
        "file of an unsupported kind (.heic)": 3,
        "file of an unsupported kind (without suffix)": 1,
        "file of an unsupported kind (.nef)": 1,
        "file of an unsupported kind (.svg)": 1,
        "file without an image in it (.txt)": 1,
        "file without an image in it (.md)": 1,
        "image outside the class folders": 1,
        "pipe or device instead of a file": 1,
    }
    assert left_out_line(source.left_out).startswith("3 files of an unsupported kind (.heic): a/h0.heic, …; 1 file of")


def test_a_class_of_which_nothing_can_be_read_is_refused(make_folder: MakeFolder) -> None:
    root = make_folder({**AB, "c": 0})
    (root / "c" / "h.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(DataError, match=r"/c: no image that can be read, but 1 file of an unsupported kind \(.heic\): c/h.heic"):
        open_source(str(root))


@pytest.mark.parametrize("where", ["", "train"])
def test_empty_folders_are_left_out_and_told(make_folder: MakeFolder, where: str) -> None:
    root = make_folder({os.path.join(where, "a"): 3, os.path.join(where, "b"): 3, os.path.join(where, "new"): 0})
    source = open_source(str(root))
    assert source.classes == ("a", "b")
    assert source.left_out["folder without images"] == [os.path.join(where, "new")]


def test_a_class_with_images_only_outside_training_is_refused(make_folder: MakeFolder) -> None:
    root = make_folder({"train": {**AB, "eel": 0}, "val": {**AB, "eel": 2}})
    with pytest.raises(DataError, match=r"only in one of them: eel \(without images in train\): both need the same class folders"):
        open_source(str(root))


def test_links_are_followed(make_folder: MakeFolder, tmp_path: Path) -> None:
    elsewhere = make_folder({"a": 5, "b": 7}, name="elsewhere")
    root = make_folder(AB)
    for name in AB:
        (root / name / "more").symlink_to(elsewhere / name)
        shutil.rmtree(root / name / "again", ignore_errors=True)
        (root / name / "again").symlink_to(elsewhere / name)  # the same folder twice
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "gone").symlink_to(tmp_path / "gone")
    (root / "all").symlink_to(tmp_path)
    (root / "linked").symlink_to(elsewhere / "b")
    source = open_source(str(root))
    assert source.classes == ("a", "b", "linked")
    assert [int((source.train.labels == i).sum()) for i in range(3)] == [8, 10, 7]
    assert {reason: sorted(names) for reason, names in source.left_out.items()} == {
        "link to a folder that was already read": ["a/more", "a/up", "all", "b/more"],
        "broken link": ["a/gone", "a/self"],
    }


def test_a_class_that_is_a_link_to_nothing_is_refused(make_folder: MakeFolder) -> None:
    root = make_folder(AB)
    (root / "c").symlink_to("/nonexistent/disk")
    with pytest.raises(DataError, match="/c: a broken link: restore its target, or remove it"):
        open_source(str(root))


def test_hidden_and_system_folders(make_folder: MakeFolder) -> None:
    system = ["__MACOSX", ".git", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".Trash-1000"]
    root = make_folder(
        {**AB, "__background__": 3, ".22lr": 3, **dict.fromkeys(system, 1), "a/@eaDir": 2, "b/.ipynb_checkpoints": 2}
    )
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (root / "a" / name).write_bytes(b"\xff\xd8\xff")
    picture(1).save(root / "a" / "._000.jpg")
    picture(2).save(root / "a" / ".secret.jpg")
    source = open_source(str(root))
    assert source.classes == ("__background__", "a", "b")
    assert sizes(source) == (9, None, None)
    assert {reason: len(names) for reason, names in source.left_out.items()} == {
        "folder of the system or a tool": 9,
        "folder hidden by a dot before the name (rename it if it is a class)": 1,
        "file of the system": 4,
        "file hidden by a dot before the name": 1,
    }


def test_names_in_different_unicode_forms_are_one_class(make_folder: MakeFolder) -> None:
    root = make_folder({"train": {}, "val": {}})
    for split, form in (("train", "NFC"), ("val", "NFD")):
        for name in ("café", "thé"):
            folder = root / split / unicodedata.normalize(form, name)  # type: ignore[arg-type]
            folder.mkdir(parents=True)
            picture(len(split) + len(name)).save(folder / "0.png")
    source = open_source(str(root))
    assert source.classes == ("café", "thé")
    assert source.test is not None
    assert source.test.labels.tolist() == [0, 1]
    both = root / "train" / unicodedata.normalize("NFD", "café")
    both.mkdir(exist_ok=True)
    picture(50).save(both / "1.png")
    assert open_source(str(root)).train.labels.tolist() == [0, 0, 1]


def test_classes_whose_names_look_alike_are_told_apart(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"only in one of them: b, 'b ': both need"):
        open_source(str(make_folder({"train": AB, "val": {"a": 1, "b ": 1}})))


def test_run_directories_are_never_a_class(make_folder: MakeFolder) -> None:
    root = make_folder({**AB, "run/specialised/x": 2, "runs/one": 2, "a/run": 2, "mine": 2})
    for name in ("run", "runs/one", "a/run"):
        (root / name / "run.json").write_text('{\n "format": "onceforall.run/1"}')
    for place, name, kind in (
        ("best", "config.json", "export/2"),
        ("taken/small", "config.json", "export/1"),
        ("a/all", "bundle.json", "bundle/1"),
    ):
        (root / place).mkdir(parents=True)
        (root / place / name).write_text(f'{{"format": "onceforall.{kind}"}}')
        (root / place / "network.svg").write_text("<svg/>")
    (root / "latest").symlink_to(root / "run")
    (root / "mine" / "run.json").write_text('{"run": 3}')  # of somebody else
    source = open_source(str(root))
    assert source.classes == ("a", "b", "mine")
    assert dict(source.left_out) == {
        "folder of a run of ofa": ["a/run", "latest", "run"],
        "folder of an exported network of ofa": ["a/all", "best"],
        "folder without images": ["runs", "taken"],
        "file without an image in it (.json)": ["mine/run.json"],
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@given(st.binary(min_size=1, max_size=40), st.sampled_from(["", ".dat", ".heic", ".jpg", ".JPEG", ".txt", ".cr2"]))
def test_any_file_is_an_image_or_told(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    root = tmp_path_factory.mktemp("any")
    for name in ("a", "b"):
        (root / name).mkdir()
        Image.new("RGB", (8, 8)).save(root / name / "0.png")
    (root / "a" / f"x{suffix}").write_bytes(content)
    source = open_source(str(root))
    assert len(source.train) + sum(map(len, source.left_out.values())) == 3


def test_a_folder_is_read_once_whatever_links_lead_to_it(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"c/a": 2, "c/b": 3, "d": 3})
    (root / "c" / "a" / "link").symlink_to(root / "c" / "b")
    (root / "c" / "b" / "a").symlink_to(root / "c" / "a")
    source = open_source(str(root))
    assert len(source.train) == 8
    assert dict(source.left_out) == {"link to a folder that was already read": ["c/a/link", "c/b/a"]}


@pytest.mark.parametrize("layout", [{"a/deep/x": 2, "b": 2}, {"train/a": 2, "train/b": 2, "test/a": 2, "test/b/deep/x": 2}])
@pytest.mark.parametrize("with_parquet", [False, True])
def test_a_folder_without_permission_is_named(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, layout: dict[str, int], with_parquet: bool
) -> None:
    root = make_folder(layout)
    closed = next(root.rglob("deep"))
    if with_parquet:
        (root / "x.parquet").write_bytes(b"")
    real = os.scandir

    def scandir(path: str) -> object:
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(FileError, match=f"^{closed}: permission denied: choose a folder you may read or write"):
        open_source(str(root))
