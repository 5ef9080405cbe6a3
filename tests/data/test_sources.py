import io
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import MakeFolder, picture

from onceforall.data import open_data, open_source
from onceforall.errors import DataError, FileError
from rights import needs_permissions


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(
    path: Path, labels: list[int], *, image: str = "img", label: str = "label", names: list[str] | None = None, plain: bool = False
) -> None:
    images = [png(hash((path.name, i)) % 2**32) for i in range(len(labels))]
    column = pa.array(images) if plain else pa.array([{"bytes": data, "path": None} for data in images])
    table = pa.table({image: column, label: pa.array(labels, pa.int64())})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


def shapes(source_part: object) -> int:
    part = source_part
    return sum(load(64).size == (12, 10) for load in part.read(np.arange(len(part))))  # type: ignore[attr-defined]


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


@pytest.mark.parametrize("where", ["", "data", "plain_text"])
@pytest.mark.parametrize("plain", [False, True])
def test_parquet(tmp_path: Path, where: str, plain: bool) -> None:
    write_parquet(tmp_path / where / "train-00000-of-00002.parquet", [0, 1, 0, 1, 0], names=["cat", "dog"], plain=plain)
    write_parquet(tmp_path / where / "train-00001-of-00002.parquet", [1, 1], names=["cat", "dog"], plain=plain)
    write_parquet(tmp_path / where / "validation-00000-of-00001.parquet", [1, 0], names=["cat", "dog"], plain=plain)
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert source.train.names[6] == "train-00001-of-00002.parquet[1]"
    assert source.test is not None
    assert (shapes(source.train), shapes(source.test)) == (7, 2)
    everything = [np.asarray(load(64)) for load in source.train.read(np.arange(7))]
    for wanted in ([4], [0, 6], [2, 3, 5]):
        for i, load in zip(wanted, source.train.read(np.array(wanted)), strict=True):
            assert (np.asarray(load(64)) == everything[i]).all()


def test_parquet_without_class_names_and_with_an_unlabelled_test(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2], image="image", label="fine_label")
    write_parquet(tmp_path / "validation-0.parquet", [0, 1, 2], image="image", label="fine_label")
    write_parquet(tmp_path / "test-0.parquet", [-1, -1], image="image", label="fine_label")
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1", "2")
    assert source.test is not None
    assert source.test.names[0] == "validation-0.parquet[0]"
    assert source.held_out is None


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([None, b"junk"], pa.binary()), "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    empty, junk = open_source(str(tmp_path)).train.read(np.arange(2))
    with pytest.raises(DataError, match=r"train\.parquet\[0\]: no image in this row"):
        empty(8)
    with pytest.raises(DataError, match=r"train\.parquet\[1\]: not an image"):
        junk(8)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "label": [0]}, "no image column: expected one of image, img.*the columns are text, label"),
        ({"image": [b"a"], "caption": ["a"]}, "no label column: expected one of label, labels"),
        ({"image": [b"a"], "label": ["cat"]}, "no label column.*with integers"),
        ({"image": [b"a"], "label": pa.array([None], pa.int64())}, "1 rows of 'label' are empty"),
    ],
)
def test_parquet_without_usable_columns(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"train-0\.parquet: not a Parquet file, or damaged"):
        open_source(str(tmp_path))


def test_parquet_without_training_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-0.parquet", [0, 1])
    write_parquet(tmp_path / "extra-0.parquet", [0, 1])
    with pytest.raises(DataError, match=r"no train-\*\.parquet among its Parquet files \(found: extra, test\)"):
        open_source(str(tmp_path))


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
        ("{root}/file.zip", "this is a file: give the folder"),
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
