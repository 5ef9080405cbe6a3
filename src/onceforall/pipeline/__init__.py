"""The commands of `ofa` as Python functions, one file per command, built from the layers below.

Every command has a function of the same name here; `ofa import` is `import_original` or `import_own`. Each takes an object of its
options class (`onceforall.options`), or the fields of that class as keyword arguments, and reports to a `progress`, see
`Progress`. Errors are `OnceForAllError`s with one line on what is wrong and what to do;
docstrings name the subclasses that a caller may want to catch.
"""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from ..common.progress import Progress
    from ..latency import list_devices as devices
    from ..options.presets import PRESETS, Preset
    from ..options.shared import Budget
    from ..report import report
    from .accuracies.measure_accuracy import measure_accuracy
    from .accuracies.predict import predict
    from .accuracies.predictor import compare_predictors, fit_predictor, next_subnets, show_predictor
    from .bundle import bundle
    from .classify import Classified, classify
    from .comparison.compare import compare
    from .demo import demo
    from .elastic import read_elastic as elastic
    from .evaluate import evaluate
    from .export_original import export_original
    from .front import front
    from .imports import import_original, import_own
    from .measure import measure
    from .profile import imported, kit, profile
    from .run_directory.run import Run
    from .search import search
    from .specialise import specialise
    from .status import status
    from .train import train

__all__ = [
    "PRESETS", "Budget", "Classified", "Preset", "Progress", "Run", "bundle", "classify", "compare", "compare_predictors", "demo",
    "devices", "elastic", "evaluate", "export_original", "fit_predictor", "front", "import_original", "import_own", "imported",
    "kit", "measure", "measure_accuracy", "next_subnets", "predict", "profile", "report", "search", "show_predictor", "specialise",
    "status", "train",
]  # fmt: skip

load_on_use(__name__)
