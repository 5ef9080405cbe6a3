"""Timing on a simulated machine whose clock, drift and disturbances are known; no test depends on real time."""

import gc
from collections.abc import Callable

import numpy as np
import pytest

from onceforall.errors import DeviceError
from onceforall.latency import Timing, time_calls
from onceforall.latency.measure import ReferenceKernel, least_disturbed_ms


class Machine:
    """Time passes only by work; `slowness(now in s)` multiplies it, and some calls are interrupted."""

    def __init__(
        self, slowness: Callable[[float], float] = lambda now: 1.0, noise: float = 0.0, interrupted: float = 0.0, seed: int = 0
    ) -> None:
        self.ns = 0.0
        self.slowness, self.noise, self.interrupted = slowness, noise, interrupted
        self.rng = np.random.default_rng(seed)

    def clock(self) -> int:
        return int(self.ns)

    def work(self, ms: float) -> Callable[[], None]:
        def function() -> None:
            took = ms * self.slowness(self.ns / 1e9) * (1 + self.noise * self.rng.exponential())
            self.ns += 1e6 * (took + 2.0 * (self.rng.random() < self.interrupted))

        return function

    def measure(self, *ms: float, limit: float = 0.25, rounds: int = 20, baseline_ms: float | None = None) -> list[Timing]:
        functions = [self.work(m) for m in ms]
        reference = self.work(0.1)
        return time_calls(functions, limit=limit, rounds=rounds, baseline_ms=baseline_ms, reference=reference, clock=self.clock)


def test_quiet_machine() -> None:
    for timing, ms in zip(Machine().measure(0.05, 0.5, 5.0), (0.05, 0.5, 5.0), strict=True):
        assert timing.ms == pytest.approx(ms, rel=1e-3)
        assert timing.low <= timing.ms <= timing.high
        assert timing.repeats >= 80


def test_interruptions_and_noise() -> None:
    machine = Machine(noise=0.05, interrupted=0.1)
    for timing, ms in zip(machine.measure(0.05, 0.5, 5.0), (0.05, 0.5, 5.0), strict=True):
        assert timing.ms == pytest.approx(ms, rel=0.03)


def test_drift_is_cancelled() -> None:
    slower_and_slower = Machine(lambda now: 1 + 0.5 * now)
    early, late = (slower_and_slower.measure(1.0, 2.0, baseline_ms=0.1) for _ in range(2))
    assert slower_and_slower.ns > 0.3e9
    for timing, ms in zip(early + late, (1, 2, 1, 2), strict=True):
        assert timing.ms == pytest.approx(ms, rel=0.01)


def test_equal_functions_get_equal_times_when_a_neighbour_comes_and_goes() -> None:
    machine = Machine(lambda now: 1.4 if now % 0.1 < 0.05 else 1.0, noise=0.02)
    timings = machine.measure(*[0.3] * 12, baseline_ms=0.1)
    assert [t.ms for t in timings] == pytest.approx([0.3] * 12, rel=0.02)


def test_more_rounds_while_intervals_are_wide() -> None:
    quiet, noisy = Machine().measure(0.5), Machine(noise=0.3).measure(0.5)
    assert noisy[0].repeats > quiet[0].repeats


def test_too_noisy_is_refused_with_numbers() -> None:
    machine = Machine(noise=3.0)
    with pytest.raises(DeviceError, match=r"too noisy to measure: after 80 rounds .* wider than ±\d+%, and at most ±5% is allowed"):
        machine.measure(0.5, limit=0.05)


def test_interval_covers_the_value() -> None:
    """In at least 85 of 100 repetitions (95 expected) of noise that is the same at all times."""
    truth = float(np.median([Machine(noise=0.1, seed=s).measure(0.5, rounds=80, baseline_ms=0.1)[0].ms for s in range(9)]))
    machine = Machine(noise=0.1)
    inside = [t.low <= truth <= t.high for t in (machine.measure(0.5, baseline_ms=0.1)[0] for _ in range(100))]
    assert sum(inside) >= 85


def test_real_functions_and_reference() -> None:
    gc.enable()
    calls = [0]

    def count() -> None:
        calls[0] += 1
        assert not gc.isenabled()

    (timing,) = time_calls([count], rounds=3, max_rounds=4, limit=float("inf"))
    assert gc.isenabled()
    assert calls[0] >= timing.repeats > 0
    assert 0 < timing.low <= timing.ms <= timing.high
    assert least_disturbed_ms(ReferenceKernel()) > 0


def test_edge_cases() -> None:
    assert time_calls([]) == []
    with pytest.raises(ValueError, match="rounds is 5 and max_rounds 3"):
        time_calls([lambda: None], rounds=5, max_rounds=3)
