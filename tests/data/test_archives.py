"""Archives: the same images and classes as the folders that were packed."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolder, picture, png
from PIL import Image
from test_tables import LAYOUT, classes_of

from onceforall.data import PREPROCESSING, Reading, open_data, open_source
from onceforall.errors import DataError


def zipped(root: Path, method: int = zipfile.ZIP_DEFLATED, above: str = "") -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, above + str(file.relative_to(root)))
    return path


def tarred(root: Path) -> Path:
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w:") as archive:
        archive.add(root, "photos")
    return path


def sharded(root: Path) -> Path:
    """By split in WebDataset's format, two shards of the training images; classes by name."""
    folder = root.with_name("shards")
    folder.mkdir()
    for split in ("train", "test"):
        for shard in range(2 if split == "train" else 1):
            with tarfile.open(folder / f"{split}-{shard:06}.tar", "w:") as archive:
                for i, path in enumerate(sorted((root / split).rglob("*.png"))):
                    if split == "test" or i % 2 == shard:
                        for suffix, data in ((".png", path.read_bytes()), (".cls", path.parent.name.encode()), (".json", b"{}")):
                            info = tarfile.TarInfo(f"{i:05}{suffix}")
                            info.size = len(data)
                            archive.addfile(info, io.BytesIO(data))
    return folder


