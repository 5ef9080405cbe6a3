"""`Ssh`: run commands on another machine, through the system's ssh."""

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import IO

from ...errors import DeviceError
from ..device import Host

BROKEN = 255  # ssh's exit code when the connection fails
MOST_BYTES = 10_000_000  # per answer
SETTINGS = (
    "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3",
    "ForwardAgent=no", "ForwardX11=no", "RequestTTY=no",  # regardless of the user's settings
    "ControlMaster=no",  # a background master would keep the streams open that are read here
)  # fmt: skip


class Ssh:
    """Runs commands on a host, whose answers are only ever treated as text.

    Args:
        patience_s: how long a lost connection is retried.
        options: options of ssh, before the host.
        say: called with a message when a lost connection is retried.
    """

    def __init__(
        self, host: Host, *, patience_s: float = 600.0, options: Sequence[str] = (), say: Callable[[str], None] = lambda text: None
    ) -> None:
        if shutil.which("ssh") is None:
            raise DeviceError("there is no ssh on this machine: install an OpenSSH client")
        self.host, self.patience_s, self.say = host, patience_s, say
        port = () if host.port is None else ("-p", str(host.port))
        address = host.name.strip("[]") if host.user is None else f"{host.user}@{host.name.strip('[]')}"
        settings = [word for setting in SETTINGS for word in ("-o", setting)]
        self._command = ["ssh", *settings, *options, *port, "--", address]
        self._connected = False

    def __call__(self, *words: str, limit_s: float | None = None, patience_s: float | None = None) -> str:
        """Run a command, quoted for the shell, and return its output. It must be idempotent, as a lost connection is retried.

        Args:
            limit_s: seconds without an answer after which the connection counts as lost; None for no limit.
            patience_s: overrides this object's.

        Raises:
            DeviceError: the host cannot be reached, or the command fails.
        """
        return self.shell(shlex.join(words), limit_s=limit_s, patience_s=patience_s)

    def shell(self, line: str, stdin: bytes = b"", *, limit_s: float | None = None, patience_s: float | None = None) -> str:
        """Like `__call__`, for a shell command line, which reads `stdin`.

        Raises:
            DeviceError: the host cannot be reached, or the command fails.
        """
        patience_s = self.patience_s if patience_s is None else patience_s
        end, pause = time.monotonic() + patience_s, 0.5
        while True:
            code, out, err = _run([*self._command, line], stdin, limit_s)
            detail = printable_text(" ".join((err or out).decode(errors="replace").split())[-300:])
            if len(out) >= MOST_BYTES:
                raise DeviceError(f"{self.host}: it sent {MOST_BYTES // 10**6} MB or more, which is no answer: check the host")
            if code != BROKEN:
                self._connected = True
                if code != 0 and not out.startswith(b"{"):
                    raise DeviceError(f"{self.host}: {line.split()[0]} failed there: {detail or f'exit code {code}'}")
                return out.decode(errors="replace")
            if not self._connected:
                raise DeviceError(
                    f"{self.host} cannot be reached: {detail}: try ssh {self._command[-1]} by hand, with a key, not a password"
                )
            if time.monotonic() + pause > end:
                raise DeviceError(f"{self.host}: the connection broke and did not come back in {patience_s:.0f} s: {detail}")
            self.say(f"{self.host}: connection lost, trying again")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)


def printable_text(text: str) -> str:
    """The text without control characters that could affect the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _run(command: Sequence[str], stdin: bytes, limit_s: float | None) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a command, at most `MOST_BYTES` each; it is killed if it writes more."""
    output: dict[str, bytes] = {}

    def read(name: str, stream: IO[bytes]) -> None:
        output[name] = stream.read(MOST_BYTES)
        if len(output[name]) == MOST_BYTES:
            process.kill()

    with tempfile.TemporaryFile() as input_file:
        input_file.write(stdin)
        input_file.seek(0)
        with subprocess.Popen(command, stdin=input_file, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            readers = [Thread(target=read, args=pair) for pair in (("out", process.stdout), ("err", process.stderr))]
            for reader in readers:
                reader.start()
            late = b""
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                late = f"no answer in {limit_s:.0f} s".encode()
            finally:
                process.kill()  # does nothing to a process that has ended
                for reader in readers:
                    reader.join()
    return (BROKEN, b"", late) if late else (process.returncode, output["out"], output["err"])
