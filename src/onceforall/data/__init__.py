"""Data: images from folders, Parquet, torchvision or scikit-learn, decoded once, in three disjoint splits, as batches."""

from .batches import PREPROCESSING, Augment, Preprocessing, TrainBatches, calibration_batches, eval_batches
from .cache import Problem
from .sources import Source, open_source
from .splits import Images, Splits, open_data

__all__ = [
    "PREPROCESSING",
    "Augment",
    "Images",
    "Preprocessing",
    "Problem",
    "Source",
    "Splits",
    "TrainBatches",
    "calibration_batches",
    "eval_batches",
    "open_data",
    "open_source",
]
