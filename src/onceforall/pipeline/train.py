"""`ofa train`: from images to a trained supernet in a run directory."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Splits, open_data
from ..errors import FileError, TrainingError
from ..files import append_line, read_lines, read_text, write_text
from ..space import Space
from ..spaces import space as make_space
from ..supernet import Supernet
from ..train import Recipe, Schedule, Settings, progressive_shrinking, train_step, work_per_step
from ..train import train as follow
from ..train.checkpoint import latest
from .environment import environment
from .evaluate import measure
from .presets import PRESETS, Preset
from .run import DataInfo, Run, RunInfo

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
        space: arguments of the space that replace the preset's, such as {"width": 1.0}; "family" chooses the family.
        epochs: of all phases together; the schedule is scaled to them.
        budget_s: seconds that training may take instead; a few steps are timed first.
        batch_size: images per step, None for the preset's.
        rate: peak learning rate, None for the preset's.
        seed: of the weights and of everything drawn.
        holdout: share of the training images that is held out.
        limit: use only so many images of each part.
        resume: go on from the last checkpoint in `out`, with the arguments of the first start.
        on_event: gets every record of metrics.jsonl as it is written, and progress while the data are decoded.
        should_stop: asked after every step; True stops with a checkpoint.

    Returns:
        The finished run; `run.supernet()` loads the weights.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """

    def decoding(done: int, total: int) -> None:
        on_event({"event": "decode", "done": done, "total": total})

    if resume:
        run = Run.open(out)
        if data != run.info.data.source:
            raise TrainingError(f"{out} was trained on {run.info.data.source}, not on {data}: resume with the same data")
        if (out / "supernet.safetensors").exists():
            return run
        splits = run.splits(decoding)
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileError(f"{out}: already there and not empty: choose another --out, or --resume the run in it")
        chosen = _preset(preset or ("digits" if data == "digits" else "imagenette-60m"), batch_size, rate)
        arguments = {**chosen.arguments, **(space or {})}
        made = make_space(arguments.pop("family", chosen.family), **arguments)
        size = ceil(made.resolutions[-1] / chosen.crop_share)
        splits = open_data(data, size=size, holdout=holdout, seed=seed, limit=limit, on_progress=decoding)
        info = RunInfo(
            space=json.loads(made.to_json()),
            classes=splits.classes,
            data=DataInfo(data, size, holdout, seed, limit, splits.fingerprint),
            images={"train": len(splits.train), "held-out": len(splits.held_out), "test": splits.test_size},
            augment=asdict(chosen.augment),
            crop_share=chosen.crop_share,
            seed=seed,
            preset=preset,
            environment=environment(),
        )
        run = Run.create(out, info)
        batches_per_epoch = run.train_batches(splits, chosen.recipe.batch_size).batches_per_epoch
        for problem in splits.problems:
            append_line(out / "problems.jsonl", {"name": problem.name, "reason": problem.reason})
        on_event({"event": "data", **_counts(splits)})
        if budget_s is not None:
            epochs = _epochs_in(budget_s, run, chosen, splits, batches_per_epoch)
        steps = round((chosen.epochs if epochs is None else epochs) * batches_per_epoch)
        write_text(out / "schedule.json", _schedule(made, chosen, steps).to_json())

    schedule = Schedule.from_json(read_text(out / "schedule.json"))
    batches = run.train_batches(splits, schedule.recipe.batch_size)
    supernet = _fresh(run)
    _forget_after(out / "metrics.jsonl", out)
    write = _writer(out, schedule, run, on_event)
    follow(
        supernet,
        schedule,
        batches.batch,
        folder=out,
        settings=Settings(seed=run.info.seed, validate_every=max(20, min(schedule.steps // 12, 8 * batches.batches_per_epoch))),
        validate=lambda net, kept, phase: _validate(run, net, kept, splits),
        on_event=write,
        should_stop=should_stop,
    )
    run.save_supernet(supernet)
    return run


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
        subnets=preset.subnets,
        strategy=preset.strategy,
    )


def _fresh(run: Run) -> Supernet:
    """A supernet with initial weights drawn from the run's seed, torch's own generator being left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.info.seed)
        return Supernet(run.space, run.num_classes)


def _epochs_in(budget_s: float, run: Run, preset: Preset, splits: Splits, batches_per_epoch: int) -> float:
    """Epochs of the schedule that fit into the budget: times a few steps of every phase and scales by the work of the rest."""
    schedule = _schedule(run.space, preset, 100 * batches_per_epoch)
    work = work_per_step(schedule, run.space, run.num_classes)
    batches = run.train_batches(splits, preset.recipe.batch_size)
    supernet = _fresh(run).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    teacher = supernet.extract(run.space.largest())
    seconds, macs = 0.0, 0.0
    middle = run.space.resolutions[len(run.space.resolutions) // 2]
    for arch in (run.space.largest(middle), run.space.smallest(middle)):
        for trial in range(4):
            started = time.monotonic()
            images, labels = batches.batch(trial, middle)
            train_step(supernet, [arch], images, labels, optimizer, preset.recipe, teacher)
            if trial:
                seconds += time.monotonic() - started
                plan, largest = run.space.lower(arch, run.num_classes), run.space.lower(run.space.largest(middle), run.num_classes)
                macs += (3 * plan.macs + largest.macs) * preset.recipe.batch_size
    per_epoch = sum(w * phase.steps for w, phase in zip(work, schedule.phases, strict=True)) / 100 * seconds / macs
    epochs = 0.95 * budget_s / per_epoch  # the rest goes to validation and checkpoints
    if epochs * batches_per_epoch < len(schedule.phases):
        raise TrainingError(
            f"a budget of {budget_s:.0f} s is less than one step per phase here: allow more time or a smaller space"
        )
    return epochs


def _forget_after(path: Path, folder: Path) -> None:
    """Drop the records of steps that a resumed training does again."""
    saved = latest(folder / "checkpoints")
    step = saved.step if saved else 0
    kept = [
        record for record in read_lines(path) if record["step"] < step or (record["step"] == step and record["event"] != "phase")
    ]
    path.unlink(missing_ok=True)
    for record in kept if saved else []:
        append_line(path, record)


def _writer(out: Path, schedule: Schedule, run: Run, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Writes each event to metrics.jsonl and TensorBoard and hands it on with progress and the time left."""
    work = work_per_step(schedule, run.space, run.num_classes)
    total = sum(w * phase.steps for w, phase in zip(work, schedule.phases, strict=True))
    start: list[tuple[float, float]] = []  # work done and seconds at the first event of this process
    board = _board(out)

    def write(event: Event) -> None:
        append_line(out / "metrics.jsonl", event)
        if board is not None:
            for key in ("loss", "rate", "top1"):
                if key in event:
                    board.add_scalar(f"{key}/{event['subnet']}" if "subnet" in event else key, event[key], event["step"])
        done, left = 0.0, event["step"]
        for w, phase in zip(work, schedule.phases, strict=True):
            done += w * min(left, phase.steps)
            left = max(0, left - phase.steps)
        if not start:
            start.append((done, event["seconds"]))
        spent = event["seconds"] - start[0][1]
        remaining = spent * (total - done) / (done - start[0][0]) if done > start[0][0] else None
        on_event({**event, "progress": done / total, "remaining_s": remaining})

    return write


def _board(out: Path):  # type: ignore[no-untyped-def]
    """A TensorBoard writer, or None where the extra "log" is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))


def _counts(splits: Splits) -> dict[str, Any]:
    return {
        "train": len(splits.train),
        "held_out": len(splits.held_out),
        "test": splits.test_size,
        "classes": len(splits.classes),
        "problems": len(splits.problems),
        "duplicates": splits.duplicates,
    }
