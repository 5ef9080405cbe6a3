"""Training images that are not kept: the batches are those of decoded ones, and the processes that decode end as they should."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import MakeFolder, picture, png, write_parquet
from test_archives import sharded, tarred, zipped

from onceforall.data import Augment, Decoding, DeviceBatches, Read, Splits, TrainBatches, open_data
from onceforall.data.decoding import Wanted
from onceforall.data.formats import parquet
from onceforall.errors import DataError, FileError

SIZE, STEPS = 8, (0, 3, 4)


def table(root: Path) -> Path:
    lines = [f"{path.relative_to(root)},{path.parent.name},{path.parts[-3]}" for path in sorted(root.rglob("*.png"))]
    (root / "images.csv").write_text("\n".join(["file_name,label,split", *lines]))
    return root / "images.csv"


def in_parquet(root: Path) -> Path:
    """Bytes in the one, paths in the other."""
    folder = root.with_name("parquet")
    write_parquet(folder / "train.parquet", [0, 1] * 9)
    (folder / "a.png").write_bytes(png(100))
    (folder / "b.png").write_bytes(png(101))
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "label": [0, 1]}), folder / "test.parquet")
    return folder


WAYS: dict[str, Callable[[Path], Path]] = {
    "folders": lambda root: root,
    "table": table,
    "zip": zipped,
    "tar": tarred,
    "shards": sharded,
    "Parquet": in_parquet,
}


@pytest.fixture
def images(make_folder: MakeFolder) -> Path:
    return make_folder({"train": {"cat": 9, "dog": 9}, "test": {"cat": 3, "dog": 3}})


def opened(source: Path | str, folder: Path, **changes: Any) -> tuple[Splits, Splits]:
    """With decoded images, and without."""
    decoded, none = (open_data(str(source), size=SIZE, cache=folder / way, caching=way, **changes) for way in ("decoded", "none"))
    return decoded, none


def batches(splits: Splits, **changes: Any) -> TrainBatches:
    return TrainBatches(splits.train, 6, 5, Augment(colour=0.5), **changes)


def same(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_batches_are_the_same_from_every_source(images: Path, tmp_path: Path, way: str) -> None:
    decoded, none = opened(WAYS[way](images), tmp_path, compare=True)
    assert (decoded.cache, none.cache) == ("decoded", "none")
    assert none.fingerprint == decoded.fingerprint
    assert none.remarks == decoded.remarks
    assert {path.name for path in (tmp_path / "none").rglob("*.*")} == {"digests.npy", "index.npy", "meta.json", "thumbnails.npy"}
    for step in STEPS:
        assert same(batches(none).batch(step, 10), batches(decoded).batch(step, 10))
    known = none.train.positions
    job = Wanted(
        none.train.part.singles(np.sort(known)), [[0, 0, 4, 5]] * len(known), np.sort(known)[:, None] * 0 + [8, 10], 8, Read()
    )
    elsewhere = pickle.loads(pickle.dumps(job))
    assert all((a == b).all() for a, b in zip(elsewhere.crops(), job.crops(), strict=True))


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_and_prefetching_change_nothing(images: Path, tmp_path: Path, processes: int) -> None:
    decoded, none = opened(images, tmp_path)
    wanted, own = batches(decoded), batches(none)
    with Decoding(own, processes=processes, ahead=2) as decoding:
        for step in (*STEPS, 1):  # one after the other, further on, and back
            for resolution in (10, 7):
                assert same(own.resized(*decoding.crops(step), resolution), wanted.batch(step, resolution))
        assert 1 <= len(decoding._started) <= processes
    assert all(process.poll() is not None for process in decoding._started)


def test_a_part_of_each_batch(images: Path, tmp_path: Path) -> None:
    """As several processes train."""
    decoded, none = opened(images, tmp_path)
    with Decoding(batches(none, rank=1, world=2), processes=1, ahead=0) as decoding:
        found = batches(none, rank=1, world=2).resized(*decoding.crops(4), 10)
    assert same(found, tuple(part[3:] for part in batches(decoded).batch(4, 10)))  # type: ignore[arg-type]


def test_a_device_makes_the_same_of_crops(images: Path, tmp_path: Path) -> None:
    decoded, none = opened(images, tmp_path)
    whole = DeviceBatches(batches(decoded), torch.device("cpu"))
    made = DeviceBatches(batches(none), torch.device("cpu"), whole=False)
    for step in STEPS:
        draw = made.batches.draw(step)
        assert same(made.resized(draw, made.batches.crops(draw), 10), whole.batch(step, 10))


@pytest.fixture
def decoding(images: Path, tmp_path: Path) -> Iterator[Decoding]:
    none = open_data(str(images), size=SIZE, cache=tmp_path, caching="none")
    with Decoding(batches(none), processes=1, ahead=0) as decoding:
        yield decoding


def test_an_image_that_is_gone_is_named(decoding: Decoding) -> None:
    files = decoding.batches.images.files(Path("/nowhere"))
    for path in files:
        path.rename(path.with_suffix(".gone"))
    with pytest.raises(DataError, match=r"^train/.*\.png: no such file: restore it, and continue with --resume$"):
        decoding.crops(0)
    for path in files:
        path.with_suffix(".gone").rename(path)
    decoding._waiting.clear()
    assert len(decoding.crops(0)[1]) == 6


def test_another_image_of_that_name_is_refused(decoding: Decoding) -> None:
    for path in decoding.batches.images.files(Path("/nowhere")):
        picture(1, 30, 30).save(path)
    with pytest.raises(DataError, match=r"^train/.*\.png: the image has changed since the images were opened"):
        decoding.crops(0)


@pytest.mark.parametrize(
    ("sent", "said"),
    [(signal.SIGKILL, "SIGKILL, as happens when memory runs"), (signal.SIGSEGV, "SIGSEGV, perhaps because of train/")],
)
def test_a_process_that_dies_is_told_in_a_line(decoding: Decoding, sent: signal.Signals, said: str) -> None:
    decoding.crops(0)
    (process,) = decoding._started
    process.send_signal(sent)
    process.wait()
    with pytest.raises(FileError, match=said) as refused:
        decoding.crops(1)
    assert "\n" not in str(refused.value)
    assert "resume with --resume, or use --cache decoded" in str(refused.value)


def test_processes_end_with_what_started_them() -> None:
    """Killed, or interrupted by Ctrl-C while they are at work."""
    code = "from onceforall.data.decoding import decoder; p = decoder(); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGINT)  # of the terminal: the training ends it
        parent.kill()
    for _ in range(500):
        if not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes():  # a zombie has none
            return
        time.sleep(0.02)
    pytest.fail("it outlives its parent by 10 seconds")


def test_an_interrupt_ends_them(decoding: Decoding) -> None:
    decoding.crops(0)
    with pytest.raises(KeyboardInterrupt), decoding:
        raise KeyboardInterrupt
    assert [process.poll() for process in decoding._started] == [-signal.SIGKILL]


def test_facts_are_taken_from_decoded_images_too(images: Path, tmp_path: Path) -> None:
    decoded = open_data(str(images), size=SIZE, cache=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    none = open_data(str(images), size=SIZE, cache=tmp_path, caching="none")
    assert not none.train.decoded
    assert none.fingerprint == decoded.fingerprint
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("limit_gb", "free", "cache"), [(8.0, 10**9, "decoded"), (1e-6, 10**9, "none"), (8.0, 10_000, "none")])
def test_auto_decodes_what_fits(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_gb: float, free: int, cache: str
) -> None:
    """24 images of 240 bytes: more than half of what is free."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, free))
    told: list[str] = []
    splits = open_data(str(images), size=SIZE, cache=tmp_path, caching="auto", limit_gb=limit_gb, on_note=told.append)
    assert splits.cache == cache
    assert ["training images are decoded whenever they are needed, as with --cache none" in text for text in told] == (
        [] if cache == "decoded" else [True]
    )


def test_refusals(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(data: Path, error: type[Exception], text: str, **changes: Any) -> None:
        with pytest.raises(error, match=text):
            open_data(str(data), size=SIZE, cache=tmp_path, **changes)

    refused(images, DataError, "^--cache all: choose from auto, decoded, none$", caching="all")
    refused(images, DataError, r"raise it with --cache-gb, cache none of them \(--cache none\)", limit_gb=1e-6)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 100))
    refused(images, FileError, r"free some space, choose another cache folder, cache none of them \(--cache none\)")
    monkeypatch.setattr(parquet, "MOST_AT_ONCE", 100)
    text = r"3 images \(0 MB\) in a row group, which is read whole .* row groups of 100 images, or decode all .*--cache decoded"
    refused(in_parquet(images), DataError, text, caching="none")
