"""`ofa accuracy measure`: accuracy of many sub-networks on held-out images; shared prefixes are computed once.

Sub-networks are measured in groups, and the rows of a group are written as one file, atomically. After a crash, nothing that
was written is lost or measured again.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...accuracy import AccuracyRow, append_rows, interpolate, measured_resolutions, read_rows, tree
from ...accuracy.measure import AT_ONCE, measure_together
from ...accuracy.prefix_tree import grow, share_out, units
from ...arch import Arch
from ...calibrate import Statistics
from ...common.arguments import takes
from ...common.files import locked, make_folder
from ...common.memory import keep_freed_memory
from ...common.progress import QUIET, Progress
from ...costs import macs_table, segment_table
from ...data import Images, Splits
from ...errors import DataError, TrainingError
from ...options.measuring import MeasureAccuracyOptions
from ...scores import METRICS
from ...supernets.supernet import Supernet
from ...train import World
from ..run_directory.run import CALIBRATION_IMAGES, Run
from ..training.compute import Compute, choose_compute
from .cluster import on_cluster

_Task = tuple[tuple[Path, str | None, str | None, str, str], list[Arch]]  # arguments of `_opened`, and a group to measure
LEAST_AT_ONCE, GROUPS = 4, 4  # groups shrink, down to LEAST_AT_ONCE, so that each of several processes has GROUPS of them


@takes(MeasureAccuracyOptions)
def measure_accuracy(options: MeasureAccuracyOptions, *, progress: Progress = QUIET) -> list[AccuracyRow]:
    """Measure sub-networks of a trained run on held-out images, skipping those measured before. Test images are not touched.

    Under torchrun, the processes divide the work; each returns all rows.

    Args:
        progress: its `count` gets sub-networks measured, sub-networks needed and a note.

    Returns:
        The rows of the requested sub-networks, in order, then the interpolated ones.
    """
    run, every, ray = Run.open(options.folder, options.data).judged_by(options.metric), options.every, options.ray
    run.require_images()
    wanted = list(dict.fromkeys(_drawn(run, options.subnets, every, options.seed) if options.archs is None else options.archs))
    for arch in wanted:
        run.space.check(arch)
    compute = choose_compute(options.device)
    place, weights = run.accuracy, run.weights_hash()
    with World.joined(compute.device.type) as world, locked(make_folder(place)) if world.leads else nullcontext():
        if ray is not None and world.size > 1:
            raise TrainingError(f"--ray {ray} does not work under torchrun: use one of the two")
        known = {row.arch for row in read_rows(place, run.space, weights_hash=weights)}
        world.wait()  # all processes have read before any writes
        missing = [arch for arch in wanted if arch not in known]
        done, progress = len(wanted) - len(missing), progress if world.leads else QUIET
        progress.count(done, len(wanted), "")

        def note(text: str) -> None:
            progress.count(done, len(wanted), text)

        if run.moved and not missing and world.leads:
            run.splits(Progress(say=note))  # not needed here, but a new location is checked and saved
        if missing:
            found = (
                _measured(run, missing, compute, world, Progress(say=note)) if ray is None else _on_ray(run, missing, compute, ray)
            )
            for rows in found:
                append_rows(place, run.space, rows, weights_hash=weights, writer=world.rank)
                done += len(rows)
                low, high = min(row.value for row in rows), max(row.value for row in rows)
                progress.count(done, len(wanted), f"{METRICS[run.metric]} {low:.3f} to {high:.3f}")
        world.wait()
        by_arch = {row.arch: row for row in read_rows(place, run.space, weights_hash=weights)}
    result = [by_arch[arch] for arch in wanted]
    if every is not None:
        result += interpolate(run.space, result, macs_table(segment_table(run.space, run.num_classes)))
    return result


def _drawn(run: Run, subnets: int, every: int | None, seed: int) -> list[Arch]:
    """The sub-networks to measure; with `every`, each at two neighboring resolutions out of those to measure at."""
    rng = np.random.default_rng([seed, 5])
    if every is None:
        return tree(run.space, rng, subnets, segment_table(run.space, run.num_classes))
    resolutions = measured_resolutions(run.space, every)
    part = run.space.restrict(resolutions=resolutions)
    archs = tree(part, rng, subnets // 2, segment_table(part, run.num_classes))
    at = [min(resolutions.index(arch.resolution), len(resolutions) - 2) for arch in archs]
    return [replace(arch, resolution=r) for arch, i in zip(archs, at, strict=True) for r in resolutions[i : i + 2]]


def _groups(run: Run, archs: Sequence[Arch], workers: int) -> tuple[list[list[Arch]], list[float]]:
    """Groups of sub-networks to measure together, and the work of each group."""
    plans = {arch: run.space.lower(arch, run.num_classes) for arch in archs}
    at_once = AT_ONCE if workers == 1 else min(AT_ONCE, max(LEAST_AT_ONCE, len(archs) // (GROUPS * workers)))
    groups = units(grow(plans), at_once)
    return groups, [sum(node.work for node in grow({arch: plans[arch] for arch in group})) for group in groups]


def _measured(run: Run, archs: Sequence[Arch], compute: Compute, world: World, progress: Progress) -> Iterator[list[AccuracyRow]]:
    """This process's share, group by group."""
    groups, work = _groups(run, archs, world.size)
    supernet, splits = run.supernet().to(compute.device), run.splits(progress)
    for i in share_out(work, world.size)[world.rank]:
        yield measure_group(run, supernet, splits, groups[i])


def _on_ray(run: Run, archs: Sequence[Arch], compute: Compute, address: str) -> Iterator[list[AccuracyRow]]:
    """All groups from the cluster as they finish; the largest start first."""
    given = run.folder.resolve(), run.new_place, run.by, run.weights_hash(), compute.device.type

    def tasks(workers: int) -> list[_Task]:
        groups, work = _groups(run, archs, workers)
        return [(given, groups[i]) for i in sorted(range(len(groups)), key=lambda i: -work[i])]

    return on_cluster(address, int(compute.device.type == "cuda"), _by_worker, tasks)


def _by_worker(task: _Task) -> list[AccuracyRow]:
    """Measure one group in a worker of the cluster."""
    given, archs = task
    return measure_group(*_opened(*given), archs)


@lru_cache(maxsize=1)
def _opened(folder: Path, data: str | None, metric: str | None, weights: str, device: str) -> tuple[Run, Supernet, Splits]:
    """What a worker needs, opened once for all its tasks."""
    keep_freed_memory()
    run = Run.open(folder, data).judged_by(metric)
    if run.weights_hash() != weights:
        raise DataError(f"{folder}: a worker of the cluster finds other weights there: the folder must be the same on all machines")
    return run, run.supernet().to(choose_compute(device).device), run.splits()


def measure_group(
    run: Run,
    supernet: Supernet,
    splits: Splits,
    archs: Sequence[Arch],
    *,
    held_out: Images | None = None,
    calibration: int = CALIBRATION_IMAGES,
    statistics: dict[Arch, Statistics] | None = None,
) -> list[AccuracyRow]:
    """Measure sub-networks together, on all held-out images or the given ones, without writing anything. BatchNorm statistics are
    measured on `calibration` training images and added to `statistics`."""
    images = splits.held_out if held_out is None else held_out
    return measure_together(
        supernet,
        archs,
        lambda resolution: run.calibration_batches(splits, resolution, calibration),
        lambda resolution: run.eval_batches(images, resolution),
        statistics=statistics,
        metric=run.metric,
        task=run.task,
    )
