"""`ofa search --front`: networks along the whole trade-off of accuracy and latency, predicted and measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import recording, write_json
from ..common.progress import QUIET, Progress
from ..common.readable import amount
from ..errors import DataError
from ..options.choosing import CAUTION
from ..options.shared import Budget
from ..search import Objectives, pareto
from .run_directory.run import Run
from .search import Candidate, Searcher

EVALUATIONS = 300_000


def front(
    folder: Path,
    *,
    points: int = 8,
    budget: Budget | None = None,
    device: str = "cpu",
    caution: float = CAUTION,
    seed: int = 0,
    data: str | None = None,
    progress: Progress = QUIET,
) -> list[Candidate]:
    """Find networks from the fastest to the most accurate in a run with a profile and a predictor.

    Args:
        folder: the run directory; the result is saved there as front.json.
        points: networks to measure, evenly spaced in the logarithm of the predicted latency.
        budget: limits for all of them, latency as predicted.
        device: a profiled device; if it was not profiled, the search uses MACs in place of latency.
        caution: as for `search`.
        seed: for the search.
        data: where the images are now, if they have moved; None for the place in run.json.

    Returns:
        The networks by measured latency; `stands` is False where another one is at least as accurate and as fast.

    Raises:
        InfeasibleError: no network in the space meets the budget.
    """
    if points < 2:
        raise DataError(f"--front {points}: a front needs at least 2 networks")
    run = Run.open(folder, data)
    run.require_images()
    searcher = Searcher(run, device, [budget or Budget()], caution=caution, progress=progress)
    cost = searcher.costs["macs"] if searcher.table is None else searcher.table
    objectives: Objectives = {"score": (searcher.score, "max"), "cost": (cost.estimate, "min")}
    progress.say(f"searching {amount(run.space.count())} networks for the front")
    found = pareto(run.space, objectives, searcher.limits(budget or Budget()), seed=seed, evaluations=EVALUATIONS).points
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
