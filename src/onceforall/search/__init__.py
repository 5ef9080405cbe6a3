"""Find the best networks of a space: `maximise` for one target.

It works on gene matrices and knows nothing of training: scores, costs and latencies are callables.
"""

from .maximise import Finalist, SearchResult, maximise
from .problem import NothingFeasibleError

__all__ = ["Finalist", "NothingFeasibleError", "SearchResult", "maximise"]
