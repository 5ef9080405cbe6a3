"""`ofa train`: from images to a trained supernet in a run directory."""

import json
from contextlib import nullcontext
from dataclasses import asdict, replace

from ..common.arguments import takes
from ..common.files import locked
from ..common.progress import QUIET, Progress
from ..data import Splits
from ..errors import TrainingError
from ..options.training import TrainOptions
from ..train import Phase, Schedule, Settings, World
from ..train.state import load_weights
from .run_directory.environment import environment
from .run_directory.images import data_asked, metric_of, open_images
from .run_directory.info import RunInfo
from .run_directory.run import Run
from .training.arguments import lasting_options, note_differences, resumed, settings_of
from .training.batches import batch_maker
from .training.beginning import SCRATCH, Beginning, beginning, check_size, default_start
from .training.budget import epochs_within
from .training.compute import Compute, choose_compute
from .training.first import first_networks
from .training.follow import follow_schedule, for_labels, validation
from .training.own import with_statistics
from .training.teacher import check_teacher, load_teacher, with_external_teacher
from .training.transfer import origin_of, without_sorting

MANY_STEPS = 100_000


@takes(TrainOptions)
def train(options: TrainOptions, *, progress: Progress = QUIET) -> Run:
    """Train a supernet and save it in a run directory.

    Under torchrun, each process takes its part of every batch, and only the first one writes.

    Returns:
        The finished run; `run.supernet()` loads the weights.
    """
    options = lasting_options(options)
    out, resume = options.out, options.resume
    if resume and (out / "supernet.safetensors").exists():
        run = resumed(options)
        if run.moved or options.caches:
            splits = run.splits()
            if options.caches:
                run = run.kept_as(splits.cache)
                run.save_info(splits.problems)
        return run
    compute = choose_compute(options.device, options.precision)
    with World.joined(compute.device.type) as world:
        progress = progress if world.leads else Progress(stopped=progress.stopped)
        if world.leads:
            start = _open if resume and (out / "run.json").exists() else _begin
            run, splits = start(options, world, compute, progress)
        world.wait()
        if not world.leads:
            run = Run.open(out)
            splits = run.splits()
        precision = run.info.arguments.get("precision") or options.precision or compute.precision  # older runs record none
        compute = replace(compute, precision=precision)
        _follow(run, splits, world, settings_of(run, options, compute.precision), compute, progress)
    return run


def _open(options: TrainOptions, world: World, compute: Compute, progress: Progress) -> tuple[Run, Splits]:
    """Open a run that was started before, and its images."""
    run = resumed(options)
    splits = run.splits(replace(progress, say=progress.note))
    if options.caches:
        run = run.kept_as(splits.cache)
        run.save_info(splits.problems)  # the other commands use the same cache
    note_differences(run, compute, world.size, progress)
    return run, splits


def _begin(options: TrainOptions, world: World, compute: Compute, progress: Progress) -> tuple[Run, Splits]:
    """Create a new run and open its images; arguments are checked before any image is read."""
    options = replace(options, from_run=options.from_run or default_start(options, progress=progress))
    if options.epochs == 0 and options.from_run in (None, SCRATCH):
        raise TrainingError("0 epochs leave the weights random: give more epochs, or --from trained weights")
    begun = beginning(options, progress=progress)
    Run.require_free(options.out)
    chosen, made, origin = begun.preset, begun.space, begun.origin
    unusual = check_size(made, chosen.recipe, chosen.space({}), begun.name, compute.device)
    chosen.schedule(made, MANY_STEPS)  # raises an error before the images are read
    digest = None if options.teacher is None else check_teacher(options.teacher)
    if unusual is not None:
        progress.note(unusual)
    asked = data_asked(options, options.data, made, chosen.crop_share)
    steps = with_statistics(begun.preprocessing, options, made.channels)
    if made.channels == 4 and chosen.augment.policy != "none":
        raise TrainingError(f"the policy {chosen.augment.policy} takes images of 1 or 3 channels: --recipe policy=none for 4")
    known_channels = options.channels is not None or origin is not None or options.data == "digits"  # the digits' networks take 3
    opened, splits = open_images(asked, progress=progress, known_channels=known_channels)
    metric = metric_of(options.metric, options.reading.task, splits, progress.note)
    begun = begun.for_metric(metric, options.recipe or {}, progress.note)
    arguments = replace(options, precision=compute.precision).stored()
    info = RunInfo(
        space=json.loads(made.to_json()),
        classes=splits.classes,
        data=opened,
        images=splits.sizes,
        augment=asdict(chosen.augment),
        crop_share=chosen.crop_share,
        seed=options.seed,
        preset=begun.name,
        environment={**environment(), "device": compute.name, "precision": compute.precision, "processes": world.size},
        arguments=arguments if digest is None else {**arguments, "teacher_sha256": digest},
        origin=None if origin is None else origin_of(origin, splits, asked),
        mean=steps.mean,
        std=steps.std,
        interpolation=steps.interpolation,
        metric=metric,
    )
    if info.origin is not None and not info.origin.unseen:
        progress.note(f"it is not known whether {options.from_run} was trained on held-out or test images of this run")
    schedule = _schedule(Run(options.out, info), begun, options, splits, world, compute, progress)
    start, brought = begun.weights(Run(options.out, info).fresh_supernet(), info.origin)
    info = replace(info, brought=brought)
    if start is not None and not begun.random:
        known = info.origin.classifier if info.origin is not None else brought is not None and brought.classifier
        run = Run(options.out, info)
        start, fitted = first_networks(
            run, splits, run.fresh_supernet(), start,
            ranked=origin is not None, fit=schedule.steps == 0 and (origin is None or not known), given=known,
            loss=Settings(**for_labels(run.task, splits, run.num_classes, schedule.recipe)).loss,
            compute=compute, progress=progress,
        )  # fmt: skip
        if brought is not None and fitted and origin is None:
            brought = replace(brought, classifier=False)
            info = replace(info, brought=brought)
    run = Run.create(options.out, info, schedule=schedule, splits=splits, start=start, origin=origin, unseen=begun.unseen)
    if begun.own is not None:
        progress.note(f"starts from {brought}")
    if info.no_test is not None:
        progress.note(info.no_test)
    return run, splits


