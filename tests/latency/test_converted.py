"""What is converted once is kept, for the same plan, batch size and values only."""

import pytest
from runtime_contract import small_plan

from onceforall.latency.networks import made_up
from onceforall.latency.runtimes.converted import Converted

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
    first = converted.get(PLAN, made_up(PLAN), 1, convert)
    assert converted.get(small_plan(), made_up(PLAN), 1, convert) == first
    assert convert.made == 1


@pytest.mark.parametrize("change", ["plan", "batch", "weight", "statistics"])
def test_another_network_is_converted_anew(change: str) -> None:
    converted, convert = Converted(), Counting()
    first = converted.get(PLAN, made_up(PLAN), 1, convert)
    plan, weights, batch = PLAN, made_up(PLAN), 1
    if change == "plan":
        plan = PLAN.piece("head")
    elif change == "batch":
        batch = 2
    else:
        name = next(name for name in weights if name.endswith("weight" if change == "weight" else "running_mean"))
        weights[name][0] += 1
    assert converted.get(plan, weights, batch, convert) != first
    assert convert.made == 2


def test_the_models_used_last_are_kept() -> None:
    converted, convert = Converted(most_bytes=20), Counting()
    networks = [made_up(PLAN, seed) for seed in range(3)]
    for i in (0, 1, 0, 2):  # the third takes the place of the second
        converted.get(PLAN, networks[i], 1, convert)
    assert convert.made == 3
    converted.get(PLAN, networks[0], 1, convert)
    assert convert.made == 3
    converted.get(PLAN, networks[1], 1, convert)
    assert convert.made == 4
    Converted(most_bytes=5).get(PLAN, networks[0], 1, convert)  # larger alone than what may be kept
