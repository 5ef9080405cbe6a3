"""One tiny training on the digits, shared by the tests of the pipeline and of the command line. Copy what you change."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from onceforall.pipeline import predict, profile, train

SPACE = {"width": 0.1, "resolutions": (16, 24), "depths": (1, 2), "kernels": (3, 5), "expand_ratios": (2, 3)}
SPACE_TEXT = "width=0.1,resolutions=16/24,depths=1/2,kernels=3/5,expand_ratios=2/3"
TRAINING: dict[str, Any] = {"space": SPACE, "scheme": "progressive_shrinking", "epochs": 4.0, "limit": 120, "batch_size": 32}
TRAINING_TEXT = [
    "--space",
    SPACE_TEXT,
    "--scheme",
    "progressive_shrinking",
    "--epochs",
    "4",
    "--limit",
    "120",
    "--batch-size",
    "32",
]
SUBNETS = 16


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images go to a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def trained(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `ofa train`."""
    return _trained(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def measured(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after `ofa train`, `ofa profile` and `ofa predict`."""
    return _measured(tmp_path_factory.getbasetemp())


@pytest.fixture
def run_copy(measured: Path, tmp_path: Path) -> Path:
    """A copy of `measured`, to change."""
    return Path(shutil.copytree(measured, tmp_path / "run"))


@cache
def _trained(base: Path) -> Path:
    out = base / "trained"
    train("digits", out=out, **TRAINING)
    return out


@cache
def _measured(base: Path) -> Path:
    out = Path(shutil.copytree(_trained(base), base / "measured"))
    profile(out, quick=True)
    predict(out, subnets=SUBNETS)
    return out
