"""`ofa explore`: a web page about one run, on loopback. Sliders, the best network at once, pins, exports, live training."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..common.packages import require

if TYPE_CHECKING:
    from .server import Explorer

__all__ = ["explorer"]


def explorer(folder: Path, *, host: str = "127.0.0.1", port: int = 8471, data: str | None = None) -> "Explorer":
    """Open a run for exploring; the result has the address (`url`) and serves it until Ctrl-C (`serve`).

    Args:
        folder: the run directory.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        data: where the images are now, if they have moved since; None for where the run says.

    Raises:
        MissingExtraError: the extra "ui" is not installed.
        ServerError: the address is in use or not one of this machine.
        OnceForAllError: with one line on what is wrong and what to do.
    """
    for package in ("starlette", "uvicorn"):
        require(package, "ui")
    from .server import Explorer

    return Explorer.listening(folder, host=host, port=port, data=data)
