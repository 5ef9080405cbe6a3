"""What a result depends on besides its arguments: versions, hardware, command, git state."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..latency.device import package_version, processor_name

__all__ = ["environment"]

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
    """Versions, processor, threads, command, time, and the git commit of the working folder where there is one."""
    import torch

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": _git(),
    }


def _git() -> str | None:
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
