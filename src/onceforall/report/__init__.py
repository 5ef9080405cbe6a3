"""One self-contained HTML page about a run, or several side by side: no script, nothing loaded from elsewhere, for print, dark mode
and phones too."""

from .facts import (
    AccuracyFacts,
    BlockFacts,
    Check,
    ChosenFacts,
    ComparedFacts,
    CostFacts,
    Curve,
    FileFacts,
    FrontFacts,
    LatencyFacts,
    PhaseFacts,
    ReportFacts,
    RivalFacts,
    RunFacts,
    Spot,
    Subnet,
    VerdictFacts,
)
from .page import write_report

__all__ = [
    "AccuracyFacts",
    "BlockFacts",
    "Check",
    "ChosenFacts",
    "ComparedFacts",
    "CostFacts",
    "Curve",
    "FileFacts",
    "FrontFacts",
    "LatencyFacts",
    "PhaseFacts",
    "ReportFacts",
    "RivalFacts",
    "RunFacts",
    "Spot",
    "Subnet",
    "VerdictFacts",
    "write_report",
]
