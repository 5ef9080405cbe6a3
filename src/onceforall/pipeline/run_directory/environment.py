"""The environment of a result: versions, hardware, command, git state."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

from ...common.processors import processor_name, processors
from ...latency.device import package_version

PACKAGES = (
    "onceforall",
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "executorch",
    "litert-torch",
    "ai-edge-litert",
)


def environment() -> dict[str, Any]:
    """Versions, processor, threads, command, time, and the git commit of the working folder, if any."""
    import torch

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": processors(),
        "threads": torch.get_num_threads(),
        "git": _git(),
    }


def fit_threads() -> None:
    """Limit torch, and the BLAS of numpy and scipy, to the number of processors that this process may use.

    By default they ignore a container's CPU limit: allowed 2 of 64 processors, they would start 64 threads that wait for each
    other. OMP_NUM_THREADS, which torchrun and Ray also set, takes precedence.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS", "").strip():
        return
    most = processors()
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
    for library in ThreadpoolController().lib_controllers:
        if library.num_threads > most:
            library.set_num_threads(most)
    if not os.environ.get("OPENBLAS_NUM_THREADS"):
        os.environ["OPENBLAS_NUM_THREADS"] = str(most)  # read by scipy's BLAS, which is loaded later


def _git() -> str | None:
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
