"""Whether the files of data changed, by names, sizes, times and their two ends."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import MakeFolder, picture, png, write_parquet
from test_archives import sharded, zipped
from test_sources import write_mnist

from onceforall.data import open_source
from onceforall.data.formats.listing import END, WHOLE, FileChanges, Listing, changes, ends_of
from onceforall.data.reading import AS_IT_IS, Reading, classes_of_text
from onceforall.data.sources import files_of
from onceforall.errors import DataError, FileError

NONE = FileChanges((), (), ())


def listed(root: Path) -> Listing:
    return Listing.of(files_of(str(root), AS_IT_IS), root)


def told(before: Listing, root: Path) -> FileChanges:
    return changes(before, files_of(str(root), AS_IT_IS), root)


def test_files_of_folders(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    listed(root).save(tmp_path / "list.parquet")
    before = Listing.load(tmp_path / "list.parquet")
    assert before.names == tuple(f"{folder}/00{i}.png".encode() for folder in ("cat", "dog") for i in range(3))
    assert told(before, root) == NONE
    (root / "notes.txt").write_text("nothing that is read")
    os.utime(root / "cat" / "000.png")
    assert told(before, root) == NONE, "only its time is another"
    (root / "cat" / "001.png").write_bytes((root / "cat" / "001.png").read_bytes()[:-1] + b"x")
    (root / "cat" / "002.png").unlink()
    picture(70).save(root / "dog" / "new.png")
    picture(71, width=20).save(root / "dog" / "000.png")
    found = told(before, root)
    assert found == FileChanges(("dog/new.png",), ("cat/002.png",), ("cat/001.png", "dog/000.png"))
    assert str(found) == "1 added (dog/new.png), 1 removed (cat/002.png), 2 changed (cat/001.png, …)"
    (moved := tmp_path / "moved").mkdir()
    os.rename(root / "cat", moved / "cat")
    os.rename(root / "dog", moved / "dog")
    assert told(before, moved) == found, "names count from the folder"


def test_both_ends_count(tmp_path: Path) -> None:
    content = bytearray(os.urandom(3 * END))
    ends = set()
    for place in (None, 0, END - 1, 2 * END, 3 * END - 1):
        if place is not None:
            content[place] ^= 1
        (tmp_path / "x.jpg").write_bytes(content)
        ends.add(ends_of(str(tmp_path / "x.jpg")))
    assert len(ends) == 5
    content[3 * END // 2] ^= 1
    (tmp_path / "x.jpg").write_bytes(content)
    assert ends_of(str(tmp_path / "x.jpg")) in ends, "of an image the middle is not read"
    assert ends_of(str(tmp_path / "none")) == bytes(8)


def test_files_of_tables_archives_and_parquet(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    table = root / "labels.csv"
    table.write_text("file_name,label\ncat/000.png,cat\ndog/000.png,dog\n")
    before = listed(table)
    assert before.names == (b"cat/000.png", b"dog/000.png", b"labels.csv")
    table.write_text("file_name,label\ncat/000.png,dog\ndog/000.png,cat\n")
    os.utime(table, (1e9, 1e9))
    assert told(before, table) == FileChanges((), (), ("labels.csv",)), "labels changed places"
    archive = zipped(root)
    before = listed(archive)
    assert before.names == (archive.name.encode(),)
    write_parquet(tmp_path / "hub" / "train.parquet", [0, 1])
    write_parquet(tmp_path / "hub" / "test.parquet", [0, 1])
    assert listed(tmp_path / "hub").names == (b"test.parquet", b"train.parquet")
    assert files_of("digits", AS_IT_IS) == ()


def test_images_that_parquet_files_name(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(ord(name[0])))
    pq.write_table(pa.table({"image": ["a.png", "b.png", "gone.png"], "label": [0, 1, 1]}), tmp_path / "train.parquet")
    before, source = listed(tmp_path / "train.parquet"), open_source(str(tmp_path / "train.parquet"))
    assert before.names == (b"a.png", b"b.png", b"gone.png", b"train.parquet")
    assert open_source(str(tmp_path / "train.parquet")).train.identity == source.train.identity
    (tmp_path / "b.png").write_bytes(png(1))
    assert told(before, tmp_path / "train.parquet").changed == ("b.png",)
    assert open_source(str(tmp_path / "train.parquet")).train.identity != source.train.identity, "a cache would have the old image"


def test_a_damaged_list(tmp_path: Path) -> None:
    (tmp_path / "images.parquet").write_bytes(b"torn")
    with pytest.raises(FileError, match=r"images\.parquet: damaged \(.*\): remove it"):
        Listing.load(tmp_path / "images.parquet")


LABELS = "image,label,tags\ncat/000.png,a,x y\ndog/000.png,b,x\n"


def test_the_list_is_that_of_what_is_opened(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train": {"cat": 3, "dog": 3}, "test": {"cat": 1, "dog": 1}})
    (tmp_path / "hub").mkdir()
    for split, labels in (("train", [0, 1, 1]), ("test", [-1, -1])):
        pq.write_table(pa.table({"image": list("abc")[: len(labels)], "label": labels}), tmp_path / "hub" / f"{split}.parquet")
    flat = make_folder({"cat": 2, "dog": 2}, name="flat")
    (flat / "labels.csv").write_text(LABELS)
    write_mnist(tmp_path / "mnist")
    several, shards = Reading(task="multilabel"), sharded(root)
    for source, reading in (
        (root, AS_IT_IS), (root, several), (root, Reading(classes=classes_of_text("dog,pet=cat"))), (zipped(root), AS_IT_IS),
        (shards, AS_IT_IS), (shards / "train-000000.tar", AS_IT_IS), (tmp_path / "hub", AS_IT_IS),
        (flat / "labels.csv", AS_IT_IS), (flat / "labels.csv", Reading(task="multilabel", label="tags")),
        (f"torchvision:MNIST:{tmp_path / 'mnist'}", AS_IT_IS),
    ):  # fmt: skip
        found = open_source(str(source), reading).files
        assert found, source
        assert set(files_of(str(source), reading)) == set(found), source
    assert len(files_of(str(tmp_path / "hub"), AS_IT_IS)) == 7, "also those of the test images, whose labels may come later"


def test_no_label_and_no_image_is_read_for_a_list(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"train": {"cat": 3, "dog": 3}, "test": {"cat": 1, "dog": 1}})
    shards = sharded(root)
    for shard in sorted(shards.iterdir())[1:]:  # the first one is looked into
        shard.write_bytes(bytes(shard.stat().st_size))
    assert len(files_of(str(shards), AS_IT_IS)) == 3
    write_parquet(tmp_path / "train.parquet", [0, 1, 1])
    content = bytearray((tmp_path / "train.parquet").read_bytes())
    foot = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-foot] = bytes(len(content) - foot - 4)
    (tmp_path / "train.parquet").write_bytes(content)
    assert files_of(str(tmp_path / "train.parquet"), AS_IT_IS) == [str(tmp_path / "train.parquet")]
    with pytest.raises(DataError, match="damaged"):
        open_source(str(tmp_path / "train.parquet"))
    monkeypatch.setattr("onceforall.data.formats.folders.same_files", lambda *given: pytest.fail("files are compared"))
    assert len(files_of(str(root), Reading(task="multilabel"))) == 8


def test_files_that_are_of_no_use_do_not_count(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, reading = make_folder({"a": 2, "b": 2, "c": 2}), Reading(classes=classes_of_text("a,b"))
    before = Listing.of(files_of(str(root), reading), root)
    assert len(before.names) == 4
    picture(9).save(root / "c" / "new.png")
    assert changes(before, files_of(str(root), reading), root) == NONE
    write_mnist(tmp_path / "root")
    source = f"torchvision:MNIST:{tmp_path / 'root'}"
    before = Listing.of(files_of(source, AS_IT_IS), tmp_path / "root")
    (tmp_path / "root" / "MNIST").rename(tmp_path / "root" / "FashionMNIST")
    write_mnist(tmp_path / "root")
    found = changes(before, files_of(source, AS_IT_IS), tmp_path / "root")
    assert (found.added, found.removed) == ((), ()), "another data set in the same folder"
    for name in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / "root" / name).mkdir()
        (tmp_path / "root" / name / "test").touch()
    for number in ("10", "100"):
        (file,) = files_of(f"torchvision:CIFAR{number}:{tmp_path / 'root'}", AS_IT_IS)
        assert f"cifar-{number}-" in file


def test_a_label_in_the_middle_of_a_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 2})
    rows = [f"cat/00{i % 2}.png,{label}\n" for i, label in enumerate("ab")] + ["cat/000.png,a\n"] * 800
    table = root / "labels.csv"
    table.write_text("image,label\n" + "".join(rows))
    before = listed(table)
    assert before.sizes[-1] > 2 * END
    rows[400] = "cat/000.png,c\n"
    table.write_text("image,label\n" + "".join(rows))
    os.utime(table, (1e9, 1e9))
    assert changes(before, [*map(str, sorted((root / "cat").iterdir())), str(table)], table).changed == ("labels.csv",)
    large = tmp_path / "train.tar"
    with open(large, "wb") as file:
        file.truncate(WHOLE + 1)
    one = Listing.of([str(large)], tmp_path)
    assert changes(one, [str(large)], tmp_path) == NONE
    with open(large, "r+b") as file:
        file.seek(WHOLE // 2)
        file.write(b"x")
    os.utime(large, (1e9, 1e9))
    assert changes(one, [str(large)], tmp_path).changed == ("train.tar",)
