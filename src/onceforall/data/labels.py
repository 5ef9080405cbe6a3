"""Labels of images in one of two shapes: (n,) int64 classes, or multi-label (n, classes) float32 of 0 and 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[Any]


def images_of(labels: Labels, classes: int) -> NDArray[np.int64]:
    """(classes,) number of images of each class."""
    return labels.sum(0).astype(np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def having(labels: Labels, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) which images have one of these classes."""
    return np.asarray(labels[:, classes].any(1) if labels.ndim == 2 else np.isin(labels, classes))


def codes(labels: Labels) -> NDArray[np.int64]:
    """(n,) a number for each image, equal for equal labels and close for similar ones."""
    return labels if labels.ndim == 1 else np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def in_words(label: Any, classes: Sequence[str]) -> str:
    """One image's class or labels as text."""
    if np.ndim(label) == 0:
        return f"class {classes[label]}"
    return f"label {', '.join(classes[i] for i in np.flatnonzero(label).tolist()) or 'none'}"
