"""Checkpoints survive what happens to files: torn, damaged, a full disk."""

import os
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from onceforall.errors import CheckpointError, FileError
from onceforall.train.checkpoint import Checkpoint, digest_of, has_good, last_good, latest, load_tensors, save, save_tensors


def tensors(number: float) -> dict[str, Tensor]:
    return {"weight": torch.full((3, 5), number), "count": torch.tensor(number), "empty": torch.zeros(0), "ids": torch.arange(3)}


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        save(folder, Checkpoint(step, tensors(step), {"seconds": 1.5}))


def file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.safetensors"


def step_of(folder: Path) -> int | None:
    found = latest(folder)
    return None if found is None else found.step


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path, 7)
    found = latest(tmp_path)
    assert found is not None
    assert (found.step, found.facts) == (7, {"seconds": 1.5, "step": 7})
    assert {name: value.tolist() for name, value in found.tensors.items()} == {n: v.tolist() for n, v in tensors(7).items()}
    assert {name: value.dtype for name, value in found.tensors.items()} == {n: v.dtype for n, v in tensors(7).items()}


def test_none_yet(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 10, 9999)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file(tmp_path, 10).name, file(tmp_path, 9999).name]
    assert step_of(tmp_path) == 9999


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.safetensors.123.tmp").write_bytes(b"half")
    assert latest(tmp_path) is None
    write(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == [file(tmp_path, 2).name]


def damaged(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content))]
    position = rng.randrange(len(content))
    changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_a_damaged_file_falls_back_to_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    whole, rng = file(tmp_path, 2).read_bytes(), random.Random(0)
    for _ in range(100):
        file(tmp_path, 2).write_bytes(damaged(whole, rng))
        found = latest(tmp_path)
        assert found is not None
        if found.step == 2:  # what is read is what was written, for instance because a padding blank was hit
            assert found.facts == {"seconds": 1.5, "step": 2}
            assert {name: value.tolist() for name, value in found.tensors.items()} == {n: v.tolist() for n, v in tensors(2).items()}
    file(tmp_path, 2).write_bytes(whole)
    assert step_of(tmp_path) == 2


def test_all_damaged(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    for step in (1, 2):
        file(tmp_path, step).write_bytes(file(tmp_path, step).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"every checkpoint is damaged \(.*train again with another --out"):
        latest(tmp_path)


def test_a_full_disk_leaves_the_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / f".step-000000003.safetensors.{os.getpid()}.tmp").symlink_to("/dev/full")  # where the file is written first
    with pytest.raises(FileError, match="the disk is full: free some space"):
        write(tmp_path, 3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(tmp_path, 3)
    assert step_of(tmp_path) == 3


def test_digest_tells_contents_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    save_tensors(a, tensors(1), {"note": "x"})
    save_tensors(b, dict(reversed(tensors(1).items())), {"note": "y"})
    assert digest_of(a) == digest_of(b)
    for changed in (tensors(2), {"other" if n == "ids" else n: v for n, v in tensors(1).items()}, {"weight": torch.ones(5, 3)}):
        save_tensors(b, changed, {})
        assert digest_of(a) != digest_of(b)
    save_tensors(b, {"weight": torch.ones(3, 5).T}, {})
    save_tensors(a, {"weight": torch.ones(5, 3)}, {})
    assert digest_of(a) == digest_of(b)


def test_equal_files_are_equal(tmp_path: Path) -> None:
    facts = {"note": "ü", "where": 'a "b"', "n": 3}
    for i in range(6):  # the library has a new order each time
        save_tensors(tmp_path / f"{i}", dict(sorted(tensors(1).items(), reverse=bool(i % 2))), facts)
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(6)}) == 1
    found, told = load_tensors(tmp_path / "0")
    assert told == facts
    assert all(torch.equal(found[name], value) for name, value in tensors(1).items())
    length = int.from_bytes((tmp_path / "0").read_bytes()[:8], "little")
    assert length % 8 == 0


@pytest.mark.parametrize("read", [load_tensors, digest_of])
def test_other_files(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(FileError, match="no such file"):
        read(tmp_path / "missing")
    for content in (b"", b"text", b"\xff" * 64):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or not a file of onceforall"):
            read(tmp_path / "file")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="not a file of onceforall"):
        read(tmp_path / "file")
    with pytest.raises(FileError):
        read(tmp_path)


def test_a_good_one_is_kept_beside_the_last_two(tmp_path: Path) -> None:
    assert not has_good(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        last_good(tmp_path)
    save(tmp_path, Checkpoint(1, tensors(1), {"seconds": 1.5}), good=True)
    write(tmp_path, 2, 3, 4)
    assert has_good(tmp_path)
    assert (last_good(tmp_path).step, step_of(tmp_path)) == (1, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.safetensors", file(tmp_path, 3).name, file(tmp_path, 4).name]
    save(tmp_path, Checkpoint(4, tensors(5), {"seconds": 2.5}), good=True)
    assert last_good(tmp_path).tensors["weight"][0, 0] == 5
    assert last_good(tmp_path).facts == {"seconds": 2.5, "step": 4}


def test_what_lies_after_a_checkpoint_was_given_up(tmp_path: Path) -> None:
    """A damaged newer one, or those after the state that training went back to."""
    write(tmp_path, 1, 5, 9)
    file(tmp_path, 9).write_bytes(b"damaged")
    save(tmp_path, Checkpoint(6, tensors(6), {}), good=True)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [file(tmp_path, 5).name, file(tmp_path, 6).name]
    assert last_good(tmp_path).step == 6


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, Checkpoint(3, tensors(3), {}), good=True)
    assert last_good(tmp_path).step == step_of(tmp_path) == 3
