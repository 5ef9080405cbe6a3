"""The fixtures of `tiny_run.py`, and an explorer of such a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from explorers import Served, serve
from tiny_run import measured, own_cache, run_copy, trained

__all__ = ["measured", "own_cache", "run_copy", "trained"]


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """Every test here keeps out of the user's cache."""


@pytest.fixture(scope="module")
def served(measured: Path) -> Iterator[Served]:
    """An explorer whose pool is being filled."""
    for one in serve(measured, thorough=True):
        one.wait("/api/run", "ready")
        yield one
