"""`ofa predict`: measure the accuracy of some sub-networks and fit a predictor for all others.

Most are drawn beforehand, over all sizes. The others are chosen in rounds, where the current predictor expects the best networks:
a search will ask about those.
"""

import os
from collections.abc import Sequence

import numpy as np

from ...accuracy import AccuracyRow, fit_rows, read_rows, spread, suggest, tree
from ...arch import Arch
from ...common.arguments import takes
from ...common.progress import QUIET, Progress
from ...costs import macs_table, segment_table
from ...options.measuring import PredictOptions
from ..run_directory.run import Run
from .measure_accuracy import measure_accuracy
from .predictor import Prediction, fit_and_check

TEST_SHARE = 0.25
CHOSEN_SHARE, ROUNDS = 0.4, 2  # share of the networks to fit; fewer than LEAST_CHOSEN are not worth a round
LEAST_CHOSEN = 10


@takes(PredictOptions)
def predict(options: PredictOptions, *, progress: Progress = QUIET) -> Prediction:
    """Measure sub-networks of a trained run on held-out images and fit an accuracy predictor. Test images are not touched.

    Under torchrun, the processes divide the sub-networks, which are then all drawn beforehand.

    Args:
        progress: its `count` gets sub-networks measured, sub-networks needed and a note.
    """
    run, subnets, seed = Run.open(options.folder, options.data).judged_by(options.metric), options.subnets, options.seed
    run.require_images()
    place, weights = run.accuracy, run.weights_hash()
    chosen = round(CHOSEN_SHARE * (1 - TEST_SHARE) * subnets)
    if chosen < LEAST_CHOSEN or run.space.count() < 2 * subnets or os.environ.get("WORLD_SIZE", "1") != "1":
        chosen = 0
    fit, check = _drawn(run, subnets - chosen, seed, round(TEST_SHARE * subnets))

    def measured(archs: Sequence[Arch], before: int) -> list[AccuracyRow]:
        return measure_accuracy(
            options.folder, archs=archs, device=options.device, ray=options.ray, data=options.data, metric=options.metric,
            progress=Progress(count=lambda done, total, what: progress.count(before + done, subnets, what)),
        )  # fmt: skip

    rows = measured([*fit, *check], 0)
    checked, own = [row for row in rows if row.arch in check], [row for row in rows if row.arch not in check]
    macs = macs_table(segment_table(run.space, run.num_classes))
    for turn in range(ROUNDS if chosen else 0):
        few = chosen // ROUNDS if turn < ROUNDS - 1 else chosen - len(own) + len(fit)
        # depends only on what this call has drawn, so that the same call makes the same choice
        guess = fit_rows(run.space, own, weights_hash=weights, seed=seed)
        archs = suggest(guess, macs, few, known=[row.arch for row in (*own, *checked)], seed=seed + turn)
        own += measured(archs, len(own) + len(checked))
    rows = read_rows(place, run.space, weights_hash=weights)
    fitted = [row for row in rows if row not in checked]
    return fit_and_check(run, fitted, checked, seed=seed)


def _drawn(run: Run, subnets: int, seed: int, number: int) -> tuple[list[Arch], list[Arch]]:
    """Networks to fit, a tree, and `number` independent ones to check: networks of one tree are too similar."""
    segments = segment_table(run.space, run.num_classes)
    ends = {run.space.smallest(), run.space.largest()}  # the fit needs them
    alone = spread(run.space, np.random.default_rng([seed, 6]), number + len(ends), macs_table(segments))
    check = [arch for arch in alone if arch not in ends]
    together = tree(run.space, np.random.default_rng([seed, 5]), subnets - number, segments)
    return [arch for arch in together if arch not in set(check)], check
