"""More than time: the memory that a model takes in its runtime, and energy where the processor counts it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import DeviceError
from ..ops import Shape
from .device import Device

__all__ = ["energy_mj", "peak_memory_bytes"]

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
small = load_onnx(open(sys.argv[4], "rb").read(), device)  # brings the runtime's own memory in
small(np.zeros((device.batch, 1, 8, 8), np.float32))
before = peak()
load_onnx(model, device)(np.zeros((device.batch, *shape), np.float32))
print(peak() - before)
"""


def peak_memory_bytes(model: Path, shape: Shape, device: Device, tiny: Path) -> int:
    """What loading and running an ONNX file adds to the peak memory of a process of its own that has the runtime loaded.

    Args:
        model: an ONNX file with one input.
        shape: of one input, without the batch.
        device: a runtime for ONNX files on this machine.
        tiny: an ONNX file of next to nothing, with inputs (batch, 1, 8, 8).

    Raises:
        DeviceError: the model does not run.
    """
    arguments = [str(model), device.spec, "x".join(map(str, shape)), str(tiny)]
    done = subprocess.run([sys.executable, "-P", "-c", PROBE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"{model}: it does not run in a process of its own: {last[:300]}")
    return int(done.stdout)


def energy_mj(function: Callable[[], object], *, seconds: float = 1.0, counters: Path = POWERCAP) -> float | None:
    """Millijoules of one call, of all processor packages together and whatever else they do.

    None where nothing is counted, or the counters are for others to read: Linux lets only root read them, since they
    can betray secrets (CVE-2020-8694).

    Args:
        function: the call.
        seconds: for how long it is repeated.
        counters: the kernel's folder of RAPL counters.
    """
    packages = [
        path for path in sorted(counters.glob("intel-rapl:*")) if path.name.count(":") == 1 and (path / "energy_uj").exists()
    ]
    if not packages:
        return None
    try:
        before, ranges = _read(packages, "energy_uj"), _read(packages, "max_energy_range_uj")
    except OSError:
        return None
    calls, end = 0, time.perf_counter() + seconds
    while calls == 0 or time.perf_counter() < end:
        function()
        calls += 1
    after = _read(packages, "energy_uj")
    used = sum(b - a if b >= a else b + most - a for a, b, most in zip(before, after, ranges, strict=True))
    return used / 1e3 / calls


def _read(packages: list[Path], name: str) -> list[int]:
    return [int((path / name).read_text()) for path in packages]
