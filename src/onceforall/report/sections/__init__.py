"""The sections of the page, in the order of a reader's questions. Each takes the runs and gives HTML; for what a run lacks it names
the command that makes it."""

from collections.abc import Callable, Sequence

from ..facts import ReportFacts
from .chosen import chosen
from .compared import compared
from .costs import about, costs
from .fronts import fronts
from .predictions import accuracy, latency
from .subnets import subnets
from .training import training

__all__ = ["SECTIONS"]

SECTIONS: dict[str, tuple[str, Callable[[Sequence[ReportFacts]], str]]] = {
    "chosen": ("Chosen networks", chosen),
    "front": ("Accuracy against cost", fronts),
    "compared": ("Against fixed networks", compared),
    "subnets": ("Sub-networks across the space", subnets),
    "training": ("Training", training),
    "accuracy": ("Predicted and measured accuracy", accuracy),
    "latency": ("Predicted and measured latency", latency),
    "costs": ("What it took", costs),
    "run": ("The run", about),
}
