"""`ofa predict`: measure the accuracy of some sub-networks and fit a predictor of all others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..accuracy import read_rows, spread, tree
from ..arch import Arch
from ..costs import macs_table, segment_table
from ..errors import DataError
from .measure_accuracy import measure_accuracy
from .predictor import Prediction, fit_and_check
from .run import Run

__all__ = ["predict"]

TEST_SHARE = 0.25


def predict(
    folder: Path,
    *,
    subnets: int = 80,
    seed: int = 0,
    device: str = "auto",
    ray: str | None = None,
    data: str | None = None,
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
        data: where the images are now, if they have moved since; None for where the run says.
        on_progress: called with sub-networks measured, sub-networks needed and a note.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """
    if subnets < 16:
        raise DataError(f"--subnets {subnets}: at least 16 are needed, 12 to fit and 4 to check")
    run = Run.open(folder, data)
    run.require_images()
    place, weights = run.folder / "accuracy", run.weights_hash()
    fit, check = _drawn(run, subnets, seed)
    measured = measure_accuracy(folder, archs=[*fit, *check], device=device, ray=ray, data=data, on_progress=on_progress)
    checked = [row for row in measured if row.arch in check]
    rows = read_rows(place, run.space, weights_hash=weights)
    fitted = [row for row in rows if row not in checked]
    return fit_and_check(run, fitted, checked, seed=seed)


def _drawn(run: Run, subnets: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """To fit, a tree; and to check, independent of it, since networks of one tree are too much alike."""
    segments = segment_table(run.space, run.num_classes)
    number = round(TEST_SHARE * subnets)
    ends = {run.space.smallest(), run.space.largest()}  # the fit needs them
    alone = spread(run.space, np.random.default_rng([seed, 6]), number + len(ends), macs_table(segments))
    check = [arch for arch in alone if arch not in ends]
    together = tree(run.space, np.random.default_rng([seed, 5]), subnets - number, segments)
    return [arch for arch in together if arch not in set(check)], check
