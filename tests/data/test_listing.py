"""Whether the files of data changed, by names, sizes, times and their two ends."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import MakeFolder, picture, png, write_parquet
from test_archives import zipped

from onceforall.data import open_source
from onceforall.data.formats.listing import END, FileChanges, Listing, changes, ends_of
from onceforall.data.reading import AS_IT_IS
from onceforall.data.sources import files_of
from onceforall.errors import FileError

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
        (tmp_path / "x").write_bytes(content)
        ends.add(ends_of(str(tmp_path / "x")))
    assert len(ends) == 5
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
