"""`Device`: a runtime with its settings, on this machine or another one (a `Host`), whose latency is measured."""

import re
from dataclasses import dataclass, fields
from importlib import metadata

from ..backends import RUNTIMES
from ..common.processors import processor_name, processors
from ..errors import DeviceError, OnceForAllError

ALIASES = {"cpu": "onnxruntime"}
IMPORTED = "imported"  # the runtime of a device whose times were read from a file
FORM = "ssh://[USER@]HOST[:PORT][?python=PATH]"
ADDRESS = re.compile(
    r"ssh://(?:(?P<user>\w[\w.-]*)@)?(?P<host>\w[\w.-]*|\[[0-9a-fA-F:]+\])(?::(?P<port>\d{1,5}))?(?:\?python=(?P<python>[\w./~+-]+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine to log in to without a password, and its Python.

    Args:
        name: host name or address.
        user: login name; None for ssh's default.
        port: port of sshd; None for ssh's default.
        python: Python command on the host, with numpy and the runtime installed.
    """

    name: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"

    @classmethod
    def parse(cls, text: str) -> "Host":
        """Read "ssh://user@board:22?python=venv/bin/python"; everything but the name is optional.

        Raises:
            DeviceError: a malformed address.
        """
        match = ADDRESS.fullmatch(text)
        if match is None:
            raise DeviceError(f"host {text!r} is malformed: give {FORM}")
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 0 < port < 65536:
            raise DeviceError(f"host {text!r}: the port must be from 1 to 65535")
        return cls(match["host"], match["user"], port, match["python"] or "python3")

    def __str__(self) -> str:
        """The text that `parse` reads."""
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{self.name}{port}" + ("" if self.python == "python3" else f"?python={self.python}")


@dataclass(frozen=True, slots=True)
class Device:
    """A runtime with its settings.

    Args:
        runtime: name in `onceforall.backends.RUNTIMES`.
        threads: number of threads per network.
        batch: images per call; latency refers to the whole call.
        host: another machine, "ssh://user@board", see `Host`; None for this machine. With the runtime "imported", the name of
            a device whose times were imported.

    Raises:
        DeviceError: an unknown runtime, a number below 1, or a malformed host.
    """

    runtime: str
    threads: int = 1
    batch: int = 1
    host: str | None = None

    def __post_init__(self) -> None:
        if self.imported:
            if self.host is None or not re.fullmatch(r"\w[\w.-]{0,60}", self.host, re.ASCII):
                raise DeviceError(
                    f"an imported device cannot be named {self.host!r}: use letters, digits, dots and dashes, as in imported@phone"
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
        """Read "runtime" or "runtime:key=value,…", e.g. "onnxruntime:threads=2,batch=1". "cpu" stands for ONNX Runtime.

        Another machine follows "@", as in "onnxruntime:threads=2@ssh://pi@board"; so does the name in "imported@phone".

        Raises:
            DeviceError: an unknown runtime or key, a value that is not a whole number of at least 1, or a malformed host.
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
        """Whether its times were read from a file, so nothing can be measured on it."""
        return self.runtime == IMPORTED

    @property
    def on_processor(self) -> bool:
        """Whether it is this machine's processor (not a GPU), so that files running here have its latency.

        Raises:
            OnceForAllError: see `Runtime.hardware`.
        """
        return self.host is None and RUNTIMES[self.runtime].hardware().name == processor_name()

    def __str__(self) -> str:
        """The canonical name, usable as a folder name: "onnxruntime-threads1-batch1", plus the address of another machine."""
        where = "" if self.host is None else "-at-" + re.sub(r"[^\w.-]+", "-", self.host.removeprefix("ssh://"), flags=re.ASCII)
        return f"{self.runtime}-threads{self.threads}-batch{self.batch}{where}"

    @property
    def spec(self) -> str:
        """The text that `parse` reads."""
        return f"{self.runtime}:threads={self.threads},batch={self.batch}" + ("" if self.host is None else f"@{self.host}")


@dataclass(frozen=True, slots=True)
class Available:
    """Availability of a runtime on this machine.

    Args:
        runtime: name in `RUNTIMES`.
        version: version of its package, None if it is not installed.
        processor: what it computes on; this machine's processor if it cannot run here.
        threads: maximum number of threads per network.
        lacks: one line on what prevents its use here and what to do; None if nothing does.
    """

    runtime: str
    version: str | None
    processor: str
    threads: int
    lacks: str | None = None


def list_devices() -> list[Available]:
    """List every runtime with its version, its processor and the number of threads that it can use here."""
    return [available(name) for name in RUNTIMES]


def available(name: str) -> Available:
    """The availability of a runtime, by name, on this machine."""
    runtime = RUNTIMES[name]
    version = package_version(runtime.package)
    try:
        hardware = runtime.hardware()
    except OnceForAllError as error:
        return Available(name, version, processor_name(), processors(), str(error))
    return Available(name, version, hardware.name, hardware.threads)


def package_version(package: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