def _schedule(
    run: Run, begun: Beginning, options: TrainOptions, splits: Splits, world: World, compute: Compute, progress: Progress
) -> Schedule:
    """The schedule for the requested epochs or time. Nothing of the run is on disk yet."""
    chosen, teacher = begun.preset, None
    if options.teacher is not None:
        sizes, channels = run.space.resolutions, run.space.channels
        teacher = load_teacher(options.teacher, run.num_classes, sizes, channels=channels).to(compute.device)

    def schedule(steps: int) -> Schedule:
        own = chosen.schedule(run.space, steps)
        if begun.origin is not None or begun.own is not None:
            own = without_sorting(own)
        return own if teacher is None else with_external_teacher(own)

    if options.epochs == 0:  # no batch is made
        own = schedule(MANY_STEPS)
        return replace(own, phases=(Phase("start", {}, 0, 0, own.phases[0].rate, distil=False),))
    batches, epochs = run.train_batches(splits, chosen.recipe.batch_size, world.rank, world.size), options.epochs
    if options.budget_s is not None:
        supernet = run.fresh_supernet().to(compute.device)
        with batch_maker(batches, compute) as make:
            epochs = epochs_within(
                options.budget_s, supernet, schedule, make, lambda: validation(run, supernet, run.space, splits, world),
                batches_per_epoch=batches.batches_per_epoch, compute=compute, teacher=teacher,
            )  # fmt: skip
    epochs = chosen.epochs if epochs is None else epochs
    steps = round(epochs * batches.batches_per_epoch)
    if steps < 1:
        raise TrainingError(
            f"{epochs:g} epochs are less than one step (an epoch has {batches.batches_per_epoch} steps): give more epochs"
        )
    if epochs < 1:
        text = f"{steps:,} of the {batches.batches_per_epoch:,} steps of an epoch: networks may be little better than chance"
        progress.note(f"{text}; train longer, or use fewer images or a smaller space")
    return schedule(steps)


def _follow(run: Run, splits: Splits, world: World, settings: Settings, compute: Compute, progress: Progress) -> None:
    """Train from the last checkpoint, or from the start, until the schedule ends."""
    out = run.folder
    named = run.info.arguments.get("teacher")
    teacher = None
    if named is not None:
        digest = run.info.arguments.get("teacher_sha256")
        teacher = load_teacher(named, run.num_classes, run.space.resolutions, digest, channels=run.space.channels).to(
            compute.device
        )
    with locked(out) if world.leads else nullcontext():
        supernet, start = run.fresh_supernet(), out / "start.safetensors"
        if start.exists() and not any((out / "checkpoints").glob("step-*")):
            load_weights(supernet, run.start())
        supernet = supernet.to(compute.device)
        follow_schedule(
            run, splits, supernet, out,
            settings=settings, compute=compute, progress=progress, teacher=teacher, world=world,
        )  # fmt: skip
        if world.leads:
            run.save_supernet(supernet)
        world.wait()
