"""The time that is left: against a simulated training whose end is known, on a machine that is busy for a while."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceforall.train import Remaining

STEPS, EVERY = 4000, 20


def told(slow: range, factor: float, validation_s: float = 0.0) -> list[tuple[float, float]]:
    """Seconds so far, and so far plus left, at each report of a training of a second a step; `factor` times slower in `slow`."""
    remaining, seconds, found = Remaining(STEPS), 0.0, []
    remaining(0, 0.0)
    for step in range(EVERY, STEPS + 1, EVERY):
        seconds += EVERY * (factor if step in slow else 1.0)
        left = remaining(step, seconds)
        if step % 400 == 0:  # three reports of one validation
            for _ in range(3):
                seconds += validation_s / 3
                left = remaining(step, seconds)
        assert left is not None
        found.append((seconds, seconds + left))
    return found


def test_an_even_training_ends_when_it_was_told() -> None:
    assert all(end == pytest.approx(STEPS) for _, end in told(range(0), 1.0))


def test_validations_count() -> None:
    found = told(range(0), 1.0, validation_s=100.0)
    assert found[-1][0] == 5000
    assert all(end == pytest.approx(5000, rel=0.05) for seconds, end in found if seconds > 1100)


@given(st.integers(600, 3000), st.floats(2, 30))
def test_a_burst_of_load_moves_the_end_by_what_it_took(begin: int, factor: float) -> None:
    burst = range(begin, begin + 300)
    found = told(burst, factor)
    lefts = [end - seconds for seconds, end in found]
    assert all(later <= left + 1e-6 for left, later in pairwise(lefts))  # it never says more than before
    assert all(end == pytest.approx(STEPS + EVERY * (factor - 1) * sum(s in burst for s in range(EVERY, STEPS + 1, EVERY)))
               for seconds, end in found[-10:])  # fmt: skip


def test_a_machine_that_stays_slower_is_followed_smoothly() -> None:
    found = told(range(2000, STEPS + 1), 2.0)
    assert found[-1][1] == pytest.approx(6000, abs=25)
    assert all(abs(b - a) < 200 for (_, a), (_, b) in pairwise(found))
    settled = [end for seconds, end in found if seconds > 4000]
    assert settled == pytest.approx([6000] * len(settled), rel=0.03)


def test_going_back_and_resuming() -> None:
    remaining = Remaining(100)
    assert remaining(50, 500.0) is None  # a resumed one knows nothing yet
    assert remaining(60, 600.0) == pytest.approx(400)
    assert remaining(40, 610.0) == pytest.approx(600)  # after a rollback
    assert remaining(50, 710.0) == pytest.approx(500)
    assert remaining(100, 1210.0) == 0
