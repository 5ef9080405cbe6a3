"""Load networks by name from timm, torchvision, the Hub, the Once-for-All authors, or a user's own file."""

from .bring import bring, is_library, is_source, lasting_source, lasting_weights
from .parts import FORM, RANDOM, Brought, Weights

__all__ = ["FORM", "RANDOM", "Brought", "Weights", "bring", "is_library", "is_source", "lasting_source", "lasting_weights"]
