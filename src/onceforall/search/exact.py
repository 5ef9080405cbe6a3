"""An upper bound on the score of any network, where score and limits are sums of terms.

For each resolution the search is an integer program: one binary variable per choice and one variable per combination of choices
that a term depends on, tied together by sums ("marginals"). HiGHS (in SciPy) solves it, or bounds it if time runs out. Limits
without a known structure are dropped, which keeps the bound valid.
"""

import inspect
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from ..genes import Genes, canonical, sample
from ..space import Space
from ..structure import Factor, Quadratic, Structured, Terms
from .problem import Floats, Limit, Measure, SearchProblem

CHECKED = 500  # random networks on which declared terms must agree with the function
TOLERANCE = 2e-6  # absolute tolerance of HiGHS
RTOL = 1e-5  # predictors compute in float32


def upper_bound(problem: SearchProblem, *, reached: float, seconds: float) -> tuple[float, Genes] | None:
    """An upper bound on the score of feasible networks, and networks (n, columns) that may attain it.

    None if the score is not known to be a sum of terms.

    Args:
        reached: a score already attained; resolutions that cannot beat it are skipped.
        seconds: approximate time limit; the bound is looser if it runs out.
    """
    space, deadline = problem.space, time.monotonic() + seconds
    if seconds <= 0:
        return None
    if problem.score.takes_archs or (score := _terms(space, problem.score)) is None or score[0].largest:
        return None
    structured = [(limit, terms) for limit in problem.limits if (terms := _terms(space, limit.measure)) is not None]
    programs = []
    for r in range(len(space.resolutions)):
        if time.monotonic() > deadline:
            return None
        program = _IntegerProgram(space, r, score[0], [(limit, terms[0], _rounding(terms)) for limit, terms in structured])
        relaxed, _ = program.solve(integer=False, seconds=max(0.1, deadline - time.monotonic()))
        if relaxed == math.inf:
            return None  # out of time, and a bound needs all resolutions
        programs.append((relaxed, program))
    value, rows = reached, [np.zeros((0, len(space.columns)), np.int16)]
    for relaxed, program in sorted(programs, key=lambda pair: -pair[0]):
        if relaxed <= value:
            break
        left = deadline - time.monotonic()
        bound, row = program.solve(integer=True, seconds=left) if left > 0.05 else (relaxed, None)
        value = max(value, min(bound, relaxed))
        rows += [] if row is None else [row]
    slack = _rounding(score) + 1e-9 * abs(value)
    return (value + slack, np.concatenate(rows)) if math.isfinite(value) else None


Known = tuple[Terms, Floats, Genes]


def _terms(space: Space, measured: Measure) -> Known | None:
    """The terms that an object declares, if its method agrees with them, with the samples for which this was checked."""
    function = measured.function
    if not inspect.ismethod(function) or not isinstance(function.__self__, Structured):
        return None
    declared = function.__self__.structure()
    terms = declared.terms if isinstance(declared, Quadratic) else declared
    if terms is None or not all(np.isfinite(factor.values).all() for factor in terms.factors):
        return None
    ends = space.genes([arch for r in space.resolutions for arch in (space.smallest(r), space.largest(r))])
    genes = np.concatenate([ends, sample(space.columns, np.random.default_rng(0), CHECKED)])
    values = measured(genes)
    return (terms, values, genes) if np.allclose(terms(genes), values, rtol=RTOL, atol=1e-9) else None


def _rounding(known: Known) -> float:
    """Twice the largest difference seen between a function and its terms."""
    terms, values, genes = known
    return 2 * float(np.abs(terms(genes) - values).max())


