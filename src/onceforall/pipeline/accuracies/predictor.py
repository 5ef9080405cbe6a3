"""`ofa accuracy`: refit the accuracy predictor, compare kinds of models, show it, ask it what to measure next."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...accuracy import (
    AccuracyPredictor,
    AccuracyRow,
    PredictorErrors,
    assess,
    fit_rows,
    kendall_ceiling,
    measurement_noise,
    read_rows,
    suggest,
)
from ...accuracy.choose import LEARNERS, relatives
from ...arch import Arch
from ...common.advice import ofa
from ...common.arguments import takes
from ...common.files import locked, read_json, write_json
from ...common.processors import leads
from ...common.progress import QUIET, Progress
from ...common.records import as_record
from ...costs import macs_table, segment_table
from ...errors import DataError, FileError
from ...options.measuring import ComparePredictorsOptions, FitPredictorOptions, NextSubnetsOptions
from ..run_directory.run import Run

SAMPLES = (100, 300, 1000, 3000)  # sub-networks to fit to when kinds are compared
LEAST_FITTED, LEAST_CHECKED = 12, 4
CHECK_SHARE = 0.25
DOUBTFUL_TAU = 0.3  # highest tau that measurement noise allows
CERTAIN = 1.645  # standard deviations of tau without any order, which 5 % exceed by chance


@dataclass(frozen=True)
class _Checked:
    """The required part of errors.json: the networks on which the predictor was checked."""

    checked: tuple[str, ...]
    fitted_on: int
    n: int
    rmse: float
    kendall_tau: float
    coverage90: float


@dataclass(frozen=True)
class Prediction:
    """A predictor and its errors on the sub-networks `checked`, which were not used for fitting.

    Args:
        predictor: the fitted predictor.
        errors: its errors.
        ceiling: Kendall tau of a perfect predictor, which would know the accuracy on infinitely many images; None where the noise
            of a measurement is not known.
        fitted: measured sub-networks it was fitted to.
        checked: measured sub-networks it was checked on.
    """

    predictor: AccuracyPredictor
    errors: PredictorErrors
    ceiling: float | None
    fitted: list[AccuracyRow]
    checked: list[AccuracyRow]


@dataclass(frozen=True)
class KindComparison:
    """One kind of model fitted to some sub-networks, or the kind that cross-validation chose.

    Args:
        samples: number of sub-networks it was fitted to.
        kind: the kind of model.
        chosen: whether cross-validation chose it.
        errors: on the sub-networks set aside.
    """

    samples: int
    kind: str
    chosen: bool
    errors: PredictorErrors


@takes(FitPredictorOptions)
def fit_predictor(options: FitPredictorOptions) -> Prediction:
    """Fit a predictor to the measured sub-networks, and check it on those that `predict` set aside.

    If `predict` set none aside, a random quarter is, with related sub-networks kept together.
    """
    run = Run.open(options.folder)
    rows = _rows(run)
    with locked(run.folder / "accuracy"):
        fitted, checked = _split(run, rows, options.seed)
        return fit_and_check(run, fitted, checked, kinds=options.kinds, seed=options.seed)


def fit_and_check(
    run: Run, fitted: list[AccuracyRow], checked: list[AccuracyRow], *, kinds: Sequence[str] | None = None, seed: int = 0
) -> Prediction:
    """Fit a predictor to measured sub-networks, check it on others, and save both; under torchrun only the first process writes."""
    noise = measurement_noise([*fitted, *checked])
    predictor = fit_rows(run.space, fitted, weights_hash=run.weights_hash(), kinds=kinds, seed=seed)
    archs, top1 = [row.arch for row in checked], np.array([row.value for row in checked])
    errors = assess(predictor, archs, top1)
    ceiling = None if noise is None else kendall_ceiling(predictor.score(archs), top1, noise, seed)
    if leads():
        place = run.accuracy
        predictor.save(place / "predictor.safetensors")
        facts = {"fitted_on": len(fitted), "images": checked[0].images, "checked": [row.arch.to_json() for row in checked]}
        write_json(place / "errors.json", {**asdict(errors), "ceiling": ceiling, **facts})
    return Prediction(predictor, errors, ceiling, fitted, checked)


def doubt(run: Run) -> str | None:
    """Why the run's predictor ranks networks poorly, and what to do; None if it does not."""
    path = run.accuracy / "errors.json"
    if not path.exists():  # imported
        return None
    found: dict[str, Any] = read_json(path)
    errors, ceiling = as_record(found, _Checked, path), found.get("ceiling")
    n, tau = errors.n, errors.kendall_tau
    chance = CERTAIN * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))) if n > 1 else 1.0
    if not tau > chance:
        why = f"the predictor's ranking is not measurably better than chance (Kendall tau {tau:.2f} on {n} others)"
    elif ceiling is not None and ceiling < DOUBTFUL_TAU:
        why = "the held-out images can hardly tell these sub-networks apart"
    else:
        return None
    more = "" if run.by is not None else f", measure more sub-networks ({ofa('accuracy', 'measure', run.folder)})"
    return (
        f"{why}: for a better choice train with more images or hold out more of them (ofa train --holdout 0.3){more}, or take the "
        "largest network within the limits"
    )


