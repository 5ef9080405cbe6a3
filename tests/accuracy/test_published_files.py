"""Files of published predictors: what they predict, what they are not for, and files that are none.

The numbers of the ResNet-50-D predictor are in published_data, without its idle units. With ONCEFORALL_PUBLISHED naming the folder
of the published files, those are read. Both are compared with predictions of the original's code, which built the features and
ran the layers itself (published_data/predictor_golden.json).
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_networks import BOTH, FILES, SPACES, a_file, arch_of
from torch import Tensor

from onceforall import Space, space
from onceforall.accuracy import AccuracyPredictor
from onceforall.errors import ArchError, CheckpointError

DATA = Path(__file__).parents[1] / "published_data"
IDLE_LEFT_OUT = DATA / "predictor_resnet50d.npz"


def mobile(**arguments: Any) -> Space:
    return space("mobilenet_v3", **{"width": 1.2, **arguments})


def resnet(**arguments: Any) -> Space:
    return space("resnet50d", **arguments)


WRONG: dict[str, tuple[str, Space, str]] = {
    "family": ("mobilenet_v3", resnet(), r"for space\('mobilenet_v3', width=1.2\), not for resnet50d"),
    "other family": ("resnet50d", mobile(), r"for space\('resnet50d', width=1\), not for mobilenet_v3"),
    "proxyless": ("mobilenet_v3", space("proxyless"), "not for proxyless"),
    "width": ("mobilenet_v3", mobile(width=1), r"width 1\.2, not 1\.0, whose networks differ: load it for that space"),
    "width with the same stages": ("mobilenet_v3", mobile(width=1.19), r"width 1\.2, not 1\.19"),
    "strides": ("mobilenet_v3", mobile(strides=(1, 1, 2, 2, 2, 1, 2)), r"strides \(2, 1, 2, .* not \(1, 1"),
    "depths": ("mobilenet_v3", mobile(depths=(1, 2)), r"stage 0 offers depths \(1, 2\), this .* \(2, 3, 4\)"),
    "deep": ("mobilenet_v3", mobile(depths=(4, 5)), r"stage 0 offers depths \(4, 5\)"),
    "kernels": ("mobilenet_v3", mobile(kernels=(3, 9)), r"kernels \(3, 9\), this predictor knows \(3, 5, 7\)"),
    "ratios": ("mobilenet_v3", mobile(expand_ratios=(3, 5)), r"expand_ratios \(3, 5\), .*restrict the space"),
    "multipliers": ("resnet50d", resnet(width_multipliers=(0.5, 1)), r"stage 0 offers widths \(16, 32\)"),
    "resnet ratios": ("resnet50d", resnet(expand_ratios=(0.3,)), r"stage 2 offers expand_ratios \(0.3,\)"),
    "resnet depths": ("resnet50d", resnet(depths=(0, 3)), r"stage 2 offers depths \(2, 5\)"),
    "resnet width": ("resnet50d", resnet(width=0.5), r"width 1\.0, not 0\.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_spaces_are_refused(case: str, tmp_path: Path) -> None:
    family, other, message = WRONG[case]
    path = a_file(family, tmp_path)
    with pytest.raises(ArchError, match=message) as caught:
        AccuracyPredictor.from_published(path, other)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    own = SPACES["mobilenet_v3"]
    cases: list[tuple[dict[str, Tensor | None], str]] = [
        ({"6.bias": None}, r"holds 0.weight, 0.bias, 2.weight, …: not one of the published .* \(mobilenet_v3, resnet50d\)"),
        ({"8.bias": torch.ones(1)}, "not one of the published"),
        ({"0.weight": torch.ones(24, 124)}, r"0.weight has shape \(24, 124\): mobilenet_v3 needs \(units, 128\)"),
        ({"0.weight": torch.ones(128)}, r"0.weight has shape \(128,\)"),
        ({"2.weight": torch.ones(5, 6)}, "the layers do not form a chain: check the path"),
        ({"2.bias": torch.ones(5)}, "do not form a chain"),
        ({"2.bias": torch.tensor(1.0)}, "do not form a chain"),
        ({"4.weight": torch.ones(5)}, "not a published accuracy predictor"),
        ({"6.weight": torch.ones(2, 29), "6.bias": torch.ones(2)}, "the last layer gives 2 numbers, not one"),
        ({"6.bias": torch.tensor([float("nan")])}, "'6.bias' holds values that are not finite"),
        ({"0.weight": torch.ones(24, 128, dtype=torch.complex64)}, "'0.weight' holds complex64"),
    ]  # fmt: skip
    for changed, message in cases:
        path = a_file("mobilenet_v3", tmp_path, **changed)
        with pytest.raises(CheckpointError, match=message) as caught:
            AccuracyPredictor.from_published(path, own)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        AccuracyPredictor.from_published(tmp_path / "none", own)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        AccuracyPredictor.from_published(path, own)


def agrees_with_the_original(family: str, path: Path) -> None:
    known = json.loads((DATA / "predictor_golden.json").read_text())[family]
    assert len(known) == 16
    own = space(family, width=SPACES[family].arguments["width"], resolutions=sorted({s["resolution"] for s in known}))
    predictor = AccuracyPredictor.from_published(path, own)
    found = predictor.predict([arch_of(family, s) for s in known])
    np.testing.assert_allclose(found, [s["accuracy"] for s in known], atol=1e-6)


def test_published_numbers(tmp_path: Path) -> None:
    with np.load(IDLE_LEFT_OUT) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    torch.save(tensors, tmp_path / FILES["resnet50d"])
    agrees_with_the_original("resnet50d", tmp_path / FILES["resnet50d"])


@BOTH
@pytest.mark.skipif(
    "ONCEFORALL_PUBLISHED" not in os.environ, reason="ONCEFORALL_PUBLISHED does not name the published files' folder"
)
def test_the_published_files(family: str) -> None:
    agrees_with_the_original(family, Path(os.environ["ONCEFORALL_PUBLISHED"]) / FILES[family])
