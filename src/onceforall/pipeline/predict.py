"""`ofa predict`: measure the accuracy of some sub-networks and fit a predictor of all others."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..accuracy import AccuracyPredictor, AccuracyRow, PredictorErrors, append_rows, assess, read_rows, spread
from ..accuracy.measure import measure_accuracy
from ..arch import Arch
from ..costs import macs_table, segment_table
from ..errors import DataError, FileError
from ..files import locked, make_folder, read_json, write_json
from ..train import World
from .compute import Compute, choose_compute
from .run import Run

__all__ = ["Prediction", "load_predictor", "predict"]

ROWS_PER_FILE = 10
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
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Prediction:
    """Measure sub-networks of a trained run on held-out images and fit an accuracy predictor; test images are not touched.

    Started by torchrun, the processes share out the sub-networks.

    Args:
        folder: the run directory; accuracy/ gets the measured rows as Parquet and the predictor. Rows that are there are used.
        subnets: to measure; a quarter of them is kept from the fit, to check the predictor.
        seed: of the sub-networks drawn.
        device: to run them on, see `choose_compute`.
        on_progress: called with sub-networks measured, sub-networks needed and a note.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    if subnets < 16:
        raise DataError(f"--subnets {subnets}: at least 16 are needed, 12 to fit and 4 to check")
    run = Run.open(folder)
    run.require_images()
    place = run.folder / "accuracy"
    compute = choose_compute(device)
    weights = run.weights_hash()
    archs = spread(run.space, np.random.default_rng([seed, 5]), subnets, macs_table(segment_table(run.space, run.num_classes)))
    with World.joined(compute.device.type) as world, locked(make_folder(place)) if world.leads else nullcontext():
        tell = on_progress if world.leads else _silent
        _measure(run, archs[world.rank :: world.size], place, weights, world.rank, compute, tell)
        world.wait()
        rows = read_rows(place, run.space, weights_hash=weights)
        world.wait()
    by_arch = {row.arch: row for row in rows}
    checked = [by_arch[arch] for arch in _kept_aside(archs, seed)]
    fitted = [row for row in rows if row not in checked]
    predictor = AccuracyPredictor.fit(
        run.space, [row.arch for row in fitted], [row.top1 for row in fitted], seed=seed, weights_hash=weights
    )
    errors = assess(predictor, [row.arch for row in checked], [row.top1 for row in checked])
    if not world.leads:
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


def _silent(done: int, total: int, what: str) -> None:
    """For the processes that do not lead."""


def _measure(
    run: Run,
    archs: list[Arch],
    place: Path,
    weights: str,
    writer: int,
    compute: Compute,
    on_progress: Callable[[int, int, str], None],
) -> None:
    """Measure what was not measured before; rows are written every few and at the end."""
    known = {row.arch for row in read_rows(place, run.space, weights_hash=weights)}
    done, pending = sum(arch in known for arch in archs), list[AccuracyRow]()
    supernet, splits = run.supernet().to(compute.device), run.splits()

    def keep() -> None:
        append_rows(place, run.space, pending, weights_hash=weights, writer=writer)
        pending.clear()

    def on_row(row: AccuracyRow) -> None:
        nonlocal done
        done += 1
        pending.append(row)
        on_progress(done, len(archs), f"top-1 {row.top1:.3f}")
        if len(pending) == ROWS_PER_FILE:
            keep()

    on_progress(done, len(archs), "")
    try:
        measure_accuracy(
            supernet,
            archs,
            lambda resolution: run.calibration_batches(splits, resolution),
            lambda resolution: run.eval_batches(splits.held_out, resolution),
            on_row=on_row,
            done=known,
        )
    finally:
        keep()


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


def _kept_aside(archs: list[Arch], seed: int) -> list[Arch]:
    """A random quarter; never the smallest and largest, which come first and which the fit needs."""
    order = np.random.default_rng([seed, 6]).permutation(np.arange(2, len(archs)))
    return [archs[i] for i in sorted(order[: round(TEST_SHARE * len(archs))].tolist())]
