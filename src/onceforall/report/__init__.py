"""One self-contained HTML page about a run: no script, nothing loaded from elsewhere, for print, dark mode and phones too."""

from .facts import AccuracyFacts, Check, ChosenFacts, Curve, FrontFacts, LatencyFacts, PhaseFacts, ReportFacts, RunFacts
from .page import write_report

__all__ = [
    "AccuracyFacts",
    "Check",
    "ChosenFacts",
    "Curve",
    "FrontFacts",
    "LatencyFacts",
    "PhaseFacts",
    "ReportFacts",
    "RunFacts",
    "write_report",
]