@takes(ComparePredictorsOptions)
def compare_predictors(options: ComparePredictorsOptions, *, progress: Progress = QUIET) -> list[KindComparison]:
    """Fit each kind of model to some of the measured sub-networks, and compare their errors and cross-validation's choice.

    All are checked on the same sub-networks as in `fit_predictor`. Nothing is written.

    Args:
        progress: its `result` gets each comparison as soon as it is made.

    Raises:
        DataError: too few sub-networks are measured for the smallest number of samples.
    """
    run, seed = Run.open(options.folder), options.seed
    rows = _rows(run)
    fitted, checked = _split(run, rows, seed)
    samples = options.samples or [*(n for n in SAMPLES if n < len(fitted)), len(fitted)]
    fitting = [n for n in samples if LEAST_FITTED <= n <= len(fitted)]
    if not fitting:
        raise DataError(
            f"--samples {','.join(map(str, samples))}: give numbers from {LEAST_FITTED} to {len(fitted)}, the number of measured "
            f"sub-networks in {run.folder} that are not set aside, or measure more: {ofa('accuracy', 'measure', run.folder)}"
        )
    if skipped := [n for n in samples if n not in fitting]:
        progress.say(f"skipped {', '.join(map(str, skipped))}: {LEAST_FITTED} to {len(fitted)} sub-networks can be fitted to")
    archs, top1 = [row.arch for row in checked], [row.value for row in checked]
    order = _by_family(run, fitted, np.random.default_rng([seed, 8]))
    results = []
    for n in fitting:
        part = [fitted[i] for i in order[:n]]
        fit = partial(fit_rows, run.space, part, weights_hash=run.weights_hash(), seed=seed)
        chosen = fit(kinds=list(LEARNERS))
        for kind in LEARNERS:
            predictor = chosen if kind == chosen.kind else fit(kinds=[kind])
            results.append(KindComparison(n, kind, kind == chosen.kind, assess(predictor, archs, top1)))
            progress.result(results[-1])
    return results


@takes(NextSubnetsOptions)
def next_subnets(options: NextSubnetsOptions) -> list[Arch]:
    """Suggest sub-networks to measure next: those predicted to be near the accuracy/MACs front, and uncertain."""
    run = Run.open(options.folder)
    predictor = load_predictor(run)
    known = [row.arch for row in read_rows(run.folder / "accuracy", run.space, weights_hash=run.weights_hash())]
    return suggest(
        predictor, macs_table(segment_table(run.space, run.num_classes)), options.subnets, known=known, seed=options.seed
    )


def show_predictor(folder: Path) -> dict[str, Any]:
    """Kind, errors and error bars of a run's predictor, as JSON values. "errors" is None if it was imported."""
    run = Run.open(folder)
    predictor = load_predictor(run)
    errors, rows = checks(run)
    return {
        "kind": predictor.kind,
        "fitted_on": predictor.n,
        "weights": predictor.weights_hash,
        "provable": predictor.structure() is not None,
        "calibration": asdict(predictor.calibration),
        "cross_validated_rmse": dict(predictor.candidates),
        "errors": errors if rows else None,
    }


def load_predictor(run: Run) -> AccuracyPredictor:
    """The predictor that was fitted for the current weights, or imported with them.

    Raises:
        FileError: there is none yet.
        CheckpointError: it belongs to other weights.
    """
    path = run.accuracy / "predictor.safetensors"
    if not path.exists():
        raise FileError(f"{run.folder}: no accuracy predictor yet: {ofa('predict', run.folder)}")
    return AccuracyPredictor.load(path, run.space, weights_hash=run.weights_hash())


def measured_rows(run: Run) -> list[AccuracyRow]:
    """Measured sub-networks of the current weights; of any weights if supernet.safetensors is gone."""
    known = run.weights_hash() if run.finished else None
    return read_rows(run.folder / "accuracy", run.space, weights_hash=known)


def errors_of(run: Run) -> tuple[dict[str, float], set[str]]:
    """Errors of the predictor and the networks it was checked on, as JSON; empty if it was not."""
    path = run.folder / "accuracy" / "errors.json"
    if not path.exists():
        return {}, set()
    found: dict[str, Any] = read_json(path)
    checked = set(as_record(found, _Checked, path).checked)
    return {name: value for name, value in found.items() if name != "checked"}, checked


def checks(run: Run) -> tuple[dict[str, float], list[AccuracyRow]]:
    """Errors of the predictor and the rows it was checked on, for the report; empty if there is none."""
    errors, checked = errors_of(run)
    rows = read_rows(run.folder / "accuracy", run.space) if checked else []
    return errors, [row for row in rows if row.arch.to_json() in checked]


def _rows(run: Run) -> list[AccuracyRow]:
    rows = read_rows(run.folder / "accuracy", run.space, weights_hash=run.weights_hash())
    if len(rows) < LEAST_FITTED + LEAST_CHECKED:
        least, more = LEAST_FITTED + LEAST_CHECKED, ofa("accuracy", "measure", run.folder)
        raise DataError(f"{run.folder}: {len(rows)} sub-networks are measured, at least {least} are needed: {more}")
    return rows


def _split(run: Run, rows: list[AccuracyRow], seed: int) -> tuple[list[AccuracyRow], list[AccuracyRow]]:
    """Rows to fit and rows to check: what `predict` set aside, or a random quarter with related sub-networks kept together."""
    _, checked = checks(run)
    if len(checked) < LEAST_CHECKED or len(rows) - len(checked) < LEAST_FITTED:
        order = _by_family(run, rows, np.random.default_rng([seed, 9]))
        checked = [rows[i] for i in order[: max(LEAST_CHECKED, round(CHECK_SHARE * len(rows)))]]
    aside = {row.arch for row in checked}
    return [row for row in rows if row.arch not in aside], checked


def _by_family(run: Run, rows: list[AccuracyRow], rng: np.random.Generator) -> list[int]:
    """Indices of the rows, relatives in random order."""
    family = relatives(run.space, run.space.genes([row.arch for row in rows]))
    place = rng.permutation(family.max() + 1)
    order: list[int] = np.argsort(place[family], kind="stable").tolist()
    return order
