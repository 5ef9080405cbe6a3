"""Training schemes for all sub-networks: how the steps are divided, which networks are sampled, and which one is the teacher.

Each scheme is a function that returns a `Schedule`; `SCHEMES` lists them by name. All take the full space, the total number of
optimizer steps, the peak learning rate of the first phase, and the recipe shared by all phases. Most also take `warmup`, the share
of warm-up steps, and `subnets`, the number of sub-networks trained per step.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import TrainingError
from ..space import Space
from .schedule import Phase, Recipe, Schedule

# The paper's epochs, warm-up shares, learning rates relative to the first phase, and sub-networks per step (appendix B):
# the largest network, elastic kernel, elastic depth in two steps, elastic expand ratio in two steps.
PAPER_EPOCHS = {"largest": 180.0, "kernel": 125.0, "depth": 150.0, "expand": 150.0}
PAPER_RATES = {"largest": 1.0, "kernel": 0.96 / 2.6, "first": 0.08 / 2.6, "depth": 0.24 / 2.6, "expand": 0.24 / 2.6}
PAPER_WARMUPS = {"largest": 0.0, "kernel": 5 / 125, "first": 0.0, "depth": 5 / 125, "expand": 5 / 125}
PAPER_SUBNETS = {"kernel": 1, "depth": 2, "expand": 4}
FIRST_SHARE = 25 / 150  # share of a dimension's epochs for the first of its two phases


def progressive_shrinking(
    space: Space,
    *,
    steps: int,
    rate: float,
    recipe: Recipe,
    epochs: Mapping[str, float] = PAPER_EPOCHS,
    rates: Mapping[str, float] = PAPER_RATES,
    warmups: Mapping[str, float] = PAPER_WARMUPS,
    subnets: Mapping[str, int] = PAPER_SUBNETS,
    strategy: str = "uniform",
) -> Schedule:
    """The paper's schedule scaled to a number of steps: first the largest network, then smaller choices of one dimension at a time.

    Resolution is elastic throughout. A dimension with one choice has no phase, one with three choices has two phases. Stage widths,
    which the paper does not vary, come last, with the lengths, rates and sub-networks of "expand". Attention heads become elastic
    together with the expand ratios.

    Args:
        epochs: relative lengths of "largest", "kernel", "depth" and "expand".
        rates: peak learning rates relative to `rate`; "first" is for the first of a dimension's two phases.
        warmups: warm-up share of each phase, with the same names as `rates`.
        subnets: sub-networks per step, by dimension.
        strategy: how sub-networks are sampled in phases with several per step; otherwise, sampling is uniform.

    Raises:
        TrainingError: fewer steps than phases.
    """
    names = {"kernel": "kernels", "depth": "depths", "expand": "expand_ratios", "width": "widths"}
    keep = _only_largest(space)
    phases, lengths, shares = list[Phase](), list[float](), list[float]()

    def add(name: str, length: float, kind: str, number: int, sort: int | None) -> None:
        drawn, distil = strategy if number > 1 else "uniform", bool(phases)
        phases.append(Phase(name, dict(keep), 1, 0, rate * rates[kind], number, drawn, distil, sort=sort))
        lengths.append(length)
        shares.append(warmups[kind])

    add("largest", epochs["largest"], "largest", 1, None)
    for dimension, name in names.items():
        short = "expand" if dimension == "width" else dimension
        opened = [name, "heads"] if dimension == "expand" and "heads" in keep else [name]
        widest = max(len(getattr(stage, choice)) for stage in space.stages for choice in opened)
        stops = list(range(2, widest + 1)) if short != "kernel" else [widest] if widest > 1 else []
        for stop in stops:
            last = stop == widest
            share = 1.0 if len(stops) == 1 else 1 - FIRST_SHARE if last else FIRST_SHARE / (len(stops) - 1)
            trained = keep[name]
            keep |= dict.fromkeys(opened, stop)
            label, sort = dimension if len(stops) == 1 else f"{dimension}-{stop}", trained if dimension == "expand" else None
            add(label, epochs[short] * share, short if last else "first", subnets[short], sort)
    _require_steps(steps, len(phases))
    ends = np.round(np.cumsum(lengths) / sum(lengths) * (steps - len(phases))).astype(int)
    counts = (np.diff([0, *ends]) + 1).tolist()
    scaled = zip(phases, counts, shares, strict=True)
    return Schedule(tuple(replace(phase, steps=n, warmup_steps=int(n * share)) for phase, n, share in scaled), recipe)


def single_path(space: Space, *, steps: int, rate: float, recipe: Recipe, warmup: float = 0.05) -> Schedule:
    """One uniformly sampled sub-network per step, trained on the labels alone: the simplest baseline (SPOS, 2020)."""
    return Schedule((_whole("single-path", steps, rate, warmup, subnets=1, distil=False),), recipe)


def all_sizes(space: Space, *, steps: int, rate: float, recipe: Recipe, warmup: float = 0.05) -> Schedule:
    """One sub-network of any size per step, trained on the labels alone: best for weights that are already trained."""
    phase = _whole("all-sizes", steps, rate, warmup, subnets=1, strategy="all_sizes", distil=False)
    return Schedule((phase,), recipe)


def sandwich(
    space: Space,
    *,
    steps: int,
    rate: float,
    recipe: Recipe,
    warmup: float = 0.05,
    subnets: int = 4,
    strategy: str = "sandwich",
    divergence: str = "cross_entropy",
) -> Schedule:
    """One phase; in each step the largest network learns from the labels, the smallest and random ones from it (BigNAS, 2020).

    Args:
        strategy: "sandwich" or "best_up".
        divergence: "cross_entropy", or "adaptive_alpha" for AlphaNet.
    """
    phase = _whole(
        "sandwich", steps, rate, warmup,
        subnets=subnets, strategy=strategy, teacher="largest", labels="largest", divergence=divergence,
    )  # fmt: skip
    return Schedule((phase,), recipe)


def coupled(
    space: Space, *, steps: int, rate: float, recipe: Recipe, warmup: float = 0.05, subnets: int = 4, alone: float = 180 / 330
) -> Schedule:
    """The largest network alone for a share of the steps, then networks with coupled depths and ratios that learn from it.

    The learning rates of the phases have the same proportions as in the paper (CompOFA, 2021).
    """
    _require_steps(steps, 3)
    first = min(max(1, round(alone * steps)), steps - 2)
    second = min(max(1, round((steps - first) * 25 / 150)), steps - first - 1)
    rates = {"low": rate * PAPER_RATES["first"], "high": rate * PAPER_RATES["expand"]}
    learn = {"subnets": subnets, "strategy": "coupled"}
    return Schedule(
        (
            replace(_whole("largest", first, rate, warmup, distil=False), keep=_only_largest(space)),
            replace(_whole("coupled-low", second, rates["low"], 0.0, **learn), sort=1),
            _whole("coupled", steps - first - second, rates["high"], 5 / 125, **learn),
        ),
        recipe,
    )


def delayed_shrinking(
    space: Space,
    *,
    steps: int,
    rate: float,
    recipe: Recipe,
    warmup: float = 0.05,
    subnets: int = 4,
    delay: float = 0.5,
    ramp: float = 0.25,
) -> Schedule:
    """The largest network alone for half of the steps, then the sandwich, with a single cosine over both (DεpS, 2024).

    Args:
        delay: share of the steps before shrinking starts.
        ramp: factor of the smaller networks' loss when shrinking starts; it rises to 1.
    """
    _require_steps(steps, 2)
    first = min(max(1, round(delay * steps)), steps - 1)
    alone = replace(_whole("largest", first, rate, warmup * steps / first, distil=False), keep=_only_largest(space))
    middle = (first - alone.warmup_steps) / (steps - alone.warmup_steps)
    shrinking = _whole(
        "sandwich", steps - first, rate, 0.0, subnets=subnets, strategy="sandwich", teacher="largest", labels="largest", ramp=ramp
    )
    return Schedule((replace(alone, cosine=(0.0, middle)), replace(shrinking, cosine=(middle, 1.0))), recipe)


SCHEMES: dict[str, Callable[..., Schedule]] = {
    "progressive_shrinking": progressive_shrinking,
    "single_path": single_path,
    "all_sizes": all_sizes,
    "sandwich": sandwich,
    "alphanet": partial(sandwich, divergence="adaptive_alpha"),
    "best_up": partial(sandwich, strategy="best_up"),
    "coupled": coupled,
    "delayed_shrinking": delayed_shrinking,
}


def _require_steps(steps: int, phases: int) -> None:
    if steps < phases:
        raise TrainingError(f"{steps} steps for {phases} phases: train for more epochs, or use more images or a smaller batch")


def _whole(name: str, steps: int, rate: float, warmup: float, **options: Any) -> Phase:
    """A phase that trains the whole space."""
    return Phase(name, {}, steps, min(int(steps * warmup), steps - 1), rate, **options)


def _only_largest(space: Space) -> dict[str, int]:
    keep = dict.fromkeys(("kernels", "depths", "expand_ratios", "widths"), 1)
    return {**keep, "heads": 1} if any(len(stage.heads) > 1 for stage in space.stages) else keep
