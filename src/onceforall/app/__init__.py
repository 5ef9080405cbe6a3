"""`ofa explore`: a local web page about one run: sliders that find the best network at once, pins, exports, live training."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..common.packages import require

if TYPE_CHECKING:
    from .server import Explorer

__all__ = ["explorer"]


def explorer(folder: Path, *, host: str = "127.0.0.1", port: int = 8471, data: str | None = None) -> "Explorer":
    """Open a run for exploring. The result has the address (`url`); its `serve` runs until Ctrl-C.

    Args:
        folder: the run directory.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        data: where the images are now, if they have moved; None for the place in run.json.

    Raises:
        MissingExtraError: the extra "ui" is not installed.
        ServerError: the address is in use or does not belong to this machine.
        OnceForAllError: with one line on what is wrong and what to do.
    """
    for package in ("starlette", "uvicorn"):
        require(package, "ui")
    from .server import Explorer

    return Explorer.listening(folder, host=host, port=port, data=data)