WAYS: dict[str, Callable[[Path], Path]] = {
    "zip": zipped,
    "zip without compression": lambda root: zipped(root, zipfile.ZIP_STORED),
    "zip with a folder above": lambda root: zipped(root, above="photos/photos/"),
    "zip with a folder of any name above": lambda root: zipped(root, above="flowers/"),
    "tar": tarred,
    "shards": sharded,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_archive_is_the_folder_that_was_packed(make_folder: MakeFolder, way: str) -> None:
    root = make_folder(LAYOUT)
    source = open_source(str(WAYS[way](root)))
    assert source.classes == ("cat", "dog")
    assert classes_of(source) == classes_of(open_source(str(root)))
    assert not source.left_out
    some = np.array([1, 4, 7])
    assert [load().tobytes() for load in source.train.read(some)] == [
        load().tobytes() for i, load in enumerate(source.train.read(np.arange(len(source.train)))) if i in some
    ]


def test_a_folder_of_any_name_around_the_classes_in_an_archive(make_folder: MakeFolder) -> None:
    root = make_folder({"rose": 3, "tulip": 2})
    for path in (zipped(root, above="flowers/"), tarred(root)):
        source = open_source(str(path))
        assert source.classes == ("rose", "tulip")
    assert open_source(str(zipped(root, above="flowers/"))).remarks == (
        "read from flowers: nothing else is beside it",
        "classes are the folders in flowers (rose, tulip); if flowers is the class, add a second class",
    )
    assert open_source(str(zipped(root, above="flowers/")), known=("flowers",)).classes == ("flowers",)


def test_one_class_with_folders_in_it_in_an_archive(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = zipped(make_folder({"cat/2019": {"a": 2, "b": 2}, "cat/2020": {"a": 2, "b": 2}}))
    with pytest.raises(DataError, match=r"one class \(cat\).* \(2019, 2020\), give an archive without cat above them"):
        open_data(str(path), size=16, cache=tmp_path / "cache")


def test_what_is_not_an_image_is_told(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 5, "dog": 5})
    (root / "cat" / "._000.png").write_bytes(b"mac")
    (root / "dog" / "notes.txt").write_text("a dog")
    (root / "cat" / "really a picture").write_bytes((root / "cat" / "000.png").read_bytes())
    folder, archive = open_source(str(root)), open_source(str(zipped(root)))
    assert {reason: [os.path.basename(name) for name in names] for reason, names in archive.left_out.items()} == {
        "file of the system": ["._000.png"],
        "file without an image in it (.txt)": ["notes.txt"],
    }
    assert classes_of(archive) == classes_of(folder)


def test_damaged_members_are_named(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 5, "dog": 5})
    path = zipped(root, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    place = data.index((root / "cat" / "001.png").read_bytes())
    data[place + 40] ^= 255
    path.write_bytes(data)
    loads = list(open_source(str(path)).train.read(np.arange(10)))
    with pytest.raises(DataError, match=r"cat/001\.png: damaged in the archive \(its checksum is wrong\)"):
        loads[1]()
    assert all(load().size == (12, 10) for load in loads[:1] + loads[2:])


def test_damaged_archives_are_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = zipped(make_folder({"cat": 5, "dog": 5}))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"images\.zip: not a zip or tar archive, or damaged"):
        open_source(str(path))
    (tmp_path / "photos.tar.gz").touch()
    with pytest.raises(DataError, match=r"photos\.tar\.gz: cannot be read in place: unpack it"):
        open_source(str(tmp_path / "photos.tar.gz"))
    for name, content, message in (
        ("lfs.zip", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer instead of the file: git lfs pull"),
        ("gz.tar", b"\x1f\x8b\x08" + bytes(600), "compressed: unpack it first"),
        ("bz.tar", b"BZh9" + bytes(600), "compressed: unpack it first"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: {message}"):
            open_source(str(tmp_path / name))
    (tmp_path / "empty.tar").touch()
    with pytest.raises(DataError, match=r"empty\.tar: not a zip or tar archive, or damaged"):
        open_source(str(tmp_path / "empty.tar"))


def test_samples_without_a_part_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w:") as archive:
        for i, (suffix, data) in enumerate(
            [
                (".png", png(0)),
                (".cls", b"1"),
                (".png", png(1)),
                (".cls", b"0"),
                (".cls", b"1"),
                (".png", png(2)),
                (".mask.png", png(3)),
            ]
        ):
            info = tarfile.TarInfo(f"{[0, 0, 1, 1, 2, 3, 0][i]}{suffix}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1")
    assert source.train.labels.tolist() == [1, 0]
    assert {reason: len(names) for reason, names in source.left_out.items()} == {
        "sample of a shard without an image": 1,
        "sample of a shard without a class (.cls)": 1,
        "file of a second image or class of a sample of a shard": 1,
    }
    assert source.train.names[0].endswith("/0.png")


def packed(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_several_classes_for_a_sample(tmp_path: Path) -> None:
    """KEY.cls is its class whatever stands beside it; a key ends at the first dot, so that what differs behind it is one sample."""
    samples = [(f"{i}{suffix}", png(i) if suffix == ".png" else b"cat") for i in range(4) for suffix in (".png", ".top.cls")]
    shard = packed(tmp_path / "a.tar", [*samples, *((f"{i}.cls", b"eel" if i % 2 else b"dog") for i in range(4))])
    source = open_source(str(shard))
    assert [source.classes[i] for i in source.train.labels] == ["dog", "eel", "dog", "eel"]
    assert [*map(len, source.left_out.values())] == [4]
    shard = packed(tmp_path / "b.tar", [(f"0.{i}{suffix}", png(i)) for i in range(4) for suffix in (".png", ".cls")])
    with pytest.raises(DataError, match=r"0\.0\.cls and 0\.1\.cls belong to one sample, because .* ends at the first dot"):
        open_source(str(shard))


def test_what_is_stored_twice_is_told(tmp_path: Path) -> None:
    files = [(f"{'ab'[i % 2]}/{i % 6}.png", png(i)) for i in range(8)]
    samples = [(f"{i % 3}{suffix}", data) for i in range(4) for suffix, data in ((".png", png(i)), (".cls", b"%d" % (i % 2)))]
    for name, members in (("a.tar", files), ("b.tar", samples)):
        source = open_source(str(packed(tmp_path / name, members)))
        assert source.left_out == {"file stored twice in an archive (the last one is used)": [one for one, _ in members[:2]]}


def test_archives_that_are_read_in_another_way_say_how(tmp_path: Path) -> None:
    """Classes after all images are found; tables in an archive, shards without classes and folders of archives are no data."""
    late, folder = tmp_path / "late", tmp_path / "json"
    for root, suffix in ((late, ".cls"), (folder, ".json")):
        root.mkdir()
        with tarfile.open(root / "train-0.tar", "w:") as archive:
            for kind in (".png", suffix):
                for i in range(20):
                    data = png(i) if kind == ".png" else b"1" if i % 2 else b"0"
                    info = tarfile.TarInfo(f"{i}{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    assert open_source(str(late)).train.labels.tolist() == [0, 1] * 10
    hint = r"; it holds archives \(train-0\.tar\): give one of them, or shards \(\.tar\) with KEY\.cls beside KEY\.jpg"
    with pytest.raises(DataError, match=hint):
        open_source(str(folder))
    hint = r"; tables in an archive \(0\.json, …\) are not read: unpack it to use them; in shards, KEY\.cls beside KEY\.jpg"
    with pytest.raises(DataError, match=hint):
        open_source(str(folder / "train-0.tar"))
    source = open_source(str(late / "train-0.tar"), Reading(label="taste"))
    assert source.remarks == ("--label taste is not used: it names a column, and these labels are not in columns",)


def test_splits_are_the_folder_s(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    packed = open_data(str(zipped(root)), size=8, cache=tmp_path / "cache")
    plain = open_data(str(root), size=8, cache=tmp_path / "cache")
    assert packed.fingerprint == plain.fingerprint
    assert [batch.tobytes() for batch in packed.held_out.fitted([np.arange(2)], 8, PREPROCESSING)] == [
        batch.tobytes() for batch in plain.held_out.fitted([np.arange(2)], 8, PREPROCESSING)
    ]


def test_a_tar_made_in_its_own_folder_links_and_large_others(tmp_path: Path) -> None:
    """`tar -cf x.tar .` names the folder itself; links are told; of two members of one name the last one counts."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w:") as archive:
        for name, data in (
            (".", None),
            ("./cat/0.png", png(0)),
            ("./cat/0.png", png(5)),
            ("./dog/1.png", png(1)),
            ("./clip.mp4", b"x" * 99),
        ):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = 0 if data is None else len(data)
            archive.addfile(info, None if data is None else io.BytesIO(data))
        link = tarfile.TarInfo("./dog/2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "./dog/1.png"
        archive.addfile(link)
    source = open_source(str(path))
    assert source.classes == ("cat", "dog")
    assert next(source.train.read(np.array([0])))().tobytes() == picture(5).tobytes()
    assert source.left_out["link in an archive (not followed)"] == ["dog/2.png"]
    assert any("clip.mp4" in names[0] for names in source.left_out.values())


def test_an_archive_that_was_packed_again_is_another(tmp_path: Path) -> None:
    """Same names and sizes, other pixels: the cache must not serve the old ones."""
    found = []
    for shade in (10, 200):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name in ("cat", "dog"):
                for i in range(9):
                    stream = io.BytesIO()
                    Image.new("RGB", (12, 10), (shade, i, 9 if name == "cat" else 0)).save(stream, "BMP")
                    archive.writestr(f"{name}/{i}.bmp", stream.getvalue())
        found.append(open_source(str(tmp_path / "x.zip")).train.identity)
    assert found[0] != found[1]
