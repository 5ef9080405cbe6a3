"""Measure sub-networks of a trained supernet: extract, recalibrate, evaluate."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from torch import Tensor

from ..arch import Arch
from ..calibrate import evaluate, recalibrate
from ..supernet import Supernet
from .rows import AccuracyRow

__all__ = ["measure_accuracy"]


def measure_accuracy(
    supernet: Supernet,
    archs: Sequence[Arch],
    calibration: Callable[[int], Iterable[Tensor]],
    evaluation: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    *,
    on_row: Callable[[AccuracyRow], None] = lambda row: None,
    done: Collection[Arch] = (),
) -> list[AccuracyRow]:
    """Accuracy of each architecture with the supernet's weights, each with BatchNorm statistics of its own.

    Batches are asked for anew for each network, so memory does not grow with the number of images.

    Args:
        supernet: the shared weights.
        archs: what to measure; an architecture that occurs twice is measured once.
        calibration: by resolution, training images (n, 3, height, width), preprocessed, on the supernet's device.
        evaluation: by resolution, held-out images and labels, never test images.
        on_row: called with each row as soon as it is measured, so that nothing is lost on an interruption.
        done: architectures to leave out because they were measured before.

    Returns:
        The new rows, in the order of measuring.

    Raises:
        ArchError: an architecture outside the supernet's space; before anything is measured.
    """
    for arch in archs:
        supernet.space.check(arch)
    rows = []
    for arch in dict.fromkeys(archs):
        if arch in done:
            continue
        began = time.perf_counter()
        found = evaluate(recalibrate(supernet.extract(arch), calibration(arch.resolution)), evaluation(arch.resolution))
        row = AccuracyRow(arch, found.top1, found.loss, found.images, time.perf_counter() - began)
        rows.append(row)
        on_row(row)
    return rows
