"""Which export formats a test can use: those whose packages are not installed are skipped by name, never left out unseen."""

import pytest

from onceforall.errors import MissingExtraError
from onceforall.export import FORMATS

__all__ = ["EXTRAS", "format_here", "formats_of"]

MAIN = "onnx"
EXTRAS = [MAIN, *sorted({format.runtime.extra for format in FORMATS.values()} - {"", MAIN})]


def format_here(name: str) -> str:
    """A format; skips the test where its packages are not installed."""
    try:
        FORMATS[name].require()
    except MissingExtraError as error:
        pytest.skip(str(error))
    return name


def formats_of(extra: str) -> list[str]:
    """The formats that an extra brings, with the main one also those that need none; skips as `format_here`."""
    extras = ("", MAIN) if extra == MAIN else (extra,)
    return [format_here(name) for name, format in FORMATS.items() if format.runtime.extra in extras]
