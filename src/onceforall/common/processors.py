"""How many processors this process may use, and how long its threads spin while they wait for each other.

Only the standard library: this runs before torch is loaded, and as part of the agent on other machines.
"""

import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# At the barrier that ends a parallel region, threads spin before they sleep. libgomp's default of 300,000 turns can take longer
# than a scheduler time slice: next to one other busy process, a step of the digits' network took 20 times as long as alone on
# 2 cores of an Intel machine. With 10,000 turns it takes 4.3 times as long on an AMD one, where 30,000 take 6.9 times, and 3,000
# cost up to a fifth when alone (benchmarks/contended.py, docs/training.md). LLVM's and Intel's OpenMP (macOS, Windows, conda)
# count milliseconds, 200 by default; 1 is the smallest value that all of their versions accept besides not spinning at all.
SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


def bound_spinning() -> None:
    """Set the environment variables of `SPINNING`, for libraries loaded later and for child processes.

    The user's settings win: each of the variables, and OMP_WAIT_POLICY over both. Nothing is set if torch is already loaded,
    because that would affect child processes only.
    """
    if "torch" in sys.modules or os.environ.get("OMP_WAIT_POLICY", "").strip():
        return
    for name, value in SPINNING.items():
        if not os.environ.get(name, "").strip():
            os.environ[name] = value


def processors(root: Path = Path("/")) -> int:
    """How many processors this process may use at once, at least 1.

    That is the processors it may run on (`taskset`), and at most the CPU time granted by its control groups (containers), rounded
    up: with 1.5, two threads compute half again as much as one.

    Args:
        root: of the file system with the control groups.
    """
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        usable = os.cpu_count() or 1
    quota = cpu_quota(root)
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def leads() -> bool:
    """Whether this process prints and writes files: of several that torchrun started, only the first does.

    RANK alone, which some clusters set, does not mean that there are others.
    """
    try:
        return int(os.environ.get("WORLD_SIZE", "1")) < 2 or int(os.environ.get("RANK", "0")) == 0
    except ValueError:  # set for another purpose
        return True


def processor_name() -> str:
    """The processor's model name, as reported by the operating system."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def processor_count_text(count: int) -> str:
    """For messages about too many threads: the processors of this machine, and how many this process may use."""
    total = os.cpu_count() or 1
    plural = "processor" if total == 1 else "processors"
    return f"this machine has {total} {plural}" + ("" if count == total else f", of which this process may use {count}")


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPU time that control groups grant this process, in processors; None where there is no limit.

    Both versions of Linux's control groups are read, and all visible groups above the process's own: the smallest limit counts.
    """
    quotas = []
    for folder, version in _groups(root):
        with suppress(OSError, ValueError):  # a group without the controller, or one that cannot be read, sets no limit
            if version == 2:
                most, period = (folder / "cpu.max").read_text().split()
            else:
                most, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if most != "max" and int(most) > 0 and int(period) > 0:  # version 1 writes -1 for no limit
                quotas.append(int(most) / int(period))
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Folders of this process's control groups that can limit its CPU time, each from its own upwards, with their version."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text(errors="replace").splitlines()
        groups = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:  # another system, or no /proc
        return
    group = {}  # version -> path of the process's group within the hierarchy
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(","):
            group[1] = path
        elif number == "0" and not controllers:
            group[2] = path
    for line in mounts:
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(), kind.split()
        version = {"cgroup": 1, "cgroup2": 2}.get(kinds[0] if kinds else "")
        if version not in group or len(fields) < 5 or (version == 1 and "cpu" not in kinds[-1].split(",")):
            continue
        mount = root / re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]).lstrip("/")  # a space is \040
        # The mount shows the hierarchy from `top` on. In a container that may be the process's own group, under another name.
        top, path = fields[3].rstrip("/"), group[version]
        below = path[len(top) :].strip("/") if path == top or path.startswith(f"{top}/") else ""
        parts = below.split("/") if below and ".." not in below.split("/") else []
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth]), version
