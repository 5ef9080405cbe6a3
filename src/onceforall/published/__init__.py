"""Use the original project's published artifacts: weights, settings, and configurations of specialized networks.

Read its latency tables and accuracy predictors with `onceforall.latency.LatencyTable.from_published` and
`onceforall.accuracy.AccuracyPredictor.from_published`.
"""

from .files import LICENSE, ON_HUB, PublishedFile, published_files, published_name
from .networks import KNOWN_NETWORKS, OFA_NETWORKS, KnownNetwork, PublishedNetwork
from .read_config import plan_from_config
from .settings import arch, settings
from .specialized import Specialized, recognise, save_specialized, specialized
from .weights import NAMES, load_supernet, original_state_dict, published_space, save_original
from .write_config import net_config

__all__ = [
    "KNOWN_NETWORKS", "LICENSE", "NAMES", "OFA_NETWORKS", "ON_HUB", "KnownNetwork", "PublishedFile", "PublishedNetwork",
    "Specialized", "arch", "load_supernet", "net_config", "original_state_dict", "plan_from_config", "published_files",
    "published_name", "published_space", "recognise", "save_original", "save_specialized", "settings", "specialized",
]  # fmt: skip
