"""Time functions on a machine that is also busy with other work.

The design follows measurements (2 cores, a training run using 1.6 of them, 25 networks of 0.15 to 0.8 ms on ONNX Runtime). The
spread of repeated estimates was, in two spaces: median of all calls 2.3 % and 3.3 %, lowest 5 % of calls 1.0 % and 0.4 %, lower
quartile of ratios to the reference 0.7 % and 0.2 %. Hence:

- Functions are timed in rounds, in a short burst of calls each, so that a slow second affects all of them. The first call of a
  burst only brings the function's memory back into the caches. The shortest call of a burst counts.
- A reference kernel with a fixed amount of work, half arithmetic, half memory traffic, is timed in between. Each burst counts as a
  ratio to the reference just before and after it, which cancels changes of the clock frequency and part of other programs' load.
- The estimate is the lower quartile of the ratios over rounds. It has a 95 % interval from order statistics, and rounds continue
  until that is narrow enough.
- Some disturbances affect all functions but not the reference (another virtual machine sharing the cache: all networks 5 % slower
  for seconds, the reference as fast as before). They show when each function is compared with its neighbors in the round, if there
  are at least `LEVELED` functions; the median is used then. On a quiet machine, 36 networks of 1.4 to 4.1 ms, first against
  second half of 60 rounds: 1.1 and 5.8 % by lower quartiles (OpenVINO, ONNX Runtime), 0.2 and 0.5 % this way.
"""

import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from ..common.processors import processors
from ..errors import DeviceError

