import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from pictures import MakeFolder, picture
from PIL import Image

from onceforall.data import open_source
from onceforall.data.cache import Problem, Store, cache_part, expected_bytes
from onceforall.data.originals import Part
from onceforall.errors import DataError, FileError

LIMIT = 10**9


def part_of(root: Path) -> Part:
    return open_source(str(root)).train


def images_of(store: Store) -> list[np.ndarray]:
    return [store.pixels[o : o + 3 * h * w].reshape(h, w, 3) for _, o, h, w in store.index.tolist()]


def test_pixels_are_those_of_the_files(make_folder: MakeFolder, tmp_path: Path) -> None:
    part = part_of(make_folder({"cat": 6, "dog": 5}))
    calls: list[tuple[int, int]] = []
    store = cache_part(part, size=64, folder=tmp_path / "cache", limit_bytes=LIMIT, on_progress=lambda *call: calls.append(call))
    assert calls == [(i, 11) for i in range(1, 12)]
    assert store.index[:, 0].tolist() == list(range(11))
    for seed, pixels in enumerate(images_of(store), start=1):
        assert (pixels == np.asarray(picture(seed))).all()
    assert len(np.unique(store.digests)) == 11
    assert store.problems == ()


def test_large_images_are_shrunk_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        picture(1, 90, 60).save(tmp_path / "images" / name / "0.png")
        picture(1, 200, 20).save(tmp_path / "images" / name / "1.png")
    store = cache_part(part_of(tmp_path / "images"), size=16, folder=tmp_path / "cache", limit_bytes=LIMIT)
    assert [pixels.shape for pixels in images_of(store)] == [(16, 24, 3), (16, 32, 3)] * 2


def test_reused_until_something_changes(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, folder = make_folder({"cat": 3, "dog": 3}), tmp_path / "cache"

    def cached(size: int) -> bool:
        return expected_bytes(part_of(root), size=size, folder=folder)[1]

    assert expected_bytes(part_of(root), size=16, folder=folder) == (6 * 12 * 10 * 3, False)
    cache_part(part_of(root), size=16, folder=folder, limit_bytes=LIMIT)
    assert cached(16)
    assert not cached(15)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    cache_part(part_of(root), size=16, folder=folder, limit_bytes=LIMIT)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    os.utime(root / "cat" / "000.png", ns=(1, 1))
    assert not cached(16)


@pytest.mark.parametrize("damage", ["meta.json", "index.npy", "digests.npy", "pixels.bin"])
@pytest.mark.parametrize("how", ["cut", "emptied", "removed"])
def test_a_damaged_cache_is_made_again(make_folder: MakeFolder, tmp_path: Path, damage: str, how: str) -> None:
    part, folder = part_of(make_folder({"cat": 3, "dog": 3})), tmp_path / "cache"
    first = cache_part(part, size=16, folder=folder, limit_bytes=LIMIT)
    expected = [pixels.copy() for pixels in images_of(first)]
    path = next(folder.glob(f"*/{damage}"))
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-7])
        case "emptied":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
    again = images_of(cache_part(part, size=16, folder=folder, limit_bytes=LIMIT))
    assert all((a == b).all() for a, b in zip(again, expected, strict=True))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_nothing(make_folder: MakeFolder, tmp_path: Path, stop: type[BaseException]) -> None:
    part, folder = part_of(make_folder({"cat": 30, "dog": 30})), tmp_path / "cache"

    def on_progress(done: int, total: int) -> None:
        if done == 20:
            raise stop

    with pytest.raises(stop):
        cache_part(part, size=16, folder=folder, limit_bytes=LIMIT, on_progress=on_progress)
    assert list(folder.iterdir()) == []
    assert len(cache_part(part, size=16, folder=folder, limit_bytes=LIMIT).index) == 60


