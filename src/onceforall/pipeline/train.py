"""`ofa train`: from images to a trained supernet in a run directory."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Splits
from ..errors import TrainingError
from ..files import locked, read_text
from ..space import Space
from ..supernet import Supernet
from ..train import Recipe, Schedule, Settings, progressive_shrinking
from ..train import train as follow
from ..train.checkpoint import latest
from .budget import epochs_within, validate_every
from .environment import environment
from .evaluate import measure
from .images import lasting, open_images
from .info import RunInfo
from .metrics import forget_after, metrics_writer
from .presets import PRESETS, Preset
from .run import Run

__all__ = ["train"]

Event = dict[str, Any]
VALIDATION_IMAGES = 1000
CALIBRATION_IMAGES = 512


def train(
    data: str,
    *,
    out: Path,
    preset: str | None = None,
    space: Mapping[str, Any] | None = None,
    epochs: float | None = None,
    budget_s: float | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    holdout: float = 0.1,
    limit: int | None = None,
    resume: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Train a supernet by progressive shrinking and leave it in a run directory.

    Args:
        data: "digits", a folder of images, a Parquet folder, or "torchvision:NAME:FOLDER"; see `onceforall.data.open_data`.
        out: the run directory to make, or to go on with if `resume`.
        preset: name in `PRESETS`; None takes "digits" for the digits and "imagenette-60m" for everything else.
        space: arguments of the space that replace the preset's, such as {"width": 1.0}; see `Preset.space`.
        epochs: of all phases together; the schedule is scaled to them.
        budget_s: seconds that training may take instead; a few steps are timed first.
        batch_size: images per step, None for the preset's.
        rate: peak learning rate, None for the preset's.
        seed: of the weights and of everything drawn.
        holdout: share of the training images that is held out.
        limit: use only so many images of each part.
        resume: go on from the last checkpoint in `out`, with the arguments of the first start; start if nothing is there.
        on_event: gets every record of metrics.jsonl as it is written, and progress while the data are decoded.
        should_stop: asked after every step; True stops with a checkpoint.

    Returns:
        The finished run; `run.supernet()` loads the weights.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """

    given = {
        "preset": preset, "space": None if space is None else dict(space), "epochs": epochs, "budget_s": budget_s,
        "batch_size": batch_size, "rate": rate, "seed": seed, "holdout": holdout, "limit": limit,
    }  # fmt: skip

    out = Path(out)
    if resume and (out / "run.json").exists():
        run = Run.open(out)
        _require_same(run, data, given)
        if (out / "supernet.safetensors").exists():
            return run
        splits = run.splits(lambda done, total: on_event({"event": "decode", "done": done, "total": total}))
        _require_same_threads(run, on_event)
    else:
        _check(seed=seed, epochs=epochs, budget_s=budget_s)
        Run.require_free(out)
        name = preset or ("digits" if data == "digits" else "imagenette-60m")
        chosen = _preset(name, batch_size, rate)
        made = chosen.space(space or {})
        size = ceil(made.resolutions[-1] / chosen.crop_share)
        opened, splits = open_images(data, size=size, holdout=holdout, seed=seed, limit=limit, on_event=on_event)
        info = RunInfo(
            space=json.loads(made.to_json()),
            classes=splits.classes,
            data=opened,
            images=splits.sizes,
            augment=asdict(chosen.augment),
            crop_share=chosen.crop_share,
            seed=seed,
            preset=name,
            environment=environment(),
            arguments=given,
        )
        run = Run(out, info)  # on the disk when everything about it is known
        steps = _steps(run, chosen, splits, epochs, budget_s)
        run = Run.create(out, info, schedule=_schedule(made, chosen, steps), problems=splits.problems)

    schedule = Schedule.from_json(read_text(out / "schedule.json"))
    batches = run.train_batches(splits, schedule.recipe.batch_size)
    with locked(out):
        saved = latest(out / "checkpoints")
        start = saved.step if saved else 0
        forget_after(out / "metrics.jsonl", start)
        supernet = _fresh(run)
        follow(
            supernet,
            schedule,
            batches.batch,
            folder=out,
            start=saved,
            settings=Settings(seed=run.info.seed, validate_every=validate_every(schedule.steps, batches.batches_per_epoch)),
            validate=lambda net, kept, phase: _validate(run, net, kept, splits),
            on_event=metrics_writer(out, schedule, run.space, run.num_classes, start, on_event),
            should_stop=should_stop,
        )
        run.save_supernet(supernet)
    return run


