"""Networks to take home: a folder with weights, runtime files that were proven on real images, and a card."""

from .card import CardFacts, FileRow, LatencyRow
from .config import ExportConfig, InputSteps
from .folder import Exported, export_network, load
from .formats import FORMATS, Format
from .hub import push, require_pushable
from .proof import Proof, Verification

__all__ = [
    "FORMATS",
    "CardFacts",
    "ExportConfig",
    "Exported",
    "FileRow",
    "Format",
    "InputSteps",
    "LatencyRow",
    "Proof",
    "Verification",
    "export_network",
    "load",
    "push",
    "require_pushable",
]
