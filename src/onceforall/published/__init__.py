"""What the original project published, usable here: weights, settings, configurations of specialised networks.

Its latency tables and accuracy predictors are read by `onceforall.latency.LatencyTable.from_published` and
`onceforall.accuracy.AccuracyPredictor.from_published`.
"""

from .settings import arch, settings
from .weights import NAMES, load_supernet, original_state_dict, published_space, save_original

__all__ = ["NAMES", "arch", "load_supernet", "original_state_dict", "published_space", "save_original", "settings"]