@dataclass
class _IntegerProgram:
    """The integer program of one resolution: maximize the score's terms subject to the limits' terms.

    Args:
        limits: the limits, their terms, and the rounding error of these.
    """

    space: Space
    resolution: int
    score: Terms
    limits: list[tuple[Limit, Terms, float]]
    states: dict[int, list[int]] = field(default_factory=dict)  # possible genes of each column
    at: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = field(default_factory=dict)  # variable of (columns, their genes)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)  # constraints: coefficients, least, most
    highs: dict[int, float] = field(default_factory=dict)  # upper bounds of variables that are forbidden

    def __post_init__(self) -> None:
        for c, column in enumerate(self.space.columns):
            choices = list(range(len(column.choices)))
            optional = column.block >= 0 and column.block >= self.space.stages[column.stage].depths[0]
            self.states[c] = [self.resolution] if c == 0 else [-1, *choices] if optional else choices
        for c in self.states:
            self.rows.append(({self._variable((c,), (gene,)): 1.0 for gene in self.states[c]}, 1.0, 1.0))
        depth_at = {column.stage: c for c, column in enumerate(self.space.columns) if column.kind == "depth"}
        for c, column in enumerate(self.space.columns):
            if column.block >= 0 and -1 in self.states[c]:
                depth = depth_at[column.stage]
                depths = self.space.columns[depth].choices
                absent = {self._variable((depth,), (i,)): -1.0 for i, d in enumerate(depths) if d <= column.block}
                self.rows.append(({self._variable((c,), (-1,)): 1.0, **absent}, 0.0, 0.0))
        self.objective = self._weights(self.score)
        for limit, terms, rounding in self.limits:
            most = limit.bound + 2e-9 * abs(limit.bound) + rounding - terms.constant
            if not terms.largest:
                size = abs(most) or 1.0
                self.rows.append(({v: w / size for v, w in self._weights(terms).items()}, -math.inf, most / size))
                continue
            for factor in terms.factors:
                for variable, value in self._values(factor):
                    if value > most:
                        self.highs[variable] = 0.0

    def solve(self, *, integer: bool, seconds: float) -> tuple[float, Genes | None]:
        """An upper bound (-inf if no network is feasible) and the best network found, if any."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to load, and needed only here
        from scipy.sparse import csr_array

        n = len(self.at)
        cost, high, whole = np.zeros(n), np.ones(n), np.zeros(n)
        for variable, weight in self.objective.items():
            cost[variable] = -weight
        unit = 1e-4 * float(np.abs(cost).max()) or 1.0  # HiGHS's tolerances are absolute, but a score can have any scale
        for variable, most in self.highs.items():
            high[variable] = most
        for (columns, _), variable in self.at.items():
            whole[variable] = integer and len(columns) == 1
        data = [(i, v, w) for i, (weights, _, _) in enumerate(self.rows) for v, w in weights.items()]
        index = np.array([(i, v) for i, v, _ in data]).T
        matrix = csr_array((np.array([w for _, _, w in data]), (index[0], index[1])), shape=(len(self.rows), n))
        result = milp(
            cost / unit,
            integrality=whole,
            bounds=Bounds(np.zeros(n), high),
            constraints=LinearConstraint(matrix, [row[1] for row in self.rows], [row[2] for row in self.rows]),
            options={"time_limit": seconds, "mip_rel_gap": 0.0},
        )
        if result.status == 2:
            return -math.inf, None
        bound = result.mip_dual_bound if integer else (result.fun if result.status == 0 else None)
        solved = integer and result.status == 0  # at a timeout, the solution would depend on the machine
        row = self._row(result.x) if solved else None
        if bound is None or not math.isfinite(bound):
            return math.inf, row
        return self.score.constant - unit * (float(bound) - TOLERANCE), row

    def _variable(self, columns: tuple[int, ...], genes: tuple[int, ...]) -> int:
        return self.at.setdefault((columns, genes), len(self.at))

    def _weights(self, terms: Terms) -> dict[int, float]:
        weights: dict[int, float] = {}
        for factor in terms.factors:
            for variable, value in self._values(factor):
                weights[variable] = weights.get(variable, 0.0) + value
        return weights

    def _values(self, factor: Factor) -> Iterator[tuple[int, float]]:
        """The variables of a factor, created if missing, with its values."""
        free = tuple(c for c in factor.columns if len(self.states[c]) > 1)
        new = len(free) > 1 and (free, tuple(self.states[c][-1] for c in free)) not in self.at
        for genes in product(*(self.states[c] for c in factor.columns)):
            if self._possible(factor.columns, genes):
                chosen = tuple(gene for c, gene in zip(factor.columns, genes, strict=True) if c in free)
                place = (free, chosen) if free else ((0,), (self.resolution,))  # a constant multiplies the resolution, which is 1
                yield self._variable(*place), float(factor.values[tuple(gene + 1 for gene in genes)])
        if new:
            self._tie(free)

    def _possible(self, columns: tuple[int, ...], genes: tuple[int, ...]) -> bool:
        """Whether each block's choices are all present or all absent."""
        absent: dict[tuple[int, int], bool] = {}
        for c, gene in zip(columns, genes, strict=True):
            column = self.space.columns[c]
            if column.block >= 0 and absent.setdefault((column.stage, column.block), gene < 0) != (gene < 0):
                return False
        return True

    def _tie(self, columns: tuple[int, ...]) -> None:
        """Constrain the combinations of the columns' choices: those with a choice of a column sum to that choice."""
        combinations = [(genes, v) for (of, genes), v in self.at.items() if of == columns]
        for i, c in enumerate(columns):
            for gene in self.states[c]:
                parts = {v: 1.0 for genes, v in combinations if genes[i] == gene}
                self.rows.append(({**parts, self._variable((c,), (gene,)): -1.0}, 0.0, 0.0))

    def _row(self, x: Floats) -> Genes:
        row = np.zeros((1, len(self.space.columns)), np.int16)
        for c, genes in self.states.items():
            row[0, c] = max(genes, key=lambda gene: x[self._variable((c,), (gene,))])
        return canonical(self.space.columns, row)
