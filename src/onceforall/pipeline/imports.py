"""`ofa import`: turn weights that were trained elsewhere into a run directory, without training.

The weights are the Once-for-All authors' (`import_original`) or your own network's (`import_own`).
"""

import json
from dataclasses import replace
from pathlib import Path

from ..accuracy import AccuracyPredictor
from ..common.advice import ofa
from ..common.arguments import takes
from ..common.files import locked, make_folder, reading_or_writing, sha256
from ..common.progress import QUIET, Progress
from ..data import PREPROCESSING, Preprocessing
from ..data.sources import require_place
from ..errors import CheckpointError, DataError, ModelError, ValueTextError
from ..models import RANDOM
from ..options.training import ImportOptions
from ..published import NAMES, load_supernet, published_space
from ..supernets.supernet import Supernet
from .run_directory.environment import environment
from .run_directory.images import data_asked, metric_of, open_images
from .run_directory.info import BroughtInfo, Imported, RunInfo
from .run_directory.run import Run
from .training.own import bring_own, require_logits, with_statistics

PREDICTOR = "predictor.safetensors"
LEFTOVERS = frozenset({".lock", "problems.jsonl", "images.parquet", "supernet.safetensors"})  # of an interrupted import
CLASSES_OF_PREDICTOR = 1000  # ImageNet's: the original's predictors predict accuracy on them


@takes(ImportOptions)
def import_original(options: ImportOptions, *, progress: Progress = QUIET) -> Run:
    """Turn the Once-for-All authors' weights into a run directory, which the other commands use like a trained one.

    Args:
        options: see `ImportOptions`, or its fields as keyword arguments. `weights` and `space` are for `import_own`.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do; `out` is then not a run directory.
    """
    _check(options, own=False)
    path, out, name = Path(options.network), Path(options.out), options.name
    if name is None:
        raise CheckpointError(f"{path}: which network's weights are these? Give --name, one of {', '.join(NAMES)}")
    space = published_space(name)
    supernet = load_supernet(path, name)
    imported = Imported(path.name, sha256(path), name)
    published = None if options.predictor is None else AccuracyPredictor.from_published(options.predictor, space)
    progress.note(f"weights: {name}, {supernet.num_classes:,} classes")
    if published is not None and supernet.num_classes != CLASSES_OF_PREDICTOR:
        classes = f"ImageNet's {CLASSES_OF_PREDICTOR:,} classes"
        progress.note(f"the predictor predicts accuracy on {classes}: to fit one for yours, {ofa('predict', out)}")
    return _made(options, supernet, imported, published=published, progress=progress)


@takes(ImportOptions)
def import_own(options: ImportOptions, *, progress: Progress = QUIET) -> Run:
    """Turn a trained network of your own into a run directory; it becomes the largest sub-network.

    Args:
        options: see `ImportOptions`, or its fields as keyword arguments. `name` and `predictor` are for `import_original`.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do; `out` is then not a run directory.
    """
    source = str(options.network)
    _check(options, own=True)
    own = bring_own(
        source, weights=options.weights, choices=options.space, channels=options.channels, seed=options.seed, progress=progress
    )
    require_logits(own)
    found = own.brought.weights
    if found.random:
        raise ModelError(
            f"{own.brought.source} has random weights, and importing does not train: give a file with trained weights, or leave "
            f"--weights {RANDOM} out; to train it, {ofa('train', options.data or 'DATA', '--from', source, '--out', 'NEW')}"
        )
    if own.brought.unfilled:
        raise ModelError(
            f"the weights of {own.brought.source} have another number of classes: {'; '.join(own.brought.unfilled.values())}"
        )
    imported = Imported(found.file or own.brought.source, found.sha256 or "", own.brought.source)
    progress.note(f"weights: {imported.name}, {own.supernet.num_classes:,} classes")
    return _made(
        options, own.supernet, imported,
        brought=own.info(classifier=True), preprocessing=own.preprocessing, progress=progress,
    )  # fmt: skip


