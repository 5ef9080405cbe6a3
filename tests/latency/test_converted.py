"""What is converted once is kept, for the same plan, batch size and values only."""

import tempfile
from pathlib import Path

import pytest
from runtime_contract import small_plan

from onceforall.backends.kept import Converted
from onceforall.latency.networks import random_weights

PLAN = small_plan()


class Counting:
    """Makes models of 10 bytes, each another one."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return f"{self.made:10}".encode()


def test_the_same_network_is_converted_once() -> None:
    converted, convert = Converted(), Counting()
    first = converted.get(PLAN, random_weights(PLAN), (1,), convert)
    assert converted.get(small_plan(), random_weights(PLAN), (1,), convert) == first
    assert convert.made == 1


@pytest.mark.parametrize("change", ["plan", "batch", "weight", "statistics"])
def test_another_network_is_converted_anew(change: str) -> None:
    converted, convert = Converted(), Counting()
    first = converted.get(PLAN, random_weights(PLAN), (1,), convert)
    plan, weights, settings = PLAN, random_weights(PLAN), (1,)
    if change == "plan":
        plan = PLAN.piece("head")
    elif change == "batch":
        settings = (2,)
    else:
        name = next(name for name in weights if name.endswith("weight" if change == "weight" else "running_mean"))
        weights[name][0] += 1
    assert converted.get(plan, weights, settings, convert) != first
    assert convert.made == 2


def test_as_many_are_kept_as_may_be() -> None:
    converted, convert = Converted(most_bytes=25), Counting()
    networks = [random_weights(PLAN, seed) for seed in range(3)]
    models = [converted.get(PLAN, weights, (1,), convert) for weights in networks]
    assert [converted.get(PLAN, weights, (1,), convert) for weights in networks[:2]] == models[:2]
    assert convert.made == 3
    assert converted.get(PLAN, networks[2], (1,), convert) != models[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w+b", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: full)
        converted, convert = Converted(), Counting()
        for made in (1, 2):
            assert int(converted.get(PLAN, random_weights(PLAN), (1,), convert)) == made
