"""`ofa train`: from images to a trained supernet in a run directory."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any

from ..data import CACHE_GB, Splits
from ..errors import TrainingError
from ..files import locked
from ..models import lasting_weights
from ..train import Schedule, Settings, World
from ..train.state import load_weights
from .arguments import check_numbers, compute_of, note_differences, resumed, settings_of
from .batches import batch_maker
from .beginning import SCRATCH, beginning, default_start, lasting_start
from .budget import epochs_within
from .compute import Compute, choose_compute
from .environment import environment
from .first import first_networks, nothing_trained
from .follow import follow, validation
from .images import open_images
from .info import DataInfo, RunInfo
from .run import Run
from .space_size import check_size
from .teacher import check_teacher, lasting_teacher, load_teacher, taught_by_another
from .transfer import going_on, origin_of

__all__ = ["train"]

Event = dict[str, Any]
MANY_STEPS = 100_000


def train(
    data: str,
    *,
    out: Path,
    from_run: str | Path | None = None,
    weights: Path | None = None,
    preset: str | None = None,
    space: Mapping[str, Any] | None = None,
    scheme: str | None = None,
    teacher: str | None = None,
    epochs: float | None = None,
    budget_s: float | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    holdout: float = 0.1,
    limit: int | None = None,
    max_pixels: int | None = None,
    resume: bool = False,
    sync_norm: bool = False,
    same_networks: bool = False,
    device: str = "auto",
    precision: str | None = None,
    cache_gb: float | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Train a supernet and leave it in a run directory.

    Started by torchrun, the processes share the work: each takes its part of every batch, and only the first writes.

    Args:
        data: "digits", a folder of images, a Parquet folder, or "torchvision:NAME:FOLDER"; see `onceforall.data.open_data`. To
            resume with images that have moved, where they are now.
        out: the run directory to make, or to go on with if `resume`.
        from_run: a finished or imported run to start from: its weights, space and preprocessing. The classifier is new, unless the
            names of the classes are the same. Or a network, "timm:NAME", "torchvision:NAME", "hf:USER/REPO", "ofa:NAME" or
            "FILE.py:FUNCTION", see `onceforall.models.bring`: the space is made of it (`onceforall.elastic`), and its code is not
            needed afterwards.
        weights: of such a network: a file of a state dict; "random"; None for those that belong to it.
        preset: name in `PRESETS`; None takes that of `from_run`, "digits" for the digits, "pretrained" for a network with trained
            weights, or "imagenette-60m".
        space: arguments of the space that replace the preset's, such as {"width": 1.0}; see `Preset.space`. Of a network of
            one's own: its resolutions, widths, heads, depths, kernels and stage_widths.
        scheme: how sub-networks are trained, a name in `onceforall.train.SCHEMES`; None for the preset's.
        teacher: another network to learn from, in place of the largest one: "torchvision:MODEL:FILE" or "timm:MODEL:FILE", with
            weights for the same classes, see `load_teacher`.
        epochs: of all phases together; the schedule is scaled to them. 0, of trained weights: networks as the weights give them.
        budget_s: seconds that training may take instead; a few steps are timed first.
        batch_size: images per step, None for the preset's.
        rate: peak learning rate, None for the preset's.
        recipe: values that replace the preset's, by the names of the fields of `onceforall.train.Recipe` and
            `onceforall.data.Augment`, such as {"mixup": 0.2, "ema": 0.99}.
        seed: of the weights and of everything drawn.
        holdout: share of the training images that is held out.
        limit: use only so many images of each part.
        max_pixels: larger images are left out; None for 300 megapixels of a JPEG and 89 of any other.
        resume: go on from the last checkpoint in `out`, with the arguments of the first start; start if nothing is there.
        sync_norm: of several processes, take batch norm's statistics over all of them.
        same_networks: of several processes, all train the same sub-networks in a step, as they do with `sync_norm`; else each draws
            its own.
        device: to train on, "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N"; see `choose_compute`.
        precision: "float32" or "bfloat16"; None for what suits the device.
        cache_gb: most that the decoded images may take on the disk, and, mapped, in memory; None for 8, or what the run has.
        on_event: gets every record of metrics.jsonl as it is written, and progress while the data are decoded.
        should_stop: asked after every step; True stops with a checkpoint.

    Returns:
        The finished run; `run.supernet()` loads the weights.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do.
    """

    given = {
        "from_run": lasting_start(from_run), "weights": lasting_weights(weights),
        "preset": preset, "space": None if space is None else dict(space), "scheme": scheme,
        "teacher": None if teacher is None else lasting_teacher(teacher),
        "epochs": epochs, "budget_s": budget_s,
        "batch_size": batch_size, "rate": rate, "recipe": None if recipe is None else dict(recipe),
        "seed": seed, "holdout": holdout, "limit": limit, "max_pixels": max_pixels,
        "sync_norm": sync_norm, "same_networks": same_networks, "precision": precision,
    }  # fmt: skip

    out = Path(out)
    if resume and (out / "supernet.safetensors").exists():
        run = resumed(out, data, given).with_cache(cache_gb)
        if run.moved or cache_gb is not None:
            splits = run.splits()
            if cache_gb is not None:
                run.save_info(splits.problems)
        return run
    compute = choose_compute(device, precision)
    with World.joined(compute.device.type) as world:
        tell = on_event if world.leads else lambda event: None
        if world.leads:
            run, splits = (
                _open(out, data, given, cache_gb, world, compute, tell)
                if resume and (out / "run.json").exists()
                else _begin(out, data, given, CACHE_GB if cache_gb is None else cache_gb, world, compute, tell)
            )
        world.wait()
        if not world.leads:
            run = Run.open(out)
            splits = run.splits()
        compute = compute_of(run, given, compute)
        _follow(run, splits, world, settings_of(run, given, compute.precision), compute, tell, should_stop)
    return run


