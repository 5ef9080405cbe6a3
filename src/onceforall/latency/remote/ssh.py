"""`Ssh`: commands on another machine, through the system's own ssh."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

from ...errors import DeviceError
from ..host import Host

__all__ = ["Ssh"]

BROKEN = 255  # ssh's exit code when the connection fails
OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")


class Ssh:
    """Commands on a host. What it answers is only ever read as text.

    Args:
        host: where.
        patience_s: for how long a connection that broke is tried anew.
        options: of ssh, before the host.
        on_wait: called with a message when the connection broke and is tried anew.
    """

    def __init__(
        self,
        host: Host,
        *,
        patience_s: float = 600.0,
        options: Sequence[str] = (),
        on_wait: Callable[[str], None] = lambda text: None,
    ) -> None:
        if shutil.which("ssh") is None:
            raise DeviceError("there is no ssh on this machine: install an OpenSSH client")
        self.host, self.patience_s, self.on_wait = host, patience_s, on_wait
        port = () if host.port is None else ("-p", str(host.port))
        address = host.name.strip("[]") if host.user is None else f"{host.user}@{host.name.strip('[]')}"
        self._command = ["ssh", *OPTIONS, *options, *port, "--", address]
        self._connected = False

    def __call__(self, *words: str, stdin: bytes = b"") -> str:
        """Run a command there; its output. Words are quoted. A broken connection is tried anew, so it must be safe to do twice.

        Raises:
            DeviceError: the host cannot be reached, or the command fails.
        """
        return self.shell(shlex.join(words), stdin)

    def shell(self, line: str, stdin: bytes = b"") -> str:
        """As `__call__`, for a line of the shell there.

        Raises:
            DeviceError: the host cannot be reached, or the command fails.
        """
        end, pause = time.monotonic() + self.patience_s, 0.5
        while True:
            done = subprocess.run([*self._command, line], input=stdin, capture_output=True, check=False)
            said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[-300:]
            if done.returncode != BROKEN:
                self._connected = True
                if done.returncode != 0 and not done.stdout.startswith(b"{"):
                    raise DeviceError(f"{self.host}: {line.split()[0]} failed there: {said or f'exit code {done.returncode}'}")
                return done.stdout.decode(errors="replace")
            if not self._connected:
                raise DeviceError(
                    f"{self.host} cannot be reached: {said}: try ssh {self._command[-1]} by hand; keys only, no passwords"
                )
            if time.monotonic() + pause > end:
                raise DeviceError(f"{self.host}: the connection broke and did not come back in {self.patience_s:.0f} s: {said}")
            self.on_wait(f"{self.host}: connection lost, trying again")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)