QUANTILE = 0.25
LEVELED = 8  # minimum number of functions to compare with each other
NEIGHBORS = 5  # functions on each side to compare with
STUBBORN = 5  # factor of the patience before the machine is rejected
REFERENCE_EVERY_MS = 4.0  # drift on a finer scale is ignored
Clock = Callable[[], int]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Duration of one call in ms, its 95 % interval, and the number of timed calls behind it."""

    ms: float
    low: float
    high: float
    repeats: int

    @property
    def spread(self) -> float:
        """Half the width of the interval, as a fraction of the estimate."""
        return (self.high - self.low) / 2 / self.ms


class ReferenceKernel:
    """The reference kernel: about 0.1 ms of small matrix products (in the L1 cache) and a sum over 4 MB (beyond the L2 cache)."""

    def __init__(self) -> None:
        self._a = np.full((48, 48), 0.5, np.float32)
        self._b = self._a.copy()
        self._big = np.ones(1 << 20, np.float32)

    def __call__(self) -> None:
        for _ in range(16):
            np.matmul(self._a, self._a, out=self._b)
        self._big.sum()


def least_disturbed_ms(kernel: Callable[[], object]) -> float:
    """Time of a reference kernel when the machine is least disturbed: the 10 % quantile of 300 bursts, a fifth of a second."""
    return float(np.quantile([_burst(kernel, 3, perf_counter_ns) for _ in range(300)], 0.1)) / 1e6


def time_calls(
    functions: Sequence[Callable[[], object]],
    *,
    rounds: int = 20,
    max_rounds: int = 80,
    precision: float = 0.02,
    limit: float = 0.25,
    burst_ms: float = 0.4,
    patience_s: float = 20.0,
    baseline_ms: float | None = None,
    reference: Callable[[], object] | None = None,
    clock: Clock = perf_counter_ns,
) -> list[Timing]:
    """Time several functions in turns. Functions to be compared must be timed in the same call.

    Args:
        functions: called without arguments; their inputs are prepared in advance, so copying them is not timed.
        rounds: minimum number of rounds, with one burst of calls per function.
        max_rounds: maximum number of rounds, none started after `patience_s`, while a tenth of the intervals is wider than
            `precision`.
        precision: target half-width of the 95 % intervals, as a fraction of the estimate.
        limit: half-width above which the machine is rejected as too noisy, if more than a tenth of the intervals exceed it.
        burst_ms: length of a burst; at least four calls.
        patience_s: seconds after which only `rounds` are completed; five times longer before the machine is rejected.
        baseline_ms: time of the reference kernel on the undisturbed machine. Times are scaled to it, so measurements with the same
            baseline are comparable across hours. Default: its lower quartile during this call.
        reference: kernel to use instead of `ReferenceKernel`.
        clock: returns nanoseconds.

    Raises:
        DeviceError: the machine is too noisy.
    """
    if not functions:
        return []
    if not 2 <= rounds <= max_rounds:
        raise ValueError(f"rounds is {rounds} and max_rounds {max_rounds}: give 2 <= rounds <= max_rounds")
    kernel = reference or ReferenceKernel()
    started = clock()
    with _no_garbage_collection():
        warm = [_warm_up(function, clock) for function in functions]
        _warm_up(kernel, clock)
        calls = [min(max(4, math.ceil(burst_ms * 1e6 / ns)), 40) for ns in warm]
        quotients: list[list[float]] = [[] for _ in functions]
        bases: list[float] = []
        while True:
            _round(functions, calls, kernel, clock, quotients, bases)
            done = len(quotients[0])
            if done < rounds or (done % 5 and done < max_rounds):
                continue
            base = baseline_ms or float(np.quantile(bases, QUANTILE)) / 1e6
            ratios, quantile = np.array(quotients), QUANTILE
            if len(functions) >= LEVELED:
                ratios, quantile = _leveled(ratios), 0.5
            timings = [_timing(row, base, n, quantile) for row, n in zip(ratios, calls, strict=True)]
            wide = float(np.quantile([t.spread for t in timings], 0.9))
            patience = patience_s if wide <= limit else STUBBORN * patience_s
            if wide <= precision or done >= max_rounds or clock() - started > patience * 1e9:
                break
    if wide > limit:
        raise DeviceError(
            f"this machine is too noisy to measure: after {done} rounds a tenth of the 95 % intervals are wider than "
            f"±{wide:.0%}, and at most ±{limit:.0%} is allowed{_load()}: stop other programs and try again"
        )
    return timings


def _round(
    functions: Sequence[Callable[[], object]],
    calls: Sequence[int],
    reference: Callable[[], object],
    clock: Clock,
    quotients: list[list[float]],
    bases: list[float],
) -> None:
    """Run one burst of each function, and of the reference before, after and about every `REFERENCE_EVERY_MS` in between."""
    before, started = _burst(reference, 3, clock), clock()
    bases.append(before)
    pending: list[tuple[int, float]] = []
    for i, (function, n) in enumerate(zip(functions, calls, strict=True)):
        pending.append((i, _burst(function, n, clock)))
        if clock() - started > REFERENCE_EVERY_MS * 1e6 or i == len(functions) - 1:
            after = _burst(reference, 3, clock)
            bases.append(after)
            for j, ns in pending:
                quotients[j].append(2 * ns / (before + after))
            before, started, pending = after, clock(), []


def _burst(function: Callable[[], object], calls: int, clock: Clock) -> float:
    """The shortest of several calls in ns, after one that does not count."""
    function()
    best = 1 << 62
    for _ in range(calls):
        start = clock()
        function()
        best = min(best, clock() - start)
    return max(best, 1)


def _warm_up(function: Callable[[], object], clock: Clock) -> float:
    """Call until two bursts in a row are not 2 % faster, at most 30 bursts; return the shortest call in ns."""
    best, since = _burst(function, 3, clock), 0
    for _ in range(30):
        again = _burst(function, 3, clock)
        since = 0 if again < 0.98 * best else since + 1
        best = min(best, again)
        if since == 2:  # the estimate is a quantile over rounds: a third burst would only take time
            break
    return best


def _leveled(ratios: Floats) -> Floats:
    """The ratios (functions, rounds) without the deviation shared by neighboring functions in a round."""
    relative = ratios / np.median(ratios, 1, keepdims=True)
    shared = [np.median(relative[max(0, i - NEIGHBORS) : i + NEIGHBORS + 1], 0) for i in range(len(relative))]
    return np.asarray(ratios / np.array(shared))


def _timing(quotients: Floats, base: float, calls: int, quantile: float) -> Timing:
    """A quantile with its 95 % interval from order statistics (normal approximation to the binomial)."""
    n = len(quotients)
    values = np.sort(quotients) * base
    half = 1.96 * math.sqrt(n * quantile * (1 - quantile))
    low, high = max(0, math.floor(n * quantile - half)), min(n - 1, math.ceil(n * quantile + half))
    return Timing(float(np.quantile(values, quantile)), float(values[low]), float(values[high]), n * calls)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Turn garbage collection off, which would disturb only some of the calls."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load() -> str:
    """How busy the machine is, if the system reports it."""
    try:
        return f" (load average {os.getloadavg()[0]:.1f} on {processors()} processors)"
    except (AttributeError, OSError):
        return ""
