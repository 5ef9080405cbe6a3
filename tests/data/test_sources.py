import os
import pickle
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolder, picture
from sklearn.datasets import load_digits

from onceforall.data import open_data, open_source
from onceforall.data.reading import Reading
from onceforall.errors import DataError, FileError
from rights import needs_permissions


def shapes(source_part: object) -> int:
    part = source_part
    return sum(load(64).size == (12, 10) for load in part.read(np.arange(len(part))))  # type: ignore[attr-defined]


def test_a_label_that_nothing_has_is_told(make_folder: MakeFolder, tmp_path: Path) -> None:
    """A column, where there are no columns."""
    shutil.make_archive(str(tmp_path / "photos"), "zip", make_folder({"a": 2, "b": 2}))
    for source in ("digits", str(tmp_path / "photos.zip")):
        told = "--label x is not used: it names a column, and these labels are not in columns"
        assert open_source(source, Reading(label="x")).remarks[-1] == told


def test_digits() -> None:
    source = open_source("digits")
    assert source.classes == tuple("0123456789")
    assert len(source.train) == 1797
    assert source.test is None
    first = np.asarray(next(source.train.read(np.array([0])))(8))
    assert first.shape == (8, 8, 3)
    assert first.max() == 239  # 15 of 16


@pytest.mark.parametrize("word", ["val", "test", "valid", "validation", "Test"])
def test_train_and_other_folders(make_folder: MakeFolder, word: str) -> None:
    root = make_folder({"train": {"cat": 3, "dog": 2}, word: {"cat": 1, "dog": 2}})
    source = open_source(str(root))
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.train.names[0] == os.path.join("train", "cat", "000.png")
    assert source.test is not None
    assert source.test.labels.tolist() == [0, 1, 1]
    assert source.held_out is None
    assert shapes(source.test) == 3


def test_val_is_held_out_when_there_is_a_test_folder(make_folder: MakeFolder) -> None:
    root = make_folder({"train": {"a": 4, "b": 4}, "val": {"a": 1, "b": 1}, "test": {"a": 2, "b": 2}})
    source = open_source(str(root))
    assert source.test is not None
    assert source.held_out is not None
    assert (len(source.test), len(source.held_out)) == (4, 2)


def test_one_folder_of_classes_ignores_what_is_no_image(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 2, ".git": 1, "__MACOSX": 1})
    (root / "README.md").write_text("about")
    (root / "cat" / "notes.txt").write_text("about")
    (root / "cat" / "deeper").mkdir()
    picture(99).save(root / "cat" / "deeper" / "UPPER.JPG")
    source = open_source(str(root))
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_identity_follows_the_files(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 3, "dog": 2})
    before = open_source(str(root)).train.identity
    assert open_source(str(root)).train.identity == before
    picture(1234, 13).save(root / "cat" / "000.png")
    assert open_source(str(root)).train.identity != before


def test_subset_reads_the_right_images(make_folder: MakeFolder) -> None:
    part = open_source(str(make_folder({"cat": 3, "dog": 3}))).train
    everything = [np.asarray(load(64)) for load in part.read(np.arange(6))]
    smaller = part.subset(np.array([5, 1, 2])).subset(np.array([0, 2]))
    assert smaller.names == [part.names[1], part.names[5]]
    for image, expected in zip(smaller.read(np.arange(2)), (everything[1], everything[5]), strict=True):
        assert (np.asarray(image(64)) == expected).all()


