"""Networks to take home: a folder with weights, runtime files that were proven on real images, and a card."""

from .card import CardFacts, LatencyRow
from .config import ExportConfig, InputSteps
from .folder import Exported, export_network, load
from .formats import FORMATS
from .onnx import Verification, onnx_top1, verify_onnx

__all__ = [
    "FORMATS",
    "CardFacts",
    "ExportConfig",
    "Exported",
    "InputSteps",
    "LatencyRow",
    "Verification",
    "export_network",
    "load",
    "onnx_top1",
    "verify_onnx",
]
