"""Statistics shared by several modules, so that one name means one number."""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


def kendall_tau(a: Floats, b: Floats) -> float:
    """Rank correlation with ties (tau-b); 0 if one of the arrays is constant."""
    signs_a, signs_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    ties = np.sqrt((signs_a**2).sum() * (signs_b**2).sum())
    return float((signs_a * signs_b).sum() / ties) if ties else 0.0
