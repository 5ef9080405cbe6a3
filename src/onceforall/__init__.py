"""Once for all: train one elastic network, then take a specialised network for any device without training again.

What needs no torch is imported here, which is quick; the names in `LAZY` load their module at first use.

The name `onceforall.space` is the function. The module of that name, which defines `Space`, is loaded before the function
is bound, so no later import can put the module in its place.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .processors import bound_spinning

bound_spinning()  # before anything loads a library that reads these environment variables: numpy may, with MKL

from .arch import Arch  # noqa: E402
from .plan import Plan  # noqa: E402
from .space import Space  # noqa: E402
from .spaces import space  # noqa: E402

if TYPE_CHECKING:
    from .conversion import elastic
    from .export import load, load_bundle
    from .supernet import Supernet

__all__ = ["Arch", "Plan", "Space", "Supernet", "__version__", "elastic", "load", "load_bundle", "space"]

__version__ = "0.1.0"

LAZY = {
    "Supernet": "onceforall.supernet",
    "elastic": "onceforall.conversion",
    "load": "onceforall.export",
    "load_bundle": "onceforall.export",
}
PARTS = {
    "accuracy",
    "calibrate",
    "data",
    "export",
    "latency",
    "pipeline",
    "published",
    "report",
    "search",
    "train",
}  # also without import


def __getattr__(name: str) -> Any:
    if name in PARTS:
        return import_module(f"onceforall.{name}")
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(LAZY[name]).__dict__[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY, *PARTS})
