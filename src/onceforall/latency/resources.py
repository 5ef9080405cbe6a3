"""Memory that a model needs in its runtime, and its energy if the processor measures it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import DeviceError
from ..ops import Shape
from .device import Device

POWERCAP = Path("/sys/class/powercap")
PROBE = """
import resource, sys
import numpy as np
from onceforall.latency.device import Device
from onceforall.latency.meters import load_onnx
def peak():
    if sys.platform == "linux":  # there, ru_maxrss begins with the peak of the process that started this one
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model, device, shape = open(sys.argv[1], "rb").read(), Device.parse(sys.argv[2]), tuple(map(int, sys.argv[3].split("x")))
small = load_onnx(open(sys.argv[4], "rb").read(), (1, 8, 8), device)  # allocates the runtime's own memory
small(np.zeros((device.batch, 1, 8, 8), np.float32))
before = peak()
load_onnx(model, shape, device)(np.zeros((device.batch, *shape), np.float32))
print(peak() - before)
"""


def peak_memory_bytes(model: Path, shape: Shape, device: Device, tiny: Path) -> int:
    """Increase in peak memory of a separate process, with the runtime already loaded, from loading and running an ONNX file.

    Args:
        model: an ONNX file with one input.
        shape: shape of the input, without the batch.
        device: a runtime for ONNX files on this machine.
        tiny: a minimal ONNX file with inputs (batch, 1, 8, 8).

    Raises:
        DeviceError: the model does not run.
    """
    arguments = [str(model), device.spec, "x".join(map(str, shape)), str(tiny)]
    done = subprocess.run([sys.executable, "-P", "-c", PROBE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"{model}: it fails in a separate process: {last[:300]}")
    return int(done.stdout)


class EnergyCounter:
    """Total energy in joules used by all processor packages, for all programs, since the counter was created.

    Linux lets only root read the processor's counters, since they can leak secrets (CVE-2020-8694).

    Args:
        counters: the kernel's folder of RAPL counters.
    """

    def __init__(self, counters: Path = POWERCAP) -> None:
        folders = [path for path in sorted(counters.glob("intel-rapl:*")) if path.name.count(":") == 1]
        self._packages = [path for path in folders if (path / "energy_uj").exists()]
        self._used = 0
        try:
            self._last, self._ranges = self._read("energy_uj"), self._read("max_energy_range_uj")
        except OSError:
            self._packages = []

    def joules(self) -> float | None:
        """Energy so far; None if there are no counters or they are not readable.

        Counters wrap around after about 260 kJ, an hour of a busy server's package: call this more often than that.
        """
        if not self._packages:
            return None
        try:
            now = self._read("energy_uj")
        except OSError:
            return None
        self._used += sum(b - a if b >= a else b + most - a for a, b, most in zip(self._last, now, self._ranges, strict=True))
        self._last = now
        return self._used / 1e6

    def _read(self, name: str) -> list[int]:
        return [int((path / name).read_text()) for path in self._packages]


def energy_mj(function: Callable[[], object], *, seconds: float = 1.0, counters: Path = POWERCAP) -> float | None:
    """Millijoules per call, over all processor packages and including other programs; None as in `EnergyCounter`.

    Args:
        function: called repeatedly.
        seconds: how long to repeat it.
        counters: the kernel's folder of RAPL counters.
    """
    counter = EnergyCounter(counters)
    if counter.joules() is None:
        return None
    calls, end = 0, time.perf_counter() + seconds
    while calls == 0 or time.perf_counter() < end:
        function()
        calls += 1
    used = counter.joules()
    return None if used is None else 1000 * used / calls
