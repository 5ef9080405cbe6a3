"""Find the best networks of a space: `maximise` for one objective, `pareto` for the whole trade-off.

Both work on gene matrices and know nothing of training: scores, costs and latencies are callables.
"""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .maximise import SearchResult, maximise
    from .pareto import Objectives, ParetoResult, pareto
    from .problem import FoundNetwork, NothingFeasibleError

__all__ = ["FoundNetwork", "NothingFeasibleError", "Objectives", "ParetoResult", "SearchResult", "maximise", "pareto"]

load_on_use(__name__)