def write_mnist(root: Path) -> None:
    """MNIST's own file format, with 20 and 6 random images."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for word, count in (("train", 20), ("t10k", 6)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (raw / f"{word}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes())
        labels = (np.arange(count) % 2).astype(np.uint8)
        (raw / f"{word}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


def test_torchvision(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = open_source(f"torchvision:MNIST:{tmp_path}")
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (20, 6)
    assert source.train.labels.tolist() == [0, 1] * 10
    assert len(source.classes) == 10
    image = next(source.test.read(np.array([3])))(28)
    assert (image.mode, image.size) == ("RGB", (28, 28))
    assert source.remarks == ()
    sent = pickle.dumps(source.test.singles(np.array([3, 5])))
    assert len(sent) < 1000, "the whole data set goes to the process that decodes one of its images"
    assert (np.asarray(pickle.loads(sent)[0](28)) == np.asarray(image)).all()


def test_a_part_of_torchvision_that_is_not_used_is_told(make_folder: MakeFolder) -> None:
    counts = {"train": 5, "valid": 2, "test": 3}
    root = make_folder({part: {"negative": n, "positive": n} for part, n in counts.items()}, name="rendered-sst2").parent
    source = open_source(f"torchvision:RenderedSST2:{root}")
    assert source.test is not None
    assert (len(source.train), len(source.test), source.held_out) == (10, 6, None)
    assert source.remarks == (
        "not used: RenderedSST2's 4 images of 'val', because it also has 'test': part of 'train' is held out",
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:", "write torchvision:NAME:ROOT"),
        ("torchvision:CIFAR10", "write torchvision:NAME:ROOT"),
        ("torchvision:CIFAR11:{root}", "torchvision has no data set 'CIFAR11', did you mean CIFAR10 or CIFAR100"),
        ("torchvision:Xyz:{root}", "torchvision has no data set 'Xyz': see"),
        ("torchvision:CIFAR10:{root}/gone", "gone: no such folder"),
        (
            "torchvision:CIFAR10:{root}",
            "torchvision cannot open CIFAR10 in .*download it there first with torchvision.datasets.CIFAR10",
        ),
        ("torchvision:EMNIST:{root}", "EMNIST does not divide its images"),
        ("{root}/gone", "gone: no such folder: check the path"),
        ("", "an empty path: no such folder"),
        ("{root}/file.zip", "not a zip or tar archive, or damaged"),
        ("{root}", "no class folders in it: expected one folder per class"),
        ("{root}/hollow", "no images in its folders"),
    ],
)
def test_what_is_not_there(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "root" / "hollow" / "cat").mkdir(parents=True)
    (tmp_path / "root" / "file.zip").write_text("x")
    root = tmp_path / "root"
    if source == "{root}":
        root = tmp_path / "empty"
        root.mkdir()
    with pytest.raises(DataError, match=message) as caught:
        open_source(source.format(root=root))
    assert "\n" not in str(caught.value)


def test_classes_must_agree(make_folder: MakeFolder) -> None:
    root = make_folder({"train": {"cat": 2, "dog": 2, "eel": 1}, "val": {"cat": 1, "dog": 1, "fox": 1}})
    with pytest.raises(DataError, match=r"only in one of them: eel, fox: both need the same class folders"):
        open_source(str(root))


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    source = open_source(str(make_folder({"bus": 2, "train": 2})))
    assert source.classes == ("bus", "train")
    assert source.test is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        with open(os.fsencode(root / "cat") + b"/" + name, "w") as file:
            file.write("not an image")
    os.rename(root / "dog", os.fsencode(root) + b"/d\xf6g")
    splits = open_data(str(root), size=16, cache=tmp_path / "cache")
    assert splits.classes == ("cat", "d\ufffdg")
    assert sorted(problem.name for problem in splits.problems) == ["cat/caf\ufffd.png", "cat/two\ufffdlines.png"]


@needs_permissions
def test_unreadable_folder(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    root.chmod(0)
    try:
        with pytest.raises(FileError, match="permission denied"):
            open_source(str(root))
    finally:
        root.chmod(0o700)


def test_digits_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its file has another place."""
    wanted, labels = load_digits(return_X_y=True)
    source = open_source("digits")
    images = [np.asarray(load(8)) for load in source.train.read(np.arange(len(labels)))]
    assert (np.round(wanted * (255 / 16)) == np.stack(images)[..., 0].reshape(-1, 64)).all()
    assert (source.train.labels == labels).all()
    monkeypatch.setattr("onceforall.data.formats.embedded.find_spec", lambda name: None)
    again = open_source("digits")
    assert again.train.identity == source.train.identity
    assert (again.train.labels == labels).all()
