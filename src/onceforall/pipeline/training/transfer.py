"""`ofa train --from`: train from another run's weights, with a new classifier unless the classes are the same."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ...data import Splits
from ...data.formats.scan import same_name
from ...errors import DataError, FileError, TrainingError
from ...ops import Linear
from ...options.presets import Preset
from ...options.training import TrainOptions
from ...spaces.graph import classifier_weights
from ...supernets.supernet import Supernet
from ...train import Schedule
from ..run_directory.images import short_name
from ..run_directory.info import DataInfo, Origin
from ..run_directory.run import Run

RATE_SHARE = 0.5  # of the preset's peak learning rate
DEFAULT = "imagenette-60m"  # for imported weights


def open_origin(folder: str, out: Path) -> Run:
    """The run to start from.

    Raises:
        FileError: there is no run, it is `out`, its training has not finished, or it is damaged.
    """
    run = Run.open(Path(folder))
    if Path(folder).resolve() == out.resolve():
        raise FileError(f"{out}: --from and --out are the same folder: choose another --out")
    run.weights_hash()
    return run


def preset_for(origin: Run, preset: Preset, options: TrainOptions) -> Preset:
    """The preset's recipe for the origin's space, preprocessing and trained weights.

    Raises:
        TrainingError: a preset or a space was given that describes another space.
        SpaceError: the given space is invalid.
    """
    brought = origin.space.family == "graph"  # neither presets nor arguments can describe such a space
    if options.space and brought:
        raise TrainingError(f"--from {origin.folder} has its own space: leave --space out, or start from the network itself again")
    described = (options.preset or options.space) and not brought
    if described and preset.space(options.space or {}).to_json() != origin.space.to_json():
        raise TrainingError(
            f"--from {origin.folder} has its own space, and --preset or --space describes another: leave them out, or train "
            "from random weights without --from"
        )
    return replace(
        preset,
        rate=preset.rate if options.rate is not None else RATE_SHARE * preset.rate,
        recipe=replace(preset.recipe, zero_residual=False),
        crop_share=origin.info.crop_share,
    )


def without_sorting(schedule: Schedule) -> Schedule:
    """The schedule for weights that sub-networks already share: channels keep their order."""
    return replace(schedule, phases=tuple(replace(phase, sort=None) for phase in schedule.phases))


def unseen(origin: Run, splits: Splits, asked: DataInfo) -> bool:
    """Whether the origin, and everything it started from, was trained without this run's held-out and test images.

    Args:
        asked: how this run's images are read.

    Returns:
        False if unknown, because weights were imported or images were read in another way, which changes their pixels.

    Raises:
        DataError: it was trained on some of them, so accuracies would be too high.
    """
    (digests, complete), data, before = origin.trained_on(), origin.info.data, origin.info.origin
    seen = {name: n for name, n in splits.among(digests).items() if n}
    if seen:
        many = " and ".join(f"{n:,} {name}" for name, n in seen.items())
        assert data is not None  # it was trained
        limit = "" if data.limit is None else f" --limit {data.limit}"
        raise DataError(
            f"--from {origin.folder}: its weights were trained on {many} images of this run, so accuracies would be too high: "
            f"if these are the same photographs, hold out the same ones with --seed {data.seed} --holdout {data.holdout:g}{limit}; "
            "otherwise give photographs that it has not seen"
        )
    alike = data is not None and (data.size, data.range) == (asked.size, asked.range)
    return complete and alike and (before is None or before.unseen)


def origin_of(run: Run, splits: Splits, asked: DataInfo) -> Origin:
    """The record of a run that training on these images starts from.

    Raises:
        DataError: see `unseen`.
    """
    if run.info.imported is not None:
        source = f"imported: {run.info.source}"
    else:
        name, commit = short_name(run.require_images().source)
        source = f"trained on {name}{f', commit {commit[:12]}' if commit else ''}"
    named = run.info.data is not None  # else class names are placeholders
    same = named and [*map(same_name, splits.classes)] == [*map(same_name, run.info.classes)]
    return Origin(str(run.folder.resolve()), source, run.weights_hash(), same, unseen(run, splits, asked))


def transferred(trained: Supernet, fresh: Supernet, *, classifier: bool) -> dict[str, Tensor]:
    """Trained weights by name, with the trained classifier or the fresh one, which may have another number of classes.

    Args:
        trained: the source of everything but the classifier.
        fresh: a supernet of the same space.
        classifier: take the trained classifier.
    """
    weights = trained.state_dict()
    if classifier:
        return weights
    if fresh.space.family == "graph":
        own = classifier_weights(fresh.space)
        return {name: value if name in own else weights[name] for name, value in fresh.state_dict().items()}
    plan = fresh.space.lower(fresh.space.largest(), fresh.num_classes)
    heads = tuple(f"{segment.name}.{op.name}." for segment in plan.segments for op in segment.ops if isinstance(op, Linear))
    return {name: value if name.startswith(heads) else weights[name] for name, value in fresh.state_dict().items()}
