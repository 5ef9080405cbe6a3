"""Once for all: train one elastic network, then take a specialized network for any device without training again.

Only names that do not need torch are imported here, which is fast. Other names load their module on first use, and so do modules
such as `onceforall.pipeline`, without an explicit import.

`onceforall.space` is the function. The module of the same name, which defines `Space`, is loaded before the function is bound, so
that no later import can replace the function with the module.
"""

from typing import TYPE_CHECKING

from .common.processors import bound_spinning

bound_spinning()  # before anything loads a library that reads these environment variables: numpy may, with MKL

from .arch import Arch  # noqa: E402
from .common.lazy import load_on_use  # noqa: E402
from .plan import Plan  # noqa: E402
from .space import Space  # noqa: E402
from .spaces import space  # noqa: E402

if TYPE_CHECKING:
    from . import accuracy, calibrate, data, export, latency, pipeline, published, report, search, train  # noqa: F401
    from .export import load, load_bundle
    from .supernets.conversion import elastic
    from .supernets.supernet import Supernet

__all__ = ["Arch", "Plan", "Space", "Supernet", "__version__", "elastic", "load", "load_bundle", "space"]

__version__ = "0.1.0"

load_on_use(__name__)
