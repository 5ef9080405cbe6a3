"""The engine behind the sliders: loads predictor and latency tables, fills the pool in the background, refines requested limits."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..costs import CostTable, macs_table, memory_table, params_table, segment_table
from ..errors import InfeasibleError, OnceForAllError
from ..genes import Genes
from ..latency import LatencyTable
from ..options.choosing import CAUTION
from ..pipeline import Run
from ..pipeline.accuracies.predictor import load_predictor
from ..pipeline.profile import latency_tables
from ..search import Objectives, maximise, pareto
from .pool import Floats, NetworkPool
from .quick import STANDING, Standing, quick_predictor

Wanted = tuple[tuple[str, float], ...]  # limits by name
LATENCY = "latency:"  # prefix: "latency:DEVICE" is the cost of latency on a device
RANDOM = 4096
CLOUD = 500  # random networks behind the front
ROUNDS = (15_000, 30_000, 30_000)  # networks to evaluate along the front of each cost
MIXES = 4  # fronts of random mixtures of the costs
WAITING = 4  # refinements that may wait; older ones are dropped
REFINE_EVALUATIONS = 40_000
WATCH_S = 2.0


@dataclass(frozen=True)
class Models:
    """Everything that computes numbers for a run's networks.

    Args:
        run: a run with weights.
        predictor: accuracy predictor.
        standing: what the predictor of a quick look is based on; None for the run's own predictor.
        tables: latency tables by device.
        costs: MACs, parameters and memory by name, and "latency:DEVICE" for each table.
        generation: number of times models have been loaded, including this one.
    """

    run: Run
    predictor: Any
    standing: Standing | None
    tables: dict[str, LatencyTable]
    costs: dict[str, CostTable | LatencyTable]
    generation: int = 1

    @classmethod
    def load(cls, run: Run, generation: int = 1) -> "Models":
        """Load the models from the run directory, with its own predictor or else a quick look's.

        Raises:
            OnceForAllError: there is no predictor, or a file is damaged.
        """
        found = quick_predictor(run)
        if found is None:
            run.weights_hash()  # raises an error if training has not finished, which is to be reported first
        predictor, standing = (load_predictor(run), None) if found is None else found
        segments = segment_table(run.space, run.num_classes)
        costs: dict[str, CostTable | LatencyTable] = {
            "macs": macs_table(segments),
            "params": params_table(segments),
            "memory_bytes": memory_table(segments),
        }
        tables = {table.device.spec: table for table in latency_tables(run).values()}
        costs |= {LATENCY + spec: table for spec, table in tables.items()}
        return cls(run, predictor, standing, tables, costs, generation)

    def pool(self, genes: Genes) -> NetworkPool:
        """A pool of the networks with all their numbers."""
        return self.priced(genes, *self.predictor.score_with_error(genes))

    def priced(self, genes: Genes, mean: Floats, std: Floats) -> NetworkPool:
        """A pool of networks whose predictions are known; these are not clipped, so that searches can tell the best apart."""
        return NetworkPool(
            genes,
            mean - CAUTION * std,
            np.clip(mean, 0, 1),
            std,
            {name: table.estimate(genes) for name, table in self.costs.items()},
        )

    def mixed(self, weights: Mapping[str, float], genes: Genes) -> Floats:
        """A weighted sum of the costs."""
        return np.asarray(sum(weight * self.costs[name].estimate(genes) for name, weight in weights.items()))


@dataclass
class Engine:
    """The models of a run, its pool, and the thread that improves it.

    `version` grows with every change; `generation` when the models are loaded again because the predictor, a latency profile or
    the weights were replaced, which makes all earlier numbers obsolete.

    `problem` says why there is no pool: nothing to predict with yet, or a damaged file.
    """

    run: Run
    models: Models | None = None
    pool: NetworkPool | None = None
    cloud: NetworkPool | None = None
    problem: str = ""
    version: int = 0
    generation: int = 0
    considered: int = 0
    filling: bool = True
    stopping: threading.Event = field(default_factory=threading.Event)
    _asked: list[Wanted] = field(default_factory=list)
    _done: set[Wanted] = field(default_factory=set)
    _wake: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="explorer", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its current step."""
        self.stopping.set()
        self._wake.set()

    def now(self) -> tuple[Models, NetworkPool, NetworkPool] | None:
        """The models with their pool and random networks, read together; None while there are none."""
        with self._lock:
            return None if self.models is None or self.pool is None or self.cloud is None else (self.models, self.pool, self.cloud)

    def refine(self, limits: Mapping[str, float]) -> bool:
        """Request a search with these limits; False if it was already done."""
        wanted = tuple(sorted(limits.items()))
        with self._lock:
            if wanted in self._done:
                return False
            if wanted in self._asked:
                self._asked.remove(wanted)
            self._asked = [*self._asked, wanted][-WAITING:]
        self._wake.set()
        return True

    def refining(self, limits: Mapping[str, float]) -> bool:
        """Whether a search with these limits is waiting."""
        with self._lock:
            return tuple(sorted(limits.items())) in self._asked

    def _work(self) -> None:
        seen: Any = None
        steps: Iterator[None] = iter(())
        while not self.stopping.is_set():
            if (now := self._files()) != seen:
                seen, steps = now, self._begin()
            if self._next():
                continue
            if next(steps, True):  # there are no more steps
                self.version += self.filling
                self.filling = False
                self._wake.wait(WATCH_S)
                self._wake.clear()

    def _files(self) -> list[tuple[str, int, int]]:
        """The files of the models, with times and sizes: when one changes, the models are loaded again."""
        patterns, found = ("supernet.safetensors", "accuracy/predictor.safetensors", "latency/*/table.json", STANDING), []
        for path in sorted(path for pattern in patterns for path in self.run.folder.glob(pattern)):
            with suppress(OSError):  # it is just being replaced
                found.append((str(path), path.stat().st_mtime_ns, path.stat().st_size))
        return found

    def _begin(self) -> Iterator[None]:
        try:
            models = Models.load(self.run, self.generation + 1)
        except OnceForAllError as error:
            with self._lock:
                self.models, self.pool, self.problem, self.filling = None, None, str(error), False
            self.version += 1
            return iter(())
        self.problem, self.considered, self.filling = "", 0, True
        return self._fill(models)

    def _fill(self, models: Models) -> Iterator[None]:
        """Fill the pool step by step, first with random networks, then with the results of ever longer searches."""
        space, rng = models.run.space, np.random.default_rng(0)
        genes = space.sample_genes(rng, RANDOM)
        cloud = models.pool(genes[:CLOUD])
        ends = space.genes([end(size) for size in space.resolutions for end in (space.smallest, space.largest)])
        self.considered = len(genes) + len(ends)
        pool = models.pool(np.concatenate([ends, genes])).thinned()
        with self._lock:  # earlier requests may name costs that no longer exist, and were answered from old numbers
            self._done.clear()
            self._asked.clear()
            self.models, self.pool, self.cloud, self.generation = models, pool, cloud, models.generation
        self.version += 1
        yield
        tables = models.costs.values()
        searches = [(table.estimate, evaluations, turn) for turn, evaluations in enumerate(ROUNDS) for table in tables]
        for seed in range(MIXES):
            weights = {name: float(rng.exponential()) / float(self.pool.costs[name].max()) for name in models.costs}
            searches.append((partial(models.mixed, weights), ROUNDS[-1], 100 + seed))
        for cost, evaluations, seed in searches:
            with self._recorded(models) as score:
                goals: Objectives = {"score": (score, "max"), "cost": (cost, "min")}
                pareto(space, goals, seed=seed, evaluations=evaluations, size=64)
            yield

    @contextmanager
    def _recorded(self, models: Models) -> Iterator[Callable[[Genes], Floats]]:
        """A score for a search; all networks that the search evaluates are added to the pool."""
        seen: list[tuple[Genes, Floats, Floats]] = []

        def score(genes: Genes) -> Floats:
            mean, std = models.predictor.score_with_error(genes)
            if isinstance(genes, np.ndarray):  # searches also test whether a list of Arch is accepted
                seen.append((genes, mean, std))
            return np.asarray(mean - CAUTION * std)

        yield score
        assert self.pool is not None
        if seen:
            found = models.priced(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
            self.considered += len(found)
            self.pool = self.pool.merged(found)
        self.version += 1

    def _next(self) -> bool:
        """Search for the limits requested last, if any."""
        models = self.models
        if models is None or self.pool is None:
            return False
        with self._lock:  # a page may have sent a request just before its device was removed
            self._asked = [limits for limits in self._asked if all(name in models.costs for name, _ in limits)]
            if not self._asked:
                return False
            wanted = self._asked[-1]
        row = self.pool.best(dict(wanted))
        if row is not None:
            start = models.run.space.archs(self.pool.genes[row : row + 1])
            bounds = {name: (models.costs[name].estimate, most) for name, most in wanted}
            with self._recorded(models) as score, suppress(InfeasibleError):  # after rounding, no network may meet the limits
                maximise(models.run.space, score, bounds, start=start, evaluations=REFINE_EVALUATIONS)
        with self._lock:
            self._done.add(wanted)
            if wanted in self._asked:
                self._asked.remove(wanted)
        self.version += 1
        return True
