"""The search problem: measures of networks (scores and estimates), which are checked once, then called on gene matrices."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arch import Arch
from ..errors import ArchError, InfeasibleError, OnceForAllError
from ..genes import Genes
from ..space import Space

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
Costs = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Function = Callable[[Any], Any]  # a sequence of Arch or a gene matrix (n, columns) -> n numbers; or one Arch -> one number
Limits = Mapping[str, tuple[Function, float]]

SLACK = 1e-9  # relative: summing in another order must not make a network that exactly meets a limit violate it


class NothingFeasibleError(InfeasibleError):
    """No network meets the limits.

    Args:
        message: one line for the user.
        smallest: for each limit, the smallest reachable value and the network that attains it.
    """

    def __init__(self, message: str, smallest: dict[str, tuple[float, Arch]]) -> None:
        super().__init__(message)
        self.smallest = smallest


class _ShapeError(ValueError):
    """A function did not return one number per network."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network found by a search: the maximized score (the first objective) and all other values by name."""

    arch: Arch
    score: float
    values: dict[str, float]


@dataclass(frozen=True)
class Measure:
    """Maps a gene matrix to a number for every network, whatever the wrapped function takes.

    Args:
        function: the user's function.
        takes_archs: whether the function takes a list of `Arch` instead of a gene matrix.
        space: decodes a gene matrix to architectures.
        one_by_one: whether the function takes one `Arch` at a time.
    """

    name: str
    function: Function
    takes_archs: bool
    space: Space
    one_by_one: bool = False

    def __call__(self, genes: Genes) -> Floats:
        """float64 (n,).

        Raises:
            ValueError: the function returned another shape, or NaN.
        """
        if not len(genes):
            return np.zeros(0)
        given = self.space.archs(genes) if self.takes_archs else genes
        values = np.asarray([self.function(arch) for arch in given] if self.one_by_one else self.function(given), np.float64)
        if values.shape != (len(genes),):
            raise _ShapeError(
                f"{self.name} returned an array of shape {values.shape} for {len(genes)} networks: "
                f"it must return one number per network, shape ({len(genes)},)"
            )
        if np.isnan(values).any():
            arch = self.space.archs(genes[np.isnan(values)][:1])[0]
            raise ValueError(
                f"{self.name} is NaN for a network, it must be a number for every network; the network: {arch.to_json()}"
            )
        return values

    def negative(self) -> "Measure":
        """The measure with the opposite sign."""
        return Measure(self.name, lambda genes: -self(genes), False, self.space)


@dataclass(frozen=True)
class Limit:
    """An upper limit on a measure."""

    measure: Measure
    bound: float

    def excess(self, values: Floats) -> Floats:
        """How far the values exceed the limit, in units of the bound; 0 where they meet it."""
        excess = (values - self.bound) / (abs(self.bound) or 1.0) if self.bound < math.inf else np.zeros(len(values))
        return np.where(excess <= SLACK, 0.0, excess)


@dataclass(frozen=True)
class SearchProblem:
    """Maximize the score among the networks of the space that meet every limit."""

    space: Space
    score: Measure
    limits: tuple[Limit, ...]

    def costs(self, genes: Genes) -> Costs:
        """Values of all limited measures (n, limits)."""
        known: dict[Function, Floats] = {}  # an objective can also be limited
        for limit in self.limits:
            if limit.measure.function not in known:
                known[limit.measure.function] = limit.measure(genes)
        columns = [known[limit.measure.function] for limit in self.limits]
        return np.stack(columns, 1) if columns else np.zeros((len(genes), 0))

    def excess(self, costs: Costs) -> Floats:
        """How far the limits are exceeded, summed over the limits; 0 where all are met."""
        total = np.zeros(len(costs))
        for column, limit in enumerate(self.limits):
            total += limit.excess(costs[:, column])
        return total

    @property
    def takes_archs(self) -> bool:
        """Whether any function takes lists of `Arch`, which is slow."""
        return self.score.takes_archs or any(limit.measure.takes_archs for limit in self.limits)


def measure_of(space: Space, name: str, function: Function) -> Measure:
    """Wrap a function; calling it shows whether it takes a gene matrix, a list of architectures or one architecture.

    Raises:
        ValueError: it is not callable, takes none of them (the cause is chained), returns NaN, or was made for another space.
        Exception: whatever the function itself raises, such as an error of a latency table with a missing entry.
    """
    if not callable(function):
        raise ValueError(f"{name} is {function!r}: it must be a function of a gene matrix, a sequence of Arch or one Arch")
    probe = space.genes([space.smallest(), space.largest(), space.smallest()])
    by_genes, by_archs = Measure(name, function, False, space), Measure(name, function, True, space)
    by_arch = Measure(name, function, True, space, one_by_one=True)
    failures: list[Exception] = []
    for measure in (by_genes, by_archs, by_arch):
        try:
            values = measure(probe)
        except Exception as error:  # user code may raise anything if it expects another argument
            failures.append(error)
            continue
        if measure is by_genes:
            _require_same_space(by_archs, probe, values)
        return measure
    unfit = (AttributeError, TypeError, ArchError)  # likely raised by a function that expects another argument
    others = [error for error in failures if not isinstance(error, (*unfit, _ShapeError))]  # NaN, or errors of the function itself
    if others:
        raise others[0]
    first, second, third = failures
    last = third if isinstance(third, ArchError) else second if isinstance(first, AttributeError | TypeError) else first
    wrong = next((error for error in failures if isinstance(error, _ShapeError)), last)
    if isinstance(wrong, ArchError):
        raise ValueError(f"{name} was made for another space than the one searched: {wrong}") from wrong
    why = [f"{type(error).__name__}: {error}" if isinstance(error, unfit) else str(error) for error in failures]
    raise ValueError(
        f"{name} fails on a gene matrix ({why[0]}), a list of Arch ({why[1]}) and one Arch ({why[2]}): it must take one of them"
    ) from wrong


def _require_same_space(by_archs: Measure, probe: Genes, values: Floats) -> None:
    """Check the space of a function that takes both forms: in another space, a gene matrix means other networks."""
    try:
        same = np.allclose(by_archs(probe), values, rtol=1e-5, atol=1e-9)
    except OnceForAllError:
        same = False
    except Exception:  # it only takes gene matrices
        return
    if not same:
        raise ValueError(
            f"{by_archs.name} returns different numbers for a gene matrix and for its networks, so it was made for another space "
            "than the one searched: make all functions for one space"
        )


def limits_of(space: Space, limits: Limits) -> tuple[Limit, ...]:
    """Check the limits.

    Raises:
        ValueError: not pairs of a function and a positive number.
    """
    result = []
    for name, pair in limits.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"limit {name!r} is {pair!r}: give a pair of an estimate and a number, such as (table.estimate, 20.0)")
        function, bound = pair
        if isinstance(bound, bool) or not isinstance(bound, int | float | np.number) or not 0 < bound < math.inf:
            raise ValueError(f"limit {name!r} is {bound!r}: it must be a number above 0")
        result.append(Limit(measure_of(space, name, function), float(bound)))
    return tuple(result)
