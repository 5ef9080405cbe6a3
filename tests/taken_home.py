"""What tests of networks that were taken home share: commands by their words, and the same answers in every format."""

import json
from pathlib import Path
from typing import Any

import pytest

from onceforall.cli import run
from onceforall.pipeline import classify

FORMATS = ["onnx", "pytorch", "torch-export"]


def said(capfd: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    """Output and errors of a command."""
    capfd.readouterr()
    assert bool(run([str(word) for word in words])) == bool(code)
    return capfd.readouterr()


def evaluated(capfd: pytest.CaptureFixture[str], taken: Path, data: Path) -> list[dict[str, Any]]:
    """What `ofa evaluate` finds on all images, through the file of each format."""
    options = ("--split", "all", "--json")
    found = [json.loads(said(capfd, "evaluate", taken, data, *options, "--format", format)[0]) for format in FORMATS]
    return [one for (one,) in found]


def answers(taken: Path, photos: list[Path]) -> list[dict[str, float]]:
    """Classes and probabilities of each photograph, which are the same in every format."""
    first, *others = ([dict(answer.classes) for answer in classify(taken, photos, format=format)] for format in FORMATS)
    for other in others:
        for own, known in zip(other, first, strict=True):
            assert own == pytest.approx(known, abs=1e-5)
    return first