def _check(options: ImportOptions, *, own: bool) -> None:
    """Raise an error if options contradict each other or `out` is taken."""
    for option, given, wanted in (
        ("weights", options.weights, True),
        ("space", options.space, True),
        ("channels", options.channels, True),
        ("mean", options.mean, True),
        ("std", options.std, True),
        ("name", options.name, False),
        ("predictor", options.predictor, False),
    ):
        if given is not None and own != wanted:
            raise ValueTextError(
                f"--{option} applies only to {'your own network' if wanted else 'files of the Once-for-All authors'}: leave it out"
            )
    if options.reading.several:
        again = ofa("train", options.data or "DATA", "--task", "multilabel", "--from", str(options.network), "--out", options.out)
        raise DataError(f"--task multilabel: imported weights must predict one class per image; to train instead: {again}")
    for name in ("limit", "max_pixels", "range", "cache", "cache_gb", "holdout") if options.data is None else ():
        value = vars(options)[name]
        if value != ImportOptions.__dataclass_fields__[name].default:
            raise DataError(f"--{name.replace('_', '-')} {value} applies to images, but there are none: give --data, too")
    _require_free(Path(options.out))
    if options.data is not None:
        require_place(options.data, options.reading)


def _made(
    options: ImportOptions,
    supernet: Supernet,
    imported: Imported,
    *,
    published: AccuracyPredictor | None = None,
    brought: BroughtInfo | None = None,
    preprocessing: Preprocessing = PREPROCESSING,
    progress: Progress,
) -> Run:
    """Write the run directory. run.json is written last, so a directory that has it is complete."""
    space, data, opened, splits, out = supernet.space, options.data, None, None, Path(options.out)
    preprocessing = with_statistics(preprocessing, options, space.channels)
    if data is not None:
        opened, splits = open_images(
            data_asked(options, data, space, preprocessing.crop_share),
            on_classes=lambda names: _require_classes(names, supernet, data, imported.file),
            progress=progress,
        )

    info = RunInfo(
        space=json.loads(space.to_json()),
        classes=splits.classes if splits else tuple(f"class {i}" for i in range(supernet.num_classes)),
        data=opened,
        images=splits.sizes if splits else {},
        augment=None,
        crop_share=preprocessing.crop_share,
        seed=options.seed,
        preset=None,
        environment=environment(),
        imported=imported,
        brought=brought,
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
        metric="top1" if splits is None else metric_of(options.metric, options.reading.task, splits, progress.note),
    )
    run = Run(out, info)
    with locked(make_folder(out)):
        _require_free(out)
        run.save_supernet(supernet)
        place = out / "accuracy" / PREDICTOR
        with reading_or_writing(place):
            place.unlink(missing_ok=True)  # of an interrupted import
        if published is not None:
            make_folder(place.parent)
            replace(published, weights_hash=run.weights_hash()).save(place)
        run.save_listing(splits.files if splits else ())
        run.save_info(splits.problems if splits else ())
        with reading_or_writing(out):
            for torn in out.rglob(".*.tmp"):  # of a killed import
                torn.unlink()
    return run


def _require_free(out: Path) -> None:
    """Raise a `FileError` unless `out` is empty or holds only what an import that was interrupted before run.json leaves."""
    accuracy = out / "accuracy"
    with reading_or_writing(accuracy):
        ours = all(path.name == PREDICTOR or path.suffix == ".tmp" for path in accuracy.glob("*"))
    Run.require_free(out, LEFTOVERS | {"accuracy"} if ours else LEFTOVERS, advice="choose another --out")


def _require_classes(names: tuple[str, ...], supernet: Supernet, data: str, path: str) -> None:
    if len(names) != supernet.num_classes:
        raise DataError(
            f"{data} has {len(names):,} classes, the weights in {path} have {supernet.num_classes:,}: give images of these, "
            f"in their order; for others, import without --data, then {ofa('train', data, '--from', 'RUN', '--out', 'NEW')}"
        )
