"""`Device`: what latency is measured on. A runtime with its settings, on this machine."""

import os
import platform
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path

from ..errors import DeviceError
from .runtimes import RUNTIMES

__all__ = ["Available", "Device", "list_devices", "package_version", "processor_name"]

ALIASES = {"cpu": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Device:
    """A runtime with its settings.

    Args:
        runtime: name in `onceforall.latency.runtimes.RUNTIMES`.
        threads: that compute one network.
        batch: images per call; latencies are those of the whole call.

    Raises:
        DeviceError: an unknown runtime, or a number below 1.
    """

    runtime: str
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise DeviceError(f"unknown runtime {self.runtime!r}: choose one of {', '.join((*RUNTIMES, *ALIASES))}")
        for key, value in (("threads", self.threads), ("batch", self.batch)):
            if value < 1:
                raise DeviceError(f"{key} is {value}: it must be a whole number of at least 1")

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Read "runtime" or "runtime:key=value,…", e.g. "onnxruntime:threads=2,batch=1". "cpu" is ONNX Runtime.

        Raises:
            DeviceError: an unknown runtime or key, or a value that is no whole number of at least 1.
        """
        runtime, _, rest = text.partition(":")
        keys = [field.name for field in fields(cls) if field.name != "runtime"]
        values: dict[str, int] = {}
        for item in filter(None, rest.split(",")):
            key, _, value = item.partition("=")
            if key not in keys:
                raise DeviceError(
                    f"unknown device setting {key!r} in {text!r}: choose from {', '.join(keys)}, as in {runtime}:threads=1"
                )
            if key in values:
                raise DeviceError(f"{key} is given twice in {text!r}: give it once")
            if not value.isascii() or not value.isdigit():
                raise DeviceError(f"{key} is {value!r} in {text!r}: it must be a whole number of at least 1")
            values[key] = int(value)
        return cls(ALIASES.get(runtime, runtime), **values)

    def __str__(self) -> str:
        """The canonical name, fit for a folder: "onnxruntime-threads1-batch1"."""
        return f"{self.runtime}-threads{self.threads}-batch{self.batch}"

    @property
    def spec(self) -> str:
        """The text that `parse` reads."""
        return f"{self.runtime}:threads={self.threads},batch={self.batch}"


@dataclass(frozen=True, slots=True)
class Available:
    """A runtime as this machine has it; version is None where its package is not installed."""

    runtime: str
    version: str | None
    processor: str
    threads: int


def list_devices() -> list[Available]:
    """Every runtime, with its version, the processor's name and the number of threads that it can use here."""
    return [
        Available(name, package_version(runtime.package), processor_name(), os.cpu_count() or 1)
        for name, runtime in RUNTIMES.items()
    ]


def processor_name() -> str:
    """The processor's model name, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def package_version(package: str) -> str | None:
    """The installed version of a package, None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
