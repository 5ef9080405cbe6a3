"""Data: images from folders, Parquet, torchvision or scikit-learn, decoded once, in three disjoint splits, as batches."""

from .batches import PREPROCESSING, Augment, Preprocessing, TrainBatches, calibration_batches, eval_batches
from .cache import Problem
from .on_device import DeviceBatches
from .originals import Source
from .sources import open_source
from .splits import CACHE_GB, Images, Splits, open_data

__all__ = [
    "CACHE_GB",
    "PREPROCESSING",
    "Augment",
    "DeviceBatches",
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
