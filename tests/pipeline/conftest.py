"""The fixtures of `tiny_run.py` and `tiny_original.py`."""

from collections.abc import Iterator

import pytest

from tiny_original import checkpoint, imported, imported_copy, photos, predictor
from tiny_run import few_measurements, measured, own_cache, run_copy, short_searches, trained

__all__ = ["checkpoint", "imported", "imported_copy", "measured", "own_cache", "photos", "predictor", "run_copy", "trained"]


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """Every test here keeps out of the user's cache."""


@pytest.fixture(autouse=True, scope="module")
def _few_measurements() -> Iterator[None]:
    """Every test here measures briefly; `test_profile.py` measures as users do."""
    with few_measurements():
        yield


@pytest.fixture(autouse=True, scope="module")
def _short_searches() -> Iterator[None]:
    """Every test here searches briefly."""
    with short_searches():
        yield
