"""Check the arguments of `ofa train` against the run that they resume, and decide which ones apply."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from ...common.advice import ofa
from ...common.progress import Progress
from ...data.reading import AS_IT_IS
from ...errors import TrainingError
from ...models import lasting_weights
from ...options.training import TrainOptions
from ...train import Settings
from ..run_directory.run import Run
from .beginning import lasting_start
from .compute import Compute
from .teacher import lasting_teacher

LATER = (
    "from_run",
    "weights",
    "max_pixels",
    "recipe",
    "metric",
    "channels",
    "mean",
    "std",
    "range",
)  # arguments that older runs do not record


def lasting_options(options: TrainOptions) -> TrainOptions:
    """The options with paths and names that are valid from any working folder, for run.json."""
    return replace(
        options,
        out=Path(options.out),
        from_run=lasting_start(options.from_run),
        weights=lasting_weights(options.weights),
        teacher=None if options.teacher is None else lasting_teacher(options.teacher),
    )


def resumed(options: TrainOptions) -> Run:
    """Open the run to resume. The arguments of its first start apply; arguments that are given again must be the same.

    The images may have moved: `Run.splits` checks that they are the same.

    Raises:
        TrainingError: arguments differ, or there is nothing to train.
        FileError: there is no run.
    """
    run, data = Run.open(options.out), options.data
    if run.info.imported is not None:
        raise TrainingError(
            f"{run.folder} holds imported weights ({run.info.imported.name}), which are not trained in place: to train from them, "
            + ofa("train", data, "--from", run.folder, "--out", "NEW")
        )
    source = run.require_images().source
    if source != data and "digits" in (source, data):
        raise TrainingError(f"{run.folder} was trained on {source}, not on {data}: resume with the same data")
    if options.reading not in (AS_IT_IS, run.require_images().reading):
        raise TrainingError(
            f"{run.folder} was started with other values of --label, --classes, --group, --few or --task: resume without these"
        )
    first = {**dict.fromkeys(LATER), **run.info.arguments, "metric": run.metric}
    if first.get("teacher") is not None:
        first["teacher"] = lasting_teacher(first["teacher"])  # older runs record it as given
    for name, value in json.loads(json.dumps(options.stored())).items():
        if name in first and value not in (None, TrainOptions.__dataclass_fields__[name].default, first[name]):
            option = name.removesuffix("_run")
            raise TrainingError(
                f"{run.folder} was started with {option} {first[name]}, not {value}: resume without it, or choose another --out"
            )
    return run.moved_to(data).kept_as(options.cache, options.cache_gb)


def settings_of(run: Run, options: TrainOptions, precision: str) -> Settings:
    """The settings of the run's first start."""
    first = {**options.stored(), **run.info.arguments}
    return Settings(
        run.info.seed, sync_norm=first["sync_norm"], same_archs=first["sync_norm"] or first["same_networks"], precision=precision
    )


def note_differences(run: Run, compute: Compute, processes: int, progress: Progress) -> None:
    """Note differences from the first start that affect the weights.

    Floating-point sums depend on the number of threads, and batch norm's statistics on the number of processes.
    """
    first = run.info.environment
    for what, before, now, effect in (
        ("threads", first["threads"], torch.get_num_threads(), "weights may differ in the last digits"),
        ("device", first.get("device"), compute.name, "weights may differ in the last digits"),
        (
            "processes",
            first.get("processes"),
            processes,
            "weights may differ: without --sync-norm, batch norm sees different parts of each batch",
        ),
    ):
        if before not in (None, now):
            begun = f"on {before}, continuing on {now}" if what == "device" else f"with {before} {what}, continuing with {now}"
            progress.note(f"started {begun}: {effect}")
