"""Accuracy of many sub-networks: choose which to measure, measure them, store the results, predict the others."""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .active import suggest
    from .chance import kendall_ceiling, measurement_noise
    from .interpolation import interpolate, measured_resolutions
    from .predictor import AccuracyPredictor, PredictorErrors, assess
    from .rows import AccuracyRow, append_rows, read_rows
    from .sampling import spread, tree

__all__ = [
    "AccuracyPredictor", "AccuracyRow", "PredictorErrors", "append_rows", "assess", "interpolate", "kendall_ceiling",
    "measured_resolutions", "measurement_noise", "read_rows", "spread", "suggest", "tree",
]  # fmt: skip

load_on_use(__name__)