def _check(*, seed: int, epochs: float | None, budget_s: float | None) -> None:
    if not 0 <= seed < 2**63:
        raise TrainingError(f"the seed is {seed}: it must be from 0 to 2^63 - 1")
    for name, value in (("epochs", epochs), ("seconds to train", budget_s)):
        if value is not None and not 0 < value < 1e9:
            raise TrainingError(f"{value:g} {name}: it must be a number above 0 and below a billion")
    if epochs is not None and budget_s is not None:
        raise TrainingError("epochs and a time budget both say how long to train: give one of them")


def _require_same(run: Run, data: str, given: dict[str, Any]) -> None:
    """A resumed training follows the arguments of its first start; those given again must not differ."""
    if run.info.imported is not None:
        raise TrainingError(
            f"{run.folder} holds imported weights ({run.info.imported.name}), which cannot be trained further yet: choose another "
            "--out"
        )
    source = run.require_images().source
    if source not in (data, lasting(data)):
        raise TrainingError(f"{run.folder} was trained on {source}, not on {data}: resume with the same data")
    first, own = run.info.arguments, {"seed": 0, "holdout": 0.1}
    for name, value in json.loads(json.dumps(given)).items():
        if first and value not in (None, own.get(name), first[name]):
            raise TrainingError(
                f"{run.folder} was started with {name} {first[name]}, not {value}: resume without it, or choose another --out"
            )


def _require_same_threads(run: Run, on_event: Callable[[Event], None]) -> None:
    """Sums of floating-point numbers depend on how they are split over threads."""
    before, now = run.info.environment["threads"], torch.get_num_threads()
    if before != now:
        on_event(
            {"event": "note", "text": f"begun with {before} threads, going on with {now}: weights may differ in the last digits"}
        )


def _validate(run: Run, supernet: Supernet, space: Space, splits: Splits) -> list[Event]:
    """Accuracy of the phase's largest, smallest and one fixed random sub-network on held-out images, each recalibrated."""
    seed, images = run.info.seed, splits.held_out
    archs = {"largest": space.largest(), "smallest": space.smallest(), "random": space.sample(np.random.default_rng([seed, 7]))}
    if len(images) > VALIDATION_IMAGES:
        images = images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:VALIDATION_IMAGES]))
    records = []
    for name, arch in archs.items():
        accuracy = measure(run, supernet, arch, splits, images, calibration=CALIBRATION_IMAGES)
        records.append({"subnet": name, "resolution": arch.resolution, **asdict(accuracy)})
    return records


def _preset(name: str, batch_size: int | None, rate: float | None) -> Preset:
    if name not in PRESETS:
        raise TrainingError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    recipe: Recipe = preset.recipe if batch_size is None else replace(preset.recipe, batch_size=batch_size)
    return replace(preset, recipe=recipe, rate=preset.rate if rate is None else rate)


def _schedule(space: Space, preset: Preset, steps: int) -> Schedule:
    return progressive_shrinking(
        space,
        steps=steps,
        rate=preset.rate,
        recipe=preset.recipe,
        epochs=preset.phase_epochs,
        rates=preset.phase_rates,
        warmups=preset.phase_warmups,
        subnets=preset.subnets,
        strategy=preset.strategy,
    )


def _fresh(run: Run) -> Supernet:
    """A supernet with initial weights drawn from the run's seed, torch's own generator being left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.info.seed)
        return Supernet(run.space, run.num_classes)


def _steps(run: Run, preset: Preset, splits: Splits, epochs: float | None, budget_s: float | None) -> int:
    """Optimiser steps that were asked for; a few steps are timed if there is a budget."""
    batches = run.train_batches(splits, preset.recipe.batch_size)
    if budget_s is not None:
        supernet = _fresh(run)
        epochs = epochs_within(
            budget_s,
            supernet,
            preset.recipe,
            lambda steps: _schedule(run.space, preset, steps),
            batches,
            lambda: _validate(run, supernet, run.space, splits),
        )
    return round((preset.epochs if epochs is None else epochs) * batches.batches_per_epoch)
