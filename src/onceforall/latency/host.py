"""`Host`: another machine, by its ssh address."""

import re
from dataclasses import dataclass

from ..errors import DeviceError

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
        found = ADDRESS.fullmatch(text)
        if found is None:
            raise DeviceError(f"host {text!r} is malformed: give {FORM}")
        port = None if found["port"] is None else int(found["port"])
        if port is not None and not 0 < port < 65536:
            raise DeviceError(f"host {text!r}: the port must be from 1 to 65535")
        return cls(found["host"], found["user"], port, found["python"] or "python3")

    def __str__(self) -> str:
        """The text that `parse` reads."""
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{self.name}{port}" + ("" if self.python == "python3" else f"?python={self.python}")
