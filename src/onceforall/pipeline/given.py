"""A network that a person chose, measured as `specialise` measures those it finds."""

from ..arch import Arch
from ..errors import DeviceError
from ..latency import Timing
from .search import Budget, Candidate, Searcher

__all__ = ["given"]


def given(searcher: Searcher, budget: Budget, arch: Arch, *, tries: int, tolerance: float) -> tuple[Candidate, Timing]:
    """Accuracy and latency of the network; the shortest of up to `tries` times counts.

    Args:
        searcher: of the run and device.
        budget: latency that it must keep.
        arch: the network.
        tries: times to measure.
        tolerance: share of the latency by which it may be longer.

    Raises:
        ArchError: it lies outside the run's space.
        DeviceError: it takes longer.
    """
    searcher.run.space.check(arch)
    (candidate,), timing = searcher.measure([arch]), searcher.time(arch)
    if budget.latency_ms is not None:
        for _ in range(tries - 1):
            if timing.ms > budget.latency_ms:
                timing = min(timing, searcher.time(arch), key=lambda found: found.ms)
        if timing.ms > budget.latency_ms * (1 + tolerance):
            raise DeviceError(
                f"the network took {timing.ms:.3g} ms when measured, and {budget.latency_ms:.3g} ms were allowed: allow more, or "
                "try again when the machine is quiet"
            )
    return candidate, timing
