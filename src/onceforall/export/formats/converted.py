"""Formats of one file that a converter makes and a runtime loads: the same errors for all of them."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ...errors import DeviceError, VerificationError
from ...files import reading_or_writing, write_bytes
from ...packages import one_line
from .common import Run

__all__ = ["load_converted", "write_converted"]


def write_converted(path: Path, convert: Callable[[], bytes]) -> None:
    """Write what `convert` makes.

    Raises:
        VerificationError: the network cannot be converted.
        FileError: the file cannot be written.
    """
    try:
        content = convert()
    except DeviceError as error:
        raise VerificationError(f"{path.name}: {error}") from error
    write_bytes(path, content)


def load_converted(path: Path, runtime: str, load: Callable[[bytes], Callable[[Tensor], Tensor]]) -> Run:
    """The file's network; `load` makes a function of images from its content.

    Raises:
        VerificationError: the runtime cannot load it; later, that it cannot run it.
        FileError: the file cannot be read.
    """
    with reading_or_writing(path):
        content = path.read_bytes()
    try:
        compute = load(content)
    except DeviceError as error:
        raise VerificationError(f"{path}: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            return compute(x)
        except Exception as error:  # runtimes raise classes of their own
            shape = tuple(x.shape)
            raise VerificationError(f"{path}: {runtime} cannot run it on images of shape {shape}: {one_line(error)}") from error

    return run
