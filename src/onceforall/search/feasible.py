"""Check that some network meets the limits, before any score is computed."""

import math

import numpy as np

from ..arch import Arch
from ..common.readable import quantity, rounded_up
from ..genes import Genes
from ..resolutions import in_pixels
from .climb import two_step_optimum
from .evaluator import Evaluated, Evaluator
from .problem import Measure, NothingFeasibleError, SearchProblem

BUDGET = 1_000_000  # ends a descent that would never end; those below take a few thousand evaluations


def feasible_row(problem: SearchProblem) -> Genes:
    """One row (1, columns) that meets every limit; that of the smallest architecture if it does.

    Raises:
        NothingFeasibleError: no such row was found; the error states the smallest reachable value of each limit.
    """
    problem = SearchProblem(problem.space, problem.score, tuple(limit for limit in problem.limits if limit.bound < math.inf))
    start = problem.space.genes([problem.space.smallest()])
    if not problem.excess(problem.costs(start))[0]:
        return start
    for limit in problem.limits:
        value, _ = smallest_value(problem, limit.measure)
        if limit.excess(np.array([value]))[0]:
            raise _nothing(problem, "")
    excess = Measure("limits", lambda genes: problem.excess(problem.costs(genes)), False, problem.space)
    best = _descend(problem, excess)
    if best.scores[0] < 0:
        raise _nothing(problem, "each limit can be met alone, but no network was found that meets all of them: ")
    return best.genes


def smallest_value(problem: SearchProblem, measured: Measure) -> tuple[float, Arch]:
    """The smallest value of a measure and the network that attains it.

    Exact for sums over segments with one width per stage; otherwise the best result of descents from every resolution.
    """
    best = _descend(problem, measured)
    return float(-best.scores[0]), problem.space.archs(best.genes)[0]


def _descend(problem: SearchProblem, measured: Measure) -> Evaluated:
    """The network with the smallest value, by steps of one and two choices from the smallest network at every resolution."""
    evaluator = Evaluator(SearchProblem(problem.space, measured.negative(), ()), BUDGET)
    starts = evaluator(problem.space.genes([problem.space.smallest(r) for r in problem.space.resolutions]))
    best = starts.best(1)
    for i in np.argsort(-starts.scores, kind="stable")[:4]:
        reached, _ = two_step_optimum(evaluator, starts.rows(np.array([i])))
        best = best.joined(reached).best(1)
    return best


def _nothing(problem: SearchProblem, why: str) -> NothingFeasibleError:
    reached = {limit.measure.name: smallest_value(problem, limit.measure) for limit in problem.limits}
    parts = []
    for limit in problem.limits:
        value, arch = reached[limit.measure.name]
        smallest = f"{quantity(limit.measure.name, rounded_up(value))}, of {_short(arch)}"
        parts.append(f"{quantity(limit.measure.name, limit.bound)} (smallest {smallest})")
    text = f"no network of the space meets the limits: {why}{'; '.join(parts)}: allow more"
    return NothingFeasibleError(text, reached)


def _short(arch: Arch) -> str:
    """The architecture in a few words, e.g. "128 px, depths 2-2-2-2-2, kernels 3, expand ratios 3"."""
    blocks = [block for stage in arch.stages for block in stage.blocks]
    kernels, ratios = sorted({block.kernel for block in blocks}), sorted({block.expand_ratio for block in blocks})
    heads = sorted({block.heads for block in blocks})
    parts = [in_pixels(arch.resolution), f"depths {'-'.join(map(str, arch.depths))}"]
    for name, values in (("kernels", kernels), ("expand ratios", ratios), ("heads", heads)):
        if values != [1]:  # of all spaces in which they cannot be chosen
            parts.append(f"{name} {'/'.join(map(str, values))}")
    return ", ".join(parts)
