"""The agent on the remote machine, which needs Python, numpy and a runtime, but no torch; `bundle.agent_zip` packs its code.

    python agent.zip about                what this machine is, as JSON
    python agent.zip start FOLDER         measure what FOLDER/job.zip describes, in the background
    python agent.zip result FOLDER S      wait up to S seconds for the result; JSON
    python agent.zip forget FOLDER        stop measuring and remove the folder

Models are sent without weights, which would be most of the bytes: all read one file of random numbers that is created here. A
running job is not affected when the connection breaks; starting it again has no effect.
"""

import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...common.processors import processors
from ..measure import ReferenceKernel, least_disturbed_ms, time_calls

WEIGHTS = "weights.bin"  # its name in the models
CHUNK = 1 << 20  # random numbers generated at once
OpenModel = Callable[..., tuple[Callable[[Any], object], Callable[[Any], object]]]


def run_agent(arguments: Sequence[str], package: str, open_model: OpenModel) -> int:
    """Run the command in the arguments and return the exit code: 0 if the answer is on stdout, 1 if an error is.

    Args:
        package: package of the runtime.
        open_model: loads a model, see `Runtime.there`.
    """
    commands: dict[str, Callable[..., object]] = {
        "about": partial(_about, package), "start": _start, "result": _result, "forget": _forget,
        "work": partial(_work, open_model),
    }  # fmt: skip
    try:
        print(json.dumps(commands[arguments[0]](*arguments[1:])), flush=True)
    except Exception as error:
        print(json.dumps({"error": " ".join(str(error).split()) or type(error).__name__}), flush=True)
        return 1
    return 0


def _about(package: str) -> dict[str, Any]:
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(f"{error}: pip install {package} there") from None
    return {
        "version": str(module.__version__), "processor": _processor(), "cpus": processors(), "python": platform.python_version(),
        "baseline_ms": least_disturbed_ms(ReferenceKernel()),
    }  # fmt: skip


def _start(folder: str) -> dict[str, Any]:
    place = Path(folder)
    if not (place / "result.json").exists() and not _alive(place):
        with open(place / "log.txt", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, sys.argv[0], "work", folder],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        (place / "pid").write_text(str(process.pid))
    return {}


def _result(folder: str, seconds: str) -> dict[str, Any]:
    place, end = Path(folder), time.monotonic() + float(seconds)
    while True:
        alive = _alive(place)  # before looking for the result, as the job may end in between
        if (place / "result.json").exists():
            result: dict[str, Any] = json.loads((place / "result.json").read_text())
            return result
        if not alive:
            log = (place / "log.txt").read_text(errors="replace") if (place / "log.txt").exists() else "it was never started"
            return {"error": "the measurement ended without a result: " + " ".join(log.split())[-300:]}
        if time.monotonic() > end:
            return {"running": True}
        time.sleep(0.05)


def _forget(folder: str) -> dict[str, Any]:
    place = Path(folder)
    if _alive(place):
        os.killpg(int((place / "pid").read_text()), 9)
    shutil.rmtree(place, ignore_errors=True)
    return {}


def _work(open_model: OpenModel, folder: str) -> dict[str, Any]:
    """Measure, and write the result, or the error, to result.json."""
    place = Path(folder)
    try:
        with zipfile.ZipFile(place / "job.zip") as archive:
            job = json.loads(archive.read("job.json"))
            models = [archive.read(name) for name in job["models"]]
        _random_weights(place / WEIGHTS, job["weights_bytes"])
        functions = []
        for i, (model, shape) in enumerate(zip(models, job["shapes"], strict=True)):
            path = place / f"{i}.onnx"
            path.write_bytes(model)
            functions.append(_load(open_model, path, job["threads"], shape))
        timings = time_calls(functions, **job["measure"])
        result: dict[str, Any] = {"timings": [asdict(timing) for timing in timings]}
    except Exception as error:
        result = {"error": " ".join(str(error).split()) or type(error).__name__}
    temporary = place / "result.tmp"
    temporary.write_text(json.dumps(result))
    os.replace(temporary, place / "result.json")
    return {}


def _load(open_model: OpenModel, path: Path, threads: int, shape: Sequence[int]) -> Callable[[], object]:
    """Load a model into the runtime, bound to a random input."""
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    return partial(open_model(str(path), threads=threads, shape=shape)[1], images)


def _random_weights(path: Path, size: int) -> None:
    """Write `size` bytes of small random numbers. Times depend on their values only if some are denormal; almost none are."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, size, 4 * CHUNK):
            file.write((0.1 * rng.random(CHUNK, np.float32) - 0.05).tobytes()[: size - start])


def _alive(place: Path) -> bool:
    """Whether the job's process is running.

    After a restart of the machine, another process may have its id; a zombie process has an id but no command line.
    """
    try:
        pid = int((place / "pid").read_text())
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline")
        return not command.exists() or str(place).encode() in command.read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine() or "unknown processor"
