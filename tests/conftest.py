"""Shared by all tests: small spaces, one thread, repeatable property tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

import onceforall
from onceforall import Space

os.environ["OMP_NUM_THREADS"] = "1"  # test processes share few cores; set before torch is loaded

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=40, suppress_health_check=list(HealthCheck))
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SPACES: dict[str, Space] = {
    "default": onceforall.space("mobilenet_v3"),
    "half": onceforall.space("mobilenet_v3", width=0.5, resolutions=(64, 80, 100), kernels=(3, 5)),
    "strided": onceforall.space(
        "mobilenet_v3", width=0.35, resolutions=(28, 32, 45), depths=(1, 2), expand_ratios=(2, 3.5), strides=(1, 1, 2, 2, 1, 1, 2)
    ),
    "single": onceforall.space("mobilenet_v3", width=0.25, resolutions=(33,), depths=(2,), kernels=(5,), expand_ratios=(3,)),
}
SMALL = [name for name in SPACES if name != "default"]


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space, the full-size one too: for tests that compute little."""
    return SPACES[request.param]


@pytest.fixture(params=SMALL)
def small_space(request: pytest.FixtureRequest) -> Space:
    """Each kind of space whose networks run in milliseconds."""
    return SPACES[request.param]
