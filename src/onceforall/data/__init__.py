"""Data: images from folders, Parquet, torchvision or scikit-learn, decoded once, split in three disjoint parts and batched."""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .batches import TrainBatches, calibration_batches, eval_batches
    from .cache import Problem
    from .decoding import Decoding
    from .on_device import DeviceBatches
    from .originals import Read, Source
    from .preparation import PREPROCESSING, Augment, Preprocessing
    from .reading import Reading, classes_of_text
    from .sources import open_source
    from .splits import Images, Splits, open_data
    from .stores import CACHE_GB

__all__ = [
    "CACHE_GB", "PREPROCESSING", "Augment", "Decoding", "DeviceBatches", "Images", "Preprocessing", "Problem", "Read", "Reading",
    "Source", "Splits", "TrainBatches", "calibration_batches", "classes_of_text", "eval_batches", "open_data", "open_source",
]  # fmt: skip

load_on_use(__name__)
