"""Find the best networks of a space: `maximise` for one target, `pareto` for the whole trade-off.

Both work on gene matrices and know nothing of training: scores, costs and latencies are callables.
"""

from .maximise import Finalist, SearchResult, maximise
from .pareto import Objectives, ParetoPoint, ParetoResult, pareto
from .problem import NothingFeasibleError

__all__ = ["Finalist", "NothingFeasibleError", "Objectives", "ParetoPoint", "ParetoResult", "SearchResult", "maximise", "pareto"]
