"""What several processes of pytest-xdist need and one of them makes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` has filled, in the first process that needs it; `base` is `tmp_path_factory.getbasetemp()`."""
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"{name}-once"
    with FileLock(place.with_suffix(".lock")):
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            (place / "made").mkdir(parents=True)
            make(place / "made")
            (place / "done").touch()
    return place / "made"
