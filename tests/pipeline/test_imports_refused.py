"""Imports that are refused, and imports that were interrupted."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from onceforall.common.files import locked
from onceforall.common.progress import Progress
from onceforall.errors import ArchError, CheckpointError, DataError, FileError, OnceForAllError
from onceforall.pipeline import (
    Run,
    import_original,
)
from onceforall.train.checkpoint import digest_of
from tiny_original import CLASSES, NAME, bring, original_weights


def test_refused_before_anything_is_written(checkpoint: Path, predictor: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    other = tmp_path / "other.pth"
    torch.save(original_weights("ofa_proxyless_d234_e346_k357_w1_3", 2), other)
    cases: list[tuple[dict[str, Any], type[OnceForAllError], str]] = [
        ({"network": tmp_path / "missing.pth"}, CheckpointError, r"missing\.pth: no such file or folder: check the path"),
        ({"network": photos / "class 0" / "00.jpg"}, CheckpointError, "not a checkpoint of torch or safetensors, or damaged"),
        ({"network": other}, CheckpointError, f"{NAME} .mobilenet_v3."),
        ({"name": "ofa_mbv3"}, CheckpointError, "unknown network 'ofa_mbv3': choose one of ofa_mbv3_d234_e346_k357_w1_0, "),
        ({"limit": 20}, DataError, "--limit 20 applies to images, but there are none: give --data, too"),
        ({"cache": "none"}, DataError, "--cache none applies to images, but there are none: give --data, too"),
        ({"cache_gb": 2.0}, DataError, "--cache-gb 2.0 applies to images, but there are none: give --data, too"),
        ({"holdout": 0.5}, DataError, "--holdout 0.5 applies to images, but there are none: give --data, too"),
        ({"predictor": checkpoint}, CheckpointError, "not one of the published accuracy predictors"),
        (
            {"network": other, "name": "ofa_proxyless_d234_e346_k357_w1_3", "predictor": predictor},
            ArchError,
            "this predictor is for",
        ),
        ({"data": str(tmp_path / "missing")}, DataError, "no such folder"),
        ({"data": str(photos), "seed": -1}, DataError, "the seed is -1"),
        ({"data": str(photos), "holdout": 0.9}, DataError, "the held-out share is 0.9"),
        (
            {"data": "digits"},
            DataError,
            r"digits has 10 classes, the weights in .* have 4: .* digits --from RUN",
        ),
        ({"out": photos}, FileError, "already there and not empty: choose another --out$"),
        ({"out": checkpoint}, FileError, "this is a file, a folder is needed"),
    ]
    for changes, error, message in cases:
        with pytest.raises(error, match=message) as refused:
            import_original(**{"network": checkpoint, "name": NAME, "out": out, **changes})
        assert "\n" not in str(refused.value)
        assert not out.exists()


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"state_dict": Harmful()}, tmp_path / "net.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for name in ("net.pth", "module.pth"):
        with pytest.raises(CheckpointError, match="refused because it could run code"):
            bring(tmp_path / name, tmp_path / "run")
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "run").exists()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("supernet.safetensors", False),
        ("predictor.safetensors", False),
        ("problems.jsonl", True),
        ("run.json", False),
        ("run.json", True),
    ],
)
def test_killed_anywhere(
    checkpoint: Path, predictor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    out, replace = tmp_path / "run", os.replace

    def crashing(source: Any, target: Any) -> None:
        if Path(target).name != name or after:
            replace(source, target)
        if Path(target).name == name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crashing)
        with pytest.raises(Killed):
            bring(checkpoint, out, predictor=predictor)
    if name == "run.json" and after:
        assert Run.open(out).weights_hash() == digest_of(out / "supernet.safetensors")
        return
    with pytest.raises(FileError, match="not a run directory"):
        Run.open(out)
    with pytest.raises(FileError, match="already there and not empty"):  # a training must not take the weights for its own
        Run.require_free(out)
    (out / ".supernet.safetensors.1.tmp").write_text("what kill -9 leaves")
    bring(checkpoint, out)
    assert not (out / "accuracy" / "predictor.safetensors").exists()
    assert not list(out.rglob("*.tmp"))
    assert Run.open(out).supernet().num_classes == CLASSES


def test_interrupted_while_decoding(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "data"))  # not in the cache yet
    seen: list[str] = []

    def stop(event: dict[str, Any]) -> None:
        seen.append(event["event"])
        if event["event"] == "decode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(checkpoint, tmp_path / "run", data=str(data), progress=Progress(event=stop))
    assert seen == ["note", "decode"]
    assert not (tmp_path / "run").exists()


def test_another_import_into_the_same_folder(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(FileError, match="another command is working on it"):
        bring(checkpoint, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