def _open(
    out: Path,
    data: str,
    given: dict[str, Any],
    cache_gb: float | None,
    world: World,
    compute: Compute,
    on_event: Callable[[Event], None],
) -> tuple[Run, Splits]:
    """A run that was begun before, and its images."""
    run = resumed(out, data, given).with_cache(cache_gb)
    splits = run.splits(
        lambda done, total: on_event({"event": "decode", "done": done, "total": total}),
        lambda text: on_event({"event": "note", "text": text}),
    )
    if cache_gb is not None:
        run.save_info(splits.problems)  # the other commands keep to it too
    note_differences(run, compute, world.size, on_event)
    return run, splits


def _begin(
    out: Path,
    data: str,
    given: dict[str, Any],
    cache_gb: float,
    world: World,
    compute: Compute,
    on_event: Callable[[Event], None],
) -> tuple[Run, Splits]:
    """A new run on the disk, and its images."""
    epochs, budget_s, seed = given["epochs"], given["budget_s"], given["seed"]
    digits = data == "digits"
    given = {**given, "from_run": given["from_run"] or default_start(given, digits=digits, on_event=on_event)}
    check_numbers(seed=seed, epochs=epochs, budget_s=budget_s, started=given["from_run"] not in (None, SCRATCH))
    begun = beginning(given, digits=digits, out=out, on_event=on_event)
    Run.require_free(out)
    chosen, made, origin = begun.preset, begun.space, begun.origin
    unusual = check_size(made, chosen.recipe, chosen.space({}), begun.name, compute.device)
    chosen.schedule(made, MANY_STEPS)  # whether there can be one, before the images are read
    digest = None if given["teacher"] is None else check_teacher(given["teacher"])
    if unusual is not None:
        on_event({"event": "note", "text": unusual})
    size = ceil(made.resolutions[-1] / chosen.crop_share)
    asked = DataInfo(data, size, given["holdout"], seed, given["limit"], "", cache_gb, given["max_pixels"])
    opened, splits = open_images(asked, on_event=on_event)
    info = RunInfo(
        space=json.loads(made.to_json()),
        classes=splits.classes,
        data=opened,
        images=splits.sizes,
        augment=asdict(chosen.augment),
        crop_share=chosen.crop_share,
        seed=seed,
        preset=begun.name,
        environment={**environment(), "device": compute.name, "precision": compute.precision, "processes": world.size},
        arguments={**given, "precision": compute.precision},
        origin=None if origin is None else origin_of(origin, splits, size),
        mean=begun.mean,
        std=begun.std,
        interpolation=begun.interpolation,
    )
    if info.origin is not None and not info.origin.unseen:
        on_event(
            {"event": "note", "text": f"not known: whether {given['from_run']} was trained on held-out or test images of this run"}
        )
    teacher = None
    if given["teacher"] is not None:
        teacher = load_teacher(given["teacher"], len(splits.classes), made.resolutions).to(compute.device)
        info = replace(info, arguments={**info.arguments, "teacher_sha256": digest})

    def schedule(steps: int) -> Schedule:
        own = chosen.schedule(made, steps) if origin is None and begun.own is None else going_on(chosen.schedule(made, steps))
        return own if teacher is None else taught_by_another(own)

    run = Run(out, info)  # on the disk when everything about it is known
    batches = run.train_batches(splits, chosen.recipe.batch_size, world.rank, world.size)
    if budget_s is not None:
        supernet = run.fresh_supernet().to(compute.device)
        epochs = epochs_within(
            budget_s,
            supernet,
            schedule,
            batch_maker(batches, compute),
            lambda: validation(run, supernet, run.space, splits, world),
            batches_per_epoch=batches.batches_per_epoch,
            compute=compute,
            teacher=teacher,
        )
    epochs = chosen.epochs if epochs is None else epochs
    steps = round(epochs * batches.batches_per_epoch)
    if steps < 1 and epochs > 0:
        raise TrainingError(
            f"{epochs:g} epochs are less than one step, of which an epoch has {batches.batches_per_epoch}: give more"
        )
    if 0 < epochs < 1:
        text = f"{steps:,} of the {batches.batches_per_epoch:,} steps of an epoch: networks may be little better than chance"
        on_event({"event": "note", "text": f"{text}; allow more, or use fewer images or a smaller space"})
    start, brought = begun.weights(run.fresh_supernet(), info.origin)
    info = replace(info, brought=brought)
    if start is not None and not begun.random:
        known = info.origin.classifier if info.origin is not None else brought is not None and brought.classifier
        start = first_networks(
            replace(run, info=info), splits, run.fresh_supernet(), start,
            ranked=origin is not None, fit=steps == 0 and not known, compute=compute, on_event=on_event,
        )  # fmt: skip
    followed = schedule(steps) if steps else nothing_trained(schedule(MANY_STEPS))
    made_run = Run.create(out, info, schedule=followed, splits=splits, start=start, origin=origin, unseen=begun.unseen)
    if begun.own is not None:
        on_event({"event": "note", "text": f"starts from {brought}"})
    if info.no_test is not None:
        on_event({"event": "note", "text": info.no_test})
    return made_run, splits


def _follow(
    run: Run,
    splits: Splits,
    world: World,
    settings: Settings,
    compute: Compute,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train from the last checkpoint, or from the beginning, to the end."""
    out = run.folder
    named = run.info.arguments.get("teacher")
    teacher = None
    if named is not None:
        digest = run.info.arguments.get("teacher_sha256")
        teacher = load_teacher(named, run.num_classes, run.space.resolutions, digest).to(compute.device)
    with locked(out) if world.leads else nullcontext():
        supernet, start = run.fresh_supernet(), out / "start.safetensors"
        if start.exists() and not any((out / "checkpoints").glob("step-*")):
            load_weights(supernet, run.start())
        supernet = supernet.to(compute.device)
        follow(
            run, splits, supernet, out,
            settings=settings, compute=compute, on_event=on_event, should_stop=should_stop, teacher=teacher, world=world,
        )  # fmt: skip
        if world.leads:
            run.save_supernet(supernet)
        world.wait()
