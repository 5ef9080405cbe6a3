"""Choose the network for a budget, found or given, time it once more, alone, and name it."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ...arch import Arch
from ...common.progress import Progress
from ...errors import DeviceError, InfeasibleError
from ...latency import Device, Timing
from ...options.shared import Budget
from ..search import Candidate, Searcher

CONFIRMATIONS = 3
SEARCHES = 3
TOLERANCE = 0.1  # of the latency budget


def confirmed(searcher: Searcher, budget: Budget, *, finalists: int, seed: int, progress: Progress) -> tuple[Candidate, Timing]:
    """The best candidate that meets the latency budget when timed once more, alone; if none does, search with a lower limit.

    Raises:
        DeviceError: after `SEARCHES` searches, all candidates exceed the budget by more than the tolerance.
    """
    closest: tuple[float, Candidate, Timing] | None = None
    aim = budget
    for _ in range(SEARCHES):
        try:
            candidates = searcher.find(aim, finalists=finalists, seed=seed, progress=progress)[:finalists]
        except InfeasibleError:
            if closest is None:
                raise
            break  # nothing is below the requested limit; the closest may be close enough
        for candidate in candidates:
            timing = _shortest(searcher, candidate.arch, budget.latency_ms)
            if budget.latency_ms is None or timing.ms <= budget.latency_ms:
                return candidate, timing
            over = timing.ms / budget.latency_ms - 1
            if closest is None or over < closest[0]:
                closest = over, candidate, timing
        assert closest is not None
        assert aim.latency_ms is not None  # without a latency limit the first candidate is taken
        aim = replace(aim, latency_ms=0.98 * aim.latency_ms / (1 + closest[0]))
    assert closest is not None
    over, candidate, timing = closest
    if over > TOLERANCE:
        raise DeviceError(
            f"networks found for {budget} took {timing.ms:.3g} ms or more when timed once more: the machine is too noisy, try "
            "again when it is idle"
        )
    return candidate, timing


def measure_given(searcher: Searcher, budget: Budget, arch: Arch, *, progress: Progress) -> tuple[Candidate, Timing]:
    """Measure the given network.

    Raises:
        DeviceError: it exceeds its latency budget by more than the tolerance.
    """
    progress.say("measuring the network")
    searcher.run.space.check(arch)
    (candidate,), timing = searcher.measure([arch]), _shortest(searcher, arch, budget.latency_ms)
    if budget.latency_ms is not None and timing.ms > budget.latency_ms * (1 + TOLERANCE):
        raise DeviceError(
            f"the network took {timing.ms:.3g} ms when measured, but the limit is {budget.latency_ms:.3g} ms: raise the limit, or "
            "try again when the machine is idle"
        )
    return candidate, timing


def _shortest(searcher: Searcher, arch: Arch, limit_ms: float | None) -> Timing:
    """The first time within the limit, else the shortest of `CONFIRMATIONS`: disturbances only make a measurement longer."""
    timing = searcher.time(arch)
    for _ in range(CONFIRMATIONS - 1):
        if limit_ms is None or timing.ms <= limit_ms:
            break
        timing = min(timing, searcher.time(arch), key=lambda found: found.ms)
    return timing


def folder_name(device: Device, budget: Budget) -> str:
    """A folder name with the device and the limits, such as "onnxruntime-5ms" or "onnxruntime-threads2-5ms"."""
    settings = [f"{key}{value}" for key, value in (("threads", device.threads), ("batch", device.batch)) if value != 1]
    where = [] if device.host is None else [re.sub(r"[^\w.-]+", "-", device.host.removeprefix("ssh://"), flags=re.ASCII)]
    return "-".join([device.runtime, *where, *settings, limits_name(budget)])


def name_in(place: Path, unfinished: Path, device: Device, budget: Budget) -> str:
    """`folder_name`, or its form in earlier versions, such as "onnxruntime-3e08macs", if a network of that name exists.

    Args:
        place: folder of the networks.
        unfinished: folder of networks that are being fine-tuned.
        device: see `folder_name`.
        budget: see `folder_name`.
    """
    now, parts = folder_name(device, budget), []
    for name, value in asdict(budget).items():
        if value is not None:
            parts.append(f"{value:.4g}" + {"latency_ms": "ms", "memory_bytes": "bytes"}.get(name, name.removesuffix("_bytes")))
    before = f"{folder_name(device, Budget()).removesuffix('best')}{'-'.join(parts or ['best'])}".replace("+", "")
    known = (place / before).exists() or any(unfinished.glob(f"{before}-*"))
    return before if known and not (place / now).exists() else now


def limits_name(budget: Budget) -> str:
    """The limits as a name, such as "5ms" or "300k-params"; "best" without any."""
    units = {"macs": "-macs", "params": "-params", "memory_bytes": "B", "flash_bytes": "B-flash", "ram_bytes": "B-ram"}
    parts = [
        f"{_plain(value)}ms" if name == "latency_ms" else f"{_short(value)}{units[name]}"
        for name, value in asdict(budget).items()
        if value is not None
    ]
    return "-".join(parts or ["best"])


def _short(value: float) -> str:
    """1500 as 1.5k, 3e8 as 300M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if float(f"{value:.4g}") >= size:
            return f"{_plain(value / size)}{unit}"
    return _plain(value)


def _plain(value: float) -> str:
    """Four significant digits, without a power of ten."""
    return np.format_float_positional(float(f"{value:.4g}"), trim="-")
