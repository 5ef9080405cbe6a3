"""Local search: improve a network until no change of one choice, or of two choices, makes it better.

Steps are proposed by a first-order model: it estimates the score and cost of a combined change from its single changes, and the
most promising ones are evaluated. Whether a network is a local optimum is always decided by real evaluations.
"""

import numpy as np

from .evaluator import Evaluated, Evaluator
from .moves import Ints, combine, distinct, near, pairs, second_steps

TRIES = 192  # pairs evaluated per step


def climb(evaluator: Evaluator, start: Evaluated) -> Evaluated:
    """The best network reached from the first row of `start`; no change of one choice improves it.

    Better means violating the limits less, then scoring higher.
    """
    at, space = start.rows(np.array([0])), evaluator.problem.space
    while not evaluator.spent:
        rows, columns = near(space, at.genes[0])
        if not len(rows):
            return at
        around = evaluator(rows)
        reached = at.joined(around).best(1)
        if not at.excess[0]:
            reached = reached.joined(_leaps(evaluator, at, around, columns)).best(1)
        if not _better(reached, at):
            return at
        at = reached
    return at


def two_step_optimum(evaluator: Evaluator, start: Evaluated) -> tuple[Evaluated, int]:
    """Climb until no change of two choices improves the network either.

    Returns the network and the number of choices within which nothing better exists: 2, or 1 or 0 if the budget ran out.
    """
    at = start
    while True:
        at = climb(evaluator, at)
        if evaluator.spent:
            return at, 0
        row, space = at.genes[0], evaluator.problem.space
        moves, columns = near(space, row)
        both = combine(space, row, moves, *pairs(columns))
        around = distinct(np.concatenate([moves, both, second_steps(space, row, moves)]))
        reached = at
        for part in np.array_split(around, max(1, len(around) // 2048)):
            if evaluator.spent:
                return reached, 1 if reached is at else 0
            reached = reached.joined(evaluator(part, only_feasible=not at.excess[0])).best(1)
        if not _better(reached, at):
            return at, 2
        at = reached


def _leaps(evaluator: Evaluator, at: Evaluated, around: Evaluated, columns: Ints) -> Evaluated:
    """The pairs of changes to a feasible network that the first-order model rates highest, evaluated; only feasible results."""
    space, row, moves = evaluator.problem.space, at.genes[0], around.genes
    gain = around.scores - at.scores[0]
    rise = around.costs - at.costs[0]
    room = np.array([limit.bound for limit in evaluator.problem.limits]) - at.costs[0]
    first, second = pairs(columns)
    promise = gain[first] + gain[second]
    fits = (rise[first] + rise[second] <= room + 1e-3 * np.abs(room)).all(1) & (promise > 0)
    order = np.argsort(-promise[fits], kind="stable")[:TRIES]
    return evaluator(distinct(combine(space, row, moves, first[fits][order], second[fits][order])), only_feasible=True)


def _better(first: Evaluated, second: Evaluated) -> bool:
    return (-first.excess[0], first.scores[0]) > (-second.excess[0], second.scores[0])
