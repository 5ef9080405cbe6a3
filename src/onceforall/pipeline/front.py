"""`ofa search --front`: networks along the whole trade-off of accuracy and latency, predicted and measured."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..common.arguments import takes
from ..common.files import recording, write_json
from ..common.progress import QUIET, Progress
from ..common.readable import amount
from ..errors import DataError
from ..options.choosing import SearchOptions
from ..options.shared import Budget
from ..search import Objectives, pareto
from .run_directory.run import Run
from .search import Candidate, Searcher

EVALUATIONS = 300_000


@takes(SearchOptions)
def front(options: SearchOptions, *, points: int = 8, progress: Progress = QUIET) -> list[Candidate]:
    """Find networks from the fastest to the most accurate in a run with a predictor; save them as front.json.

    The budget limits all of them, latency as predicted. If the device was not profiled, MACs take the place of latency.

    Args:
        options: as for `search`; `finalists` does not apply.
        points: networks to measure, evenly spaced in the logarithm of the predicted latency.

    Returns:
        The networks by measured latency; `stands` is False where another one is at least as accurate and as fast.

    Raises:
        InfeasibleError: no network in the space meets the budget.
    """
    if points < 2:
        raise DataError(f"--front {points}: a front needs at least 2 networks")
    run, budget, seed = Run.open(options.folder, options.data), options.budget or Budget(), options.seed
    assert isinstance(budget, Budget)  # only the command line takes several
    run.require_images()
    searcher = Searcher(run, options.device, [budget], caution=options.caution, progress=progress)
    cost = searcher.costs["macs"] if searcher.table is None else searcher.table
    objectives: Objectives = {"score": (searcher.score, "max"), "cost": (cost.estimate, "min")}
    progress.say(f"searching {amount(run.space.count())} networks for the front")
    found = pareto(run.space, objectives, searcher.limits(budget), seed=seed, evaluations=EVALUATIONS).points
    costs = np.array([point.values["cost"] for point in found])
    steps = np.geomspace(costs.min(), costs.max(), points)
    chosen = sorted({int(np.searchsorted(np.sort(costs), step * (1 + 1e-9), "right")) - 1 for step in steps})
    by_cost = np.argsort(costs, kind="stable")
    progress.say(f"measuring {len(chosen)} of the {len(found)} networks of the front")
    measured = sorted(searcher.measure([found[by_cost[i]].arch for i in chosen]), key=lambda c: (c.timing.ms, -c.accuracy.value))
    result, best = list[Candidate](), -1.0
    for candidate in measured:
        result.append(replace(candidate, stands=candidate.accuracy.value > best))
        best = max(best, candidate.accuracy.value)
    with recording("this front is"):
        write_json(run.folder / "front.json", {"device": str(searcher.device), "points": [_point(c) for c in result]})
    return result


def _point(c: Candidate) -> dict[str, Any]:
    return {
        "stands": c.stands,
        "arch": c.arch.to_json(),
        **c.predictions,
        "predicted_std": c.predicted_std,
        "predicted_ms": c.predicted_ms,
        "held_out": {"top1": c.accuracy.top1, "images": c.accuracy.images, "score": c.accuracy.score},
        "measured_ms": c.timing.ms,
    }
