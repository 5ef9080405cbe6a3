"""Checkpoints, written atomically and verified by checksum; the last two are kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ..common.files import make_folder, reading_or_writing, replace_file, text_sha256, write_bytes
from ..common.places import plain_path
from ..errors import CheckpointError

if TYPE_CHECKING:  # `digest_of` works without torch
    from torch import Tensor

KEEP = 2
GOOD = "good.safetensors"  # hard link to the last good checkpoint
BEST = "best.safetensors"  # hard link to the best one


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimizer steps: tensors by name, and other facts as JSON types."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, good: bool = False, best: bool = False) -> None:
    """Write a checkpoint, then delete those of later steps, all but the last two, and incomplete files of a killed process.

    Args:
        folder: folder of the checkpoints.
        checkpoint: the current state; checkpoints of later steps were abandoned.
        good: keep it as the checkpoint to roll back to, until another one is good.
        best: also keep it as the final result, until another one is best; only for a good checkpoint.

    Raises:
        FileError: it cannot be written, for example because the disk is full; earlier checkpoints are intact.
    """
    make_folder(folder)
    path = folder / f"step-{checkpoint.step:09d}.safetensors"
    facts = {**checkpoint.facts, "step": checkpoint.step}
    if good:  # first, so that a run resumed from this checkpoint finds its good checkpoint, or a later one
        save_tensors(folder / GOOD, checkpoint.tensors, facts)
        if best:
            replace_file(folder / BEST, lambda temporary: _link(folder / GOOD, temporary))
        replace_file(path, lambda temporary: _link(folder / GOOD, temporary))
    else:
        save_tensors(path, checkpoint.tensors, facts)
    with reading_or_writing(folder):
        known = sorted(folder.glob("step-*.safetensors"))
        now = known.index(path) + 1
        for old in (*known[now:], *known[: max(0, now - KEEP)], *folder.glob(".*.tmp")):
            old.unlink(missing_ok=True)


def latest(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint; None if there are no checkpoints.

    Raises:
        CheckpointError: there are checkpoints, but all are damaged.
    """
    damaged = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            return _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(f"{folder}: every checkpoint is damaged ({damaged[0]}): train again with another --out")
    return None


def has_good(folder: Path) -> bool:
    """Whether any checkpoint was saved as good."""
    return (folder / GOOD).exists()


def last_good(folder: Path) -> Checkpoint:
    """The last checkpoint that was saved as good.

    Raises:
        FileError: there is none.
        CheckpointError: it is damaged.
    """
    return _read(folder / GOOD)


def best(folder: Path) -> Checkpoint | None:
    """The checkpoint that was saved as the best one; None if there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    return _read(folder / BEST) if (folder / BEST).exists() else None


def _read(path: Path) -> Checkpoint:
    tensors, facts = load_tensors(path)
    return Checkpoint(int(facts["step"]), tensors, facts)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts with a checksum, atomically."""
    from safetensors.torch import save as to_bytes

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(dict(facts))
    content = to_bytes(plain, {"facts": text, "facts_sha256": text_sha256(text), "sha256": _digest(plain)})
    write_bytes(path, _in_order(content))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        FileError: there is no such file.
        CheckpointError: the file is damaged, or was not written by `save_tensors`.
    """
    with _opened(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        facts = metadata["facts"]
        if metadata["sha256"] != _digest(tensors) or metadata.get("facts_sha256") not in (None, text_sha256(facts)):
            raise CheckpointError(f"{path}: the checksum does not match, so the file is damaged")
        return tensors, json.loads(facts)


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, as the library's order is random and equal contents must give equal files."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[8 + length :]))


def digest_of(path: Path) -> str:
    """The checksum that `save_tensors` wrote into the file, without reading its tensors.

    Raises:
        FileError: there is no such file.
        CheckpointError: the file is damaged, or was not written by `save_tensors`.
    """
    with _opened(path, "np") as file:
        return str((file.metadata() or {})["sha256"])


def _link(existing: Path, new: Path) -> None:
    try:
        os.link(existing, new)
    except OSError:  # a file system without links
        shutil.copyfile(existing, new)


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    with reading_or_writing(path):
        path.stat()
        try:
            with plain_path(path) as plain, safe_open(str(plain), framework) as file:
                yield file
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged or not a file of onceforall ({error})") from None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(dtype=torch.uint8).numpy().tobytes())
    return digest.hexdigest()
