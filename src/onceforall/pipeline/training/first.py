"""Prepare trained weights for training: rank units, and fit a classifier on the features."""

import numpy as np
from torch import Tensor

from ...common.progress import QUIET, Progress
from ...common.readable import percent
from ...data import Splits
from ...scores import METRICS
from ...supernets.head import Loss, fit_classifier
from ...supernets.importance import rank_units
from ...supernets.supernet import Supernet
from ...train.state import load_weights
from ..evaluate import accuracy_of
from ..run_directory.run import Run
from .compute import Compute

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
    given: bool = False,
    loss: Loss,
    compute: Compute,
    progress: Progress = QUIET,
) -> tuple[dict[str, Tensor], bool]:
    """The initial weights, prepared so that sub-networks are useful before any training.

    Channels, hidden units and heads of the user's own network are ranked by their contribution on training images. If no training
    follows, a classifier is fitted on the largest network's features of at most 2,000 training images; the network's own
    classifier, if it has one for as many classes, may be untrained or order the classes differently. Training does better from a
    random classifier: one fitted to the largest network's features is far too confident on the features of smaller networks, and
    the gradients spoil the weights (docs/results/pretrained.md).

    Args:
        run: for preprocessing and seed.
        supernet: a supernet of the run's space, which is overwritten.
        weights: trained weights, with a random classifier if there is none for these classes.
        ranked: whether the units are already ranked.
        fit: whether to fit a classifier.
        given: whether the weights have a classifier for as many classes; it is kept if it is no worse on held-out images.
        loss: the loss that fitting minimizes.

    Returns:
        The weights, and whether their classifier was fitted here.
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
    fitted = False
    if fit:
        before = None
        if given:
            before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
            own = accuracy_of(run, supernet, run.space.largest(), splits, splits.held_out).score(run.metric)
        progress.note(f"fitting a classifier on the features of {len(images):,} training images")
        pairs = ((batch.to(compute.device), labels) for batch, labels in run.eval_batches(images, resolution))
        calibration = (batch.to(compute.device) for batch in run.calibration_batches(splits, resolution, CALIBRATED))
        fitted = fit_classifier(supernet, pairs, calibration, loss=loss)
        if not fitted:
            its = "is kept" if given else "starts with random weights"
            progress.note(f"the network does not end in a single linear layer: its classifier {its}")
        elif before is not None:
            new = accuracy_of(run, supernet, run.space.largest(), splits, splits.held_out).score(run.metric)
            fitted = new > own
            if not fitted:
                load_weights(supernet, before)
            kept = "the fitted classifier" if fitted else "the network's own classifier"
            scores = f"{METRICS[run.metric]} {percent(own)} with the network's own, {percent(new)} with the fitted one"
            progress.note(f"{kept} is kept: on {len(splits.held_out):,} held-out images, {scores}")
    return {name: tensor.cpu() for name, tensor in supernet.state_dict().items()}, fitted
