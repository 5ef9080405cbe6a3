"""`Device`: what latency is measured on. A runtime with its settings, on this machine or another."""

import re
from dataclasses import dataclass, fields
from importlib import metadata

from ..backends import RUNTIMES
from ..common.processors import processor_name, processors
from ..errors import DeviceError, OnceForAllError
from .host import Host

ALIASES = {"cpu": "onnxruntime"}
IMPORTED = "imported"  # the runtime of a device whose times came in a file


@dataclass(frozen=True, slots=True)
class Device:
    """A runtime with its settings.

    Args:
        runtime: name in `onceforall.backends.RUNTIMES`.
        threads: that compute one network.
        batch: images per call; a latency is that of the whole call.
        host: another machine, "ssh://user@board"; see `remote.Host`. None for this one. With the runtime "imported", the name of
            a device whose times were imported.

    Raises:
        DeviceError: an unknown runtime, a number below 1, or a host of another form.
    """

    runtime: str
    threads: int = 1
    batch: int = 1
    host: str | None = None

    def __post_init__(self) -> None:
        if self.imported:
            if self.host is None or not re.fullmatch(r"\w[\w.-]{0,60}", self.host, re.ASCII):
                raise DeviceError(
                    f"a device whose times are imported needs a name of letters, digits, dots and dashes, not {self.host!r}: "
                    "such as imported@phone"
                )
        elif self.host is not None:
            object.__setattr__(self, "host", str(Host.parse(self.host)))
        if self.runtime not in (*RUNTIMES, IMPORTED):
            raise DeviceError(f"unknown runtime {self.runtime!r}: choose one of {', '.join((*RUNTIMES, *ALIASES))}")
        for key, value in (("threads", self.threads), ("batch", self.batch)):
            if value < 1:
                raise DeviceError(f"{key} is {value}: it must be a whole number of at least 1")

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Read "runtime" or "runtime:key=value,…", e.g. "onnxruntime:threads=2,batch=1". "cpu" is ONNX Runtime.

        After "@" comes another machine, as in "onnxruntime:threads=2@ssh://pi@board", or the name in "imported@phone".

        Raises:
            DeviceError: an unknown runtime or key, a value that is no whole number of at least 1, or a host of another form.
        """
        text, at, host = text.partition("@")
        runtime, _, rest = text.partition(":")
        keys = [field.name for field in fields(cls) if field.name not in ("runtime", "host")]
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
        return cls(ALIASES.get(runtime, runtime), **values, host=host if at else None)

    @property
    def imported(self) -> bool:
        """Whether its times came in a file, so that nothing can be measured on it."""
        return self.runtime == IMPORTED

    @property
    def on_processor(self) -> bool:
        """Whether it is this machine's processor, so that files which run there have its latency; not a GPU.

        Raises:
            OnceForAllError: see `Runtime.hardware`.
        """
        return self.host is None and RUNTIMES[self.runtime].hardware().name == processor_name()

    def __str__(self) -> str:
        """The canonical name, fit for a folder: "onnxruntime-threads1-batch1"; of another machine with its address."""
        where = "" if self.host is None else "-at-" + re.sub(r"[^\w.-]+", "-", self.host.removeprefix("ssh://"), flags=re.ASCII)
        return f"{self.runtime}-threads{self.threads}-batch{self.batch}{where}"

    @property
    def spec(self) -> str:
        """The text that `parse` reads."""
        return f"{self.runtime}:threads={self.threads},batch={self.batch}" + ("" if self.host is None else f"@{self.host}")


@dataclass(frozen=True, slots=True)
class Available:
    """A runtime as this machine has it.

    Args:
        runtime: name in `RUNTIMES`.
        version: of its package, None where that is not installed.
        processor: that it computes on; if it cannot run here, this machine's processor.
        threads: at most this many compute one network.
        lacks: what keeps this machine from using it and what to do, in one line; None if nothing does.
    """

    runtime: str
    version: str | None
    processor: str
    threads: int
    lacks: str | None = None


def list_devices() -> list[Available]:
    """Every runtime, with its version, what it computes on and the number of threads that it can use here."""
    return [available(name) for name in RUNTIMES]


def available(name: str) -> Available:
    """One runtime, by its name, as this machine has it."""
    runtime = RUNTIMES[name]
    version = package_version(runtime.package)
    try:
        hardware = runtime.hardware()
    except OnceForAllError as error:
        return Available(name, version, processor_name(), processors(), str(error))
    return Available(name, version, hardware.name, hardware.threads)


def package_version(package: str) -> str | None:
    """The installed version of a package, None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
