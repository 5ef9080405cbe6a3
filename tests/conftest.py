"""Shared by all tests: one thread, repeatable property tests, a fixture for the spaces of `small_spaces.py`."""

import atexit
import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from onceforall import Space
from small_spaces import SMALL, SPACES

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes share few cores; set before torch is loaded
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="onceforall-tests-")  # decoded images, not among the user's own
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored, also by what tests start

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=40, suppress_health_check=list(HealthCheck))
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space, the full-size one too: for tests that compute little."""
    return SPACES[request.param]


@pytest.fixture(params=SMALL)
def small_space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space whose networks run in milliseconds."""
    return SPACES[request.param]
