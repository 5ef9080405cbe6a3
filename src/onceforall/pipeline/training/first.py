"""Prepare trained weights for training: rank units, and fit a classifier on the features."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ...common.progress import QUIET, Progress
from ...data import Splits
from ...supernets.head import fit_classifier
from ...supernets.importance import rank_units
from ...supernets.supernet import Supernet
from ...train import Phase, Schedule
from ...train.state import load_weights
from ..run_directory.run import Run
from .compute import Compute

Event = dict[str, Any]
IMAGES = 2000  # training images to fit the classifier on
RANKED = 256  # of these, to rank channels and heads on
CALIBRATED = 500  # training images for the statistics of the network whose features are used


def first_networks(
    run: Run,
    splits: Splits,
    supernet: Supernet,
    weights: dict[str, Tensor],
    *,
    ranked: bool,
    fit: bool,
    compute: Compute,
    progress: Progress = QUIET,
) -> dict[str, Tensor]:
    """The initial weights, prepared so that sub-networks are useful before any training.

    Channels, hidden units and heads of the user's own network are ranked by their contribution on training images. If no training
    follows and the weights have no classifier for these classes, one is fitted on the largest network's features of at most
    2,000 training images. Training starts better from a random classifier: one fitted to the largest network's features is far
    too confident on those of smaller ones, and their gradients spoil the weights (docs/results/pretrained.md).

    Args:
        run: for preprocessing and seed.
        supernet: of the run's space; it is overwritten.
        weights: trained weights, with a random classifier if there is none for these classes.
        ranked: whether the units are already ranked.
        fit: whether to fit a classifier.
    """
    supernet = supernet.to(compute.device)
    load_weights(supernet, weights)
    supernet.eval()
    resolution = run.space.resolutions[-1]
    images = splits.train.sample(IMAGES)
    images = images.subset(np.random.default_rng(run.info.seed).permutation(len(images)))
    if not ranked and run.space.family == "graph":
        batches = run.eval_batches(images.subset(np.arange(min(RANKED, len(images)))), resolution)
        rank_units(supernet, None, [batch.to(compute.device) for batch, _ in batches])
        progress.note(f"channels ranked by their contribution on {min(RANKED, len(images)):,} training images")
    if fit:
        progress.note(f"fitting a classifier on the features of {len(images):,} training images")
        given = ((batch.to(compute.device), labels) for batch, labels in run.eval_batches(images, resolution))
        calibration = (batch.to(compute.device) for batch in run.calibration_batches(splits, resolution, CALIBRATED))
        if not fit_classifier(supernet, given, calibration, loss=lambda logits, labels: run.task.loss(logits, labels, 0.0, ())):
            progress.note("the network does not end in a single linear layer: its classifier starts with random weights")
    return {name: tensor.cpu() for name, tensor in supernet.state_dict().items()}


def nothing_trained(schedule: Schedule) -> Schedule:
    """The schedule's recipe with no training steps."""
    return replace(schedule, phases=(Phase("start", {}, 0, 0, schedule.phases[0].rate, distil=False),))
