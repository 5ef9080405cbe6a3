"""Whether the arguments of `ofa train` make sense, by themselves and for the run that they resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..advice import ofa
from ..errors import TrainingError
from ..train import Settings
from .compute import Compute
from .run import Run
from .teacher import lasting_teacher

__all__ = ["check_numbers", "compute_of", "note_differences", "resumed", "settings_of"]


def check_numbers(*, seed: int, epochs: float | None, budget_s: float | None, started: bool) -> None:
    """Do nothing if a training can have these arguments. `started`: it starts from weights, so that no epoch is enough.

    Raises:
        TrainingError: it cannot.
    """
    if not 0 <= seed < 2**63:
        raise TrainingError(f"the seed is {seed}: it must be from 0 to 2^63 - 1")
    for name, value in (("epochs", epochs), ("seconds to train", budget_s)):
        if name == "epochs" and value == 0:
            if not started:
                raise TrainingError("0 epochs of random weights are worth nothing: give more, or --from trained weights")
        elif value is not None and not 0 < value < 1e9:
            raise TrainingError(f"{value:g} {name}: it must be a number above 0 and below a billion")
    if epochs is not None and budget_s is not None:
        raise TrainingError("epochs and a time budget both say how long to train: give one of them")


def resumed(out: Path, data: str, given: dict[str, Any]) -> Run:
    """The run that a training goes on with. It follows the arguments of its first start; those given again must not differ.

    The images may have moved: `Run.splits` checks that they are the same.

    Raises:
        TrainingError: arguments differ, or there is nothing to train.
        FileError: there is no run.
    """
    run = Run.open(out)
    if run.info.imported is not None:
        raise TrainingError(
            f"{run.folder} holds imported weights ({run.info.imported.name}), which stay as they are: to train on from them, "
            + ofa("train", data, "--from", run.folder, "--out", "NEW")
        )
    source = run.require_images().source
    if source != data and "digits" in (source, data):
        raise TrainingError(f"{run.folder} was trained on {source}, not on {data}: resume with the same data")
    first, own = (
        {"from_run": None, "weights": None, "max_pixels": None, "recipe": None, **run.info.arguments},
        {"seed": 0, "holdout": 0.1, "sync_norm": False, "same_networks": False},
    )
    if first.get("teacher") is not None:
        first["teacher"] = lasting_teacher(first["teacher"])  # older runs have it as it was given
    for name, value in json.loads(json.dumps(given)).items():
        if name in first and value not in (None, own.get(name), first[name]):
            option = name.removesuffix("_run")
            raise TrainingError(
                f"{run.folder} was started with {option} {first[name]}, not {value}: resume without it, or choose another --out"
            )
    return run.moved_to(data)


def compute_of(run: Run, given: dict[str, Any], compute: Compute) -> Compute:
    """Where this process computes, in the precision of the run's first start.

    Runs from before this was written down follow what is given now.
    """
    precision = run.info.arguments.get("precision") or given["precision"] or compute.precision
    return Compute(compute.device, precision)


def settings_of(run: Run, given: dict[str, Any], precision: str) -> Settings:
    """The settings of the run's first start."""
    first = {**given, **run.info.arguments}
    return Settings(
        run.info.seed, sync_norm=first["sync_norm"], same_archs=first["sync_norm"] or first["same_networks"], precision=precision
    )


def note_differences(run: Run, compute: Compute, processes: int, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Say what differs from the first start and has an influence on the weights.

    Sums of floating-point numbers depend on how they are split over threads; what batch norm sees, on the number of processes.
    """
    first = run.info.environment
    for what, before, now, effect in (
        ("threads", first["threads"], torch.get_num_threads(), "weights may differ in the last digits"),
        ("device", first.get("device"), compute.name, "weights may differ in the last digits"),
        (
            "processes",
            first.get("processes"),
            processes,
            "weights may differ: without --sync-norm, batch norm sees other parts of each batch",
        ),
    ):
        if before not in (None, now):
            begun = f"on {before}, going on on {now}" if what == "device" else f"with {before} {what}, going on with {now}"
            on_event({"event": "note", "text": f"begun {begun}: {effect}"})
