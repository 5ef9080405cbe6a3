"""`ofa predict`: measure the accuracy of some sub-networks and fit a predictor of all others."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..accuracy import AccuracyPredictor, AccuracyRow, PredictorErrors, assess, read_rows, spread, tree
from ..arch import Arch
from ..costs import macs_table, segment_table
from ..errors import DataError, FileError
from ..files import read_json, write_json
from .measure_accuracy import measure_accuracy
from .run import Run

__all__ = ["Prediction", "load_predictor", "predict"]

TEST_SHARE = 0.25


@dataclass(frozen=True)
class Prediction:
    """A predictor and its errors on the sub-networks `checked`, which were not used for fitting."""

    predictor: AccuracyPredictor
    errors: PredictorErrors
    fitted: list[AccuracyRow]
    checked: list[AccuracyRow]


def predict(
    folder: Path,
    *,
    subnets: int = 80,
    seed: int = 0,
    device: str = "auto",
    ray: str | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Prediction:
    """Measure sub-networks of a trained run on held-out images and fit an accuracy predictor; test images are not touched.

    Started by torchrun, the processes share out the sub-networks.

    Args:
        folder: the run directory; accuracy/ gets the measured rows as Parquet and the predictor. Rows that are there are used.
        subnets: to measure; a quarter of them checks the predictor: drawn independently, the others as a tree.
        seed: of the sub-networks drawn.
        device: to run them on, see `choose_compute`.
        ray: see `measure_accuracy`.
        on_progress: called with sub-networks measured, sub-networks needed and a note.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    if subnets < 16:
        raise DataError(f"--subnets {subnets}: at least 16 are needed, 12 to fit and 4 to check")
    run = Run.open(folder)
    run.require_images()
    place, weights = run.folder / "accuracy", run.weights_hash()
    fit, check = _drawn(run, subnets, seed)
    measured = measure_accuracy(folder, archs=[*fit, *check], device=device, ray=ray, on_progress=on_progress)
    checked = [row for row in measured if row.arch in check]
    rows = read_rows(place, run.space, weights_hash=weights)
    fitted = [row for row in rows if row not in checked]
    predictor = AccuracyPredictor.fit(
        run.space, [row.arch for row in fitted], [row.top1 for row in fitted], seed=seed, weights_hash=weights
    )
    errors = assess(predictor, [row.arch for row in checked], [row.top1 for row in checked])
    if os.environ.get("RANK", "0") != "0":  # torchrun's others
        return Prediction(predictor, errors, fitted, checked)
    predictor.save(place / "predictor.safetensors")
    write_json(
        place / "errors.json",
        {
            **asdict(errors),
            "fitted_on": len(fitted),
            "images": checked[0].images,
            "checked": [row.arch.to_json() for row in checked],
        },
    )
    return Prediction(predictor, errors, fitted, checked)


def _drawn(run: Run, subnets: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """To fit, a tree; and to check, independent of it, since networks of one tree are too much alike."""
    segments = segment_table(run.space, run.num_classes)
    number = round(TEST_SHARE * subnets)
    ends = {run.space.smallest(), run.space.largest()}  # the fit needs them
    alone = spread(run.space, np.random.default_rng([seed, 6]), number + len(ends), macs_table(segments))
    check = [arch for arch in alone if arch not in ends]
    together = tree(run.space, np.random.default_rng([seed, 5]), subnets - number, segments)
    return [arch for arch in together if arch not in set(check)], check


def load_predictor(run: Run) -> AccuracyPredictor:
    """The predictor that `predict` made for the present weights, or that was imported with them.

    Raises:
        FileError: there is none yet.
        CheckpointError: it belongs to other weights.
    """
    path = run.folder / "accuracy" / "predictor.safetensors"
    if not path.exists():
        raise FileError(f"{run.folder}: no accuracy predictor yet: ofa predict {run.folder}")
    return AccuracyPredictor.load(path, run.space, weights_hash=run.weights_hash())


def checks(run: Run) -> tuple[dict[str, float], list[AccuracyRow]]:
    """Errors of the predictor and the rows it was checked on, for the report; empty if there is none."""
    path = run.folder / "accuracy" / "errors.json"
    if not path.exists():
        return {}, []
    errors = read_json(path)
    wanted = set(errors.pop("checked"))
    rows = [row for row in read_rows(path.parent, run.space) if row.arch.to_json() in wanted]
    return errors, rows
