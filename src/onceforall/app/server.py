"""The explorer's server: it listens, serves until Ctrl-C without printing, and leaves nothing running."""

import errno
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ..errors import DataError, ServerError
from ..pipeline import Run
from ..pipeline.run_directory.images import gone
from .safety import Guard
from .web import App

SWITCH_S = 0.001  # interval for switching threads, so that a search does not delay an answer


@dataclass(frozen=True)
class Explorer:
    """A run that can be explored. `url` has the key, without which no request is answered."""

    run: Run
    host: str
    port: int
    key: str
    socket: socket.socket

    @classmethod
    def listening(cls, folder: Path, *, host: str, port: int, data: str | None = None) -> "Explorer":
        """Open the run and take the port. See `onceforall.app.explorer`."""
        run = Run.open(folder, data)
        if (place := run.new_place) is not None and (text := gone(place)):
            raise DataError(f"{text}: check --data")
        if not 0 <= port < 65536:
            raise ServerError(f"port {port}: give one from 1 to 65535, or 0 for a free one")
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.create_server((str(address[0]), port), family=family, backlog=128)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # otherwise an answer's body waits 40 ms
        except (socket.gaierror, ValueError):  # unknown, or cannot be a name, such as ".."
            raise ServerError(f"--host {host!r}: there is no such address: use 127.0.0.1") from None
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: f"port {port} is in use: choose another with --port, or 0 for a free one",
                errno.EACCES: f"port {port} is reserved for administrators: choose another with --port",
                errno.EADDRNOTAVAIL: f"--host {host} is not an address of this machine: use 127.0.0.1",
            }
            raise ServerError(reasons.get(error.errno or 0, f"--host {host} --port {port}: {error.strerror or error}")) from None
        return cls(run, host, listener.getsockname()[1], secrets.token_urlsafe(24), listener)

    @property
    def url(self) -> str:
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
        host = everywhere.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}/?key={self.key}"

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        app = App(self.run)
        guarded = Guard(app.routes(), key=self.key, host=self.host, port=self.port)
        config = uvicorn.Config(guarded, log_level="error", access_log=False, lifespan="on", timeout_graceful_shutdown=2, ws="none")
        server = uvicorn.Server(config)
        app.stopping = lambda: server.should_exit
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            server.run(sockets=[self.socket])
        finally:
            sys.setswitchinterval(before)
            app.stop()
            self.socket.close()
