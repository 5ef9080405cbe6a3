"""Exported networks: folders with weights, runtime files verified on real images, and a card."""

from ..backends import FORMATS
from ..backends.format import Format
from ..common.onnx_options import OnnxOptions
from .bundle import Bundle, BundleMember, Interval, load_bundle
from .bundle_card import BundleFacts, Sizes, Switch, bundle_program
from .bundle_folder import BundleProofs, Together, room_for_bundle, write_bundle
from .card import CardFacts, FileRow
from .config import ExportConfig, InputSteps
from .folder import Exporting, exporting, load, room_for_export
from .hub import push, require_pushable
from .program import Program, program_of, run_programs
from .proof import Proof, Verification
from .readers import READERS, ReaderResult, readers_of

__all__ = [
    "FORMATS", "READERS", "Bundle", "BundleFacts", "BundleMember", "BundleProofs", "CardFacts", "ExportConfig", "Exporting",
    "FileRow", "Format", "InputSteps", "Interval", "OnnxOptions", "Program", "Proof", "ReaderResult", "Sizes", "Switch",
    "Together", "Verification", "bundle_program", "exporting", "load", "load_bundle", "program_of", "push", "readers_of",
    "require_pushable", "room_for_bundle", "room_for_export", "run_programs", "write_bundle",
]  # fmt: skip
