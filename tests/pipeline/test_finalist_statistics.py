"""BatchNorm statistics of a finalist, measured on few images, are gone on with for the export."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from onceforall import load
from onceforall.calibrate import Statistics
from onceforall.pipeline import Budget, Run, specialise
from onceforall.pipeline.evaluate import calibrated


def test_the_statistics_of_a_finalist_are_gone_on_with(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exported ones are those of all calibration images, as without a search."""
    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.search"), "FINALIST_CALIBRATION", 40)
    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.run_directory.run"), "CALIBRATION_BATCH", 20)
    begun = list[Any]()

    def noted(*parts: Any, **rest: Any) -> Any:
        begun.append(rest["begun"])
        return calibrated(*parts, images=60, **rest)

    monkeypatch.setattr(importlib.import_module("onceforall.pipeline.specialising.finetune"), "calibrated", noted)
    (made,) = specialise(run_copy, [Budget()], finalists=2, export=["pytorch"])
    assert [each.images for each in begun] == [40]
    run = Run.open(run_copy)
    splits = run.splits()
    assert len(splits.train) >= 60, "or nothing is gone on with"
    expected = calibrated(run, run.supernet(), made.arch, splits, images=60)
    assert expected.images == 60
    found = load(made.folder).state_dict()
    for name, value in expected.network.state_dict().items():
        if "running_" in name:
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_statistics_are_measured_anew_where_the_batches_would_be_others(run_copy: Path) -> None:
    run = Run.open(run_copy)
    supernet, splits, arch = run.supernet(), run.splits(), run.space.smallest()
    begun = Statistics({}, len(splits.train) - 1, (3, arch.resolution, arch.resolution))  # one image would be left
    assert calibrated(run, supernet, arch, splits, begun=begun).images == len(splits.train)
