"""Local search: from one network to one that no change of one choice, or of two choices, makes better.

Steps are picked by a first-order model: the score and cost of a combined change are guessed from those of its single
changes, the most promising are evaluated. Whether a network is a local optimum is always decided by real evaluations.
"""

import numpy as np

from ..genes import Genes
from ..space import Space
from .evaluator import Evaluated, Evaluator
from .moves import Ints, Row, combine, keys, near, pairs, second_steps, settle
from .problem import Costs, Floats

__all__ = ["climb", "two_step_optimum"]

TRIES = 192  # pairs evaluated per step
PRICES = 16
MOST = 12  # choices changed at once at most


def climb(evaluator: Evaluator, start: Evaluated, *, rng: np.random.Generator) -> Evaluated:
    """The best network reached from the first row of `start`: at the end no one-choice change of it is better.

    Better means: breaks the limits less, then scores higher.
    """
    at, space = start.rows(np.array([0])), evaluator.problem.space
    ruin = rng.random() < 0.5  # of the score, to recreate it: leads further away than careful repair
    while not evaluator.spent:
        rows, columns = near(space, at.genes[0])
        if not len(rows):
            return at
        around = evaluator(rows)
        reached = at.joined(_repair(at, around) if at.excess[0] and not ruin else around).best(1)
        if not at.excess[0]:
            reached = reached.joined(_leaps(evaluator, at, around, columns, rng)).best(1)
        if not _better(reached, at):
            return at
        at = reached
    return at


def two_step_optimum(evaluator: Evaluator, start: Evaluated, *, rng: np.random.Generator) -> tuple[Evaluated, int]:
    """Climb until no change of two choices is better either.

    Returns the network and the number of choices (2, 1 or 0, if the budget ran out) within which nothing better exists.
    """
    at = start
    while True:
        at = climb(evaluator, at, rng=rng)
        if evaluator.spent:
            return at, 0
        row, space = at.genes[0], evaluator.problem.space
        moves, columns = near(space, row)
        both = combine(space, row, moves, *pairs(columns))
        around = _different(np.concatenate([moves, both, second_steps(space, row, moves)]))
        reached = at
        for part in np.array_split(around, max(1, len(around) // 2048)):
            if evaluator.spent:
                return reached, 1 if reached is at else 0
            reached = reached.joined(evaluator(part, only_feasible=not at.excess[0])).best(1)
        if not _better(reached, at):
            return at, 2
        at = reached


def _repair(at: Evaluated, around: Evaluated) -> Evaluated:
    """The neighbour that breaks the limits less and loses the least score for it; none if there is no such neighbour."""
    less = np.maximum(at.excess[0] - around.excess, 0)
    gain = around.scores - at.scores[0]
    merit = np.where(gain < 0, gain / np.maximum(less, 1e-12), gain + less)
    merit[less == 0] = -np.inf
    return around.rows(np.array([merit.argmax()])) if less.any() else around.rows(np.arange(0))


def _leaps(evaluator: Evaluator, at: Evaluated, around: Evaluated, columns: Ints, rng: np.random.Generator) -> Evaluated:
    """Combined changes of a feasible network that the first-order model likes; those that keep the limits, evaluated."""
    space, row, moves = evaluator.problem.space, at.genes[0], around.genes
    gain = around.scores - at.scores[0]
    rise = around.costs - at.costs[0]
    room = np.array([limit.bound for limit in evaluator.problem.limits]) - at.costs[0]
    first, second = pairs(columns)
    promise = gain[first] + gain[second]
    fits = (rise[first] + rise[second] <= room + 1e-3 * np.abs(room)).all(1) & (promise > 0)
    order = np.argsort(-promise[fits], kind="stable")[:TRIES]
    double = combine(space, row, moves, first[fits][order], second[fits][order])
    many = _knapsack(space, row, moves, columns, gain, rise, rng)
    return evaluator(_different(np.concatenate([double, many])), only_feasible=True)


def _knapsack(space: Space, row: Row, moves: Genes, columns: Ints, gain: Floats, rise: Costs, rng: np.random.Generator) -> Genes:
    """Many changes at once, by Lagrange multipliers: for a range of prices of the limits, every column takes its move of
    largest gain minus price; the moves are made one after the other, best first, and each step is a candidate."""
    limits = rise.shape[1]
    unit = np.abs(gain).max() / (np.abs(rise).max(0) + 1e-12)
    prices = (
        np.geomspace(1e-2, 100, PRICES)[:, None] * unit * rng.dirichlet(np.ones(limits), PRICES) if limits else np.zeros((1, 0))
    )
    worth = gain - prices @ rise.T  # (prices, moves)
    groups = [np.flatnonzero(columns == column) for column in np.unique(columns)]
    chosen = np.stack([group[worth[:, group].argmax(1)] for group in groups], 1)  # (prices, columns)
    value = np.take_along_axis(worth, chosen, 1)
    best_first = np.argsort(-value, 1, kind="stable")[:, :MOST]
    useful = np.take_along_axis(value, best_first, 1) > 0
    steps = (moves - row)[np.take_along_axis(chosen, best_first, 1)] * useful[:, :, None]  # (prices, MOST, genes)
    return settle(space, (row + np.cumsum(steps, 1, np.int16)).reshape(-1, len(row)))


def _different(genes: Genes) -> Genes:
    return genes[np.sort(np.unique(keys(genes), return_index=True)[1])]


def _better(one: Evaluated, other: Evaluated) -> bool:
    return (-one.excess[0], one.scores[0]) > (-other.excess[0], other.scores[0])