def test_what_a_killed_process_left_is_swept_when_it_is_old(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for name, age in ((".old.1.tmp", 7200), (".new.2.tmp", 60)):
        (folder / name).mkdir(parents=True)
        (folder / name / "pixels.bin").write_bytes(b"x")
        os.utime(folder / name / "pixels.bin", (time.time() - age,) * 2)
    cache_part(part_of(make_folder({"cat": 2, "dog": 2})), size=16, folder=folder, limit_bytes=LIMIT)
    assert not (folder / ".old.1.tmp").exists()
    assert (folder / ".new.2.tmp").exists()


def test_bad_images_are_left_out_and_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, folder = make_folder({"cat": 15, "dog": 15}), tmp_path / "cache"
    (root / "cat" / "004.png").write_bytes((root / "cat" / "004.png").read_bytes()[:60])
    (root / "dog" / "002.png").write_text("<html>")
    (root / "dog" / "099.png").symlink_to(root / "gone.png")
    for _ in range(2):  # made, then reused
        store = cache_part(part_of(root), size=16, folder=folder, limit_bytes=LIMIT)
        assert len(store.index) == 28
        assert set(range(31)) - set(store.index[:, 0].tolist()) == {4, 17, 30}
        assert [problem.name for problem in store.problems] == ["cat/004.png", "dog/002.png", "dog/099.png"]
        assert store.problems[2] == Problem("dog/099.png", "no such file")
        assert "dog" not in store.problems[1].reason


def test_too_many_bad_images(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, folder = make_folder({"cat": 10, "dog": 10}), tmp_path / "cache"
    for i in range(3):
        (root / "cat" / f"00{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of the first 3 images \(of 20\) cannot be read \(cat/000\.png \(empty\); cat"):
        cache_part(part_of(root), size=16, folder=folder, limit_bytes=LIMIT)
    assert list(folder.iterdir()) == []


def test_limit_while_writing(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"take more than 0\.0 GB: raise the limit with --cache-gb"):
        cache_part(part_of(make_folder({"cat": 3, "dog": 3})), size=16, folder=tmp_path / "cache", limit_bytes=1000)
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_folder_that_is_a_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="a part of the path is a file"):
        cache_part(part_of(make_folder({"cat": 2, "dog": 2})), size=16, folder=tmp_path / "file" / "cache", limit_bytes=LIMIT)


def test_a_disk_that_takes_no_more_is_one_line(make_folder: MakeFolder, tmp_path: Path) -> None:
    """A limit on file sizes fails a write as a full disk does, with another number."""
    program = f"""
import resource
from pathlib import Path
from onceforall.data import open_source
from onceforall.data.cache import cache_part
from onceforall.errors import FileError
part = open_source({str(make_folder({"cat": 40, "dog": 40}))!r}).train
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    cache_part(part, size=16, folder=Path({str(tmp_path / "cache")!r}), limit_bytes=10**9)
except FileError as error:
    print("FileError", error)
"""
    assert resource.RLIMIT_FSIZE is not None
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == f"FileError {tmp_path / 'cache'}: File too large\n"
    assert list((tmp_path / "cache").iterdir()) == []


def test_of_two_processes_one_decodes(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Started together on an empty cache; the decoder is slow enough for the other to come meanwhile."""
    program = f"""
import time
from pathlib import Path
from onceforall.data import open_source
from onceforall.data.cache import cache_part
part = open_source({str(make_folder({"cat": 20, "dog": 20}))!r}).train
calls = []
def told(done, images):
    calls.append(done)
    time.sleep(0.05)
print("ready", flush=True)
input()
store = cache_part(part, size=16, folder=Path({str(tmp_path / "cache")!r}), limit_bytes=10**9, on_progress=told)
print(len(calls), len(store.index))
"""
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0] for one in both]
    assert sorted(said) == ["1 40\n", "40 40\n"]
    assert len(list((tmp_path / "cache").iterdir())) == 1, "no lock is left"


def test_no_warning_leaks(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    image = Image.new("P", (8, 8))
    image.save(root / "cat" / "palette.png", transparency=b"\x00\x80")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage"
    picture(1).save(root / "cat" / "exif.jpg", exif=exif)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        store = cache_part(part_of(root), size=16, folder=tmp_path / "cache", limit_bytes=LIMIT)
    assert [str(warning.message) for warning in seen] == []
    assert store.problems == ()


def test_meta_is_plain_json(make_folder: MakeFolder, tmp_path: Path) -> None:
    cache_part(part_of(make_folder({"cat": 2, "dog": 2})), size=16, folder=tmp_path / "cache", limit_bytes=LIMIT)
    meta = json.loads(next((tmp_path / "cache").glob("*/meta.json")).read_text())
    seen = {"gray": False, "colour": 0, "opaque": 0, "deep": 0, "dim": 0, "most": 0.0, "frames": 0}
    assert meta == {"version": 2, "size": 16, "images": 4, "bytes": 4 * 360, "problems": [], "channels": 3, "seen": seen}
