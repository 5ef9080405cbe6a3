"""Networks to take home: a folder with weights, runtime files that were proven on real images, and a card."""

from .bundle import Bundle, Interval, Member, load_bundle
from .bundle_card import BundleFacts, Sizes, Switch
from .bundle_folder import BundleProofs, Together, write_bundle
from .card import CardFacts, FileRow, LatencyRow
from .config import ExportConfig, InputSteps, OnnxOptions
from .folder import Exported, export_network, load
from .formats import FORMATS, Format
from .hub import push, require_pushable
from .proof import Proof, Verification
from .readers import READERS, Reading, readers_of

__all__ = [
    "FORMATS",
    "READERS",
    "Bundle",
    "BundleFacts",
    "BundleProofs",
    "CardFacts",
    "ExportConfig",
    "Exported",
    "FileRow",
    "Format",
    "InputSteps",
    "Interval",
    "LatencyRow",
    "Member",
    "OnnxOptions",
    "Proof",
    "Reading",
    "Sizes",
    "Switch",
    "Together",
    "Verification",
    "export_network",
    "load",
    "load_bundle",
    "push",
    "readers_of",
    "require_pushable",
    "write_bundle",
]
