"""The fixtures of `tiny_run.py`."""

import pytest

from tiny_run import measured, own_cache, run_copy, trained

__all__ = ["measured", "own_cache", "run_copy", "trained"]


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """Every test here keeps out of the user's cache."""
