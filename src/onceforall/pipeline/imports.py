"""`ofa import`: from weights that the Once-for-All authors published to a run directory, without training."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from ..accuracy import AccuracyPredictor
from ..advice import ofa
from ..data import CACHE_GB, PREPROCESSING
from ..errors import DataError
from ..files import locked, make_folder, reading_or_writing, sha256
from ..published import load_supernet, published_space
from ..supernet import Supernet
from .environment import environment
from .images import open_images
from .info import Imported, RunInfo
from .run import Run

__all__ = ["import_original"]

Event = dict[str, Any]
PREDICTOR = "predictor.safetensors"
LEFTOVERS = frozenset({".lock", "problems.jsonl", "supernet.safetensors"})  # of an import that was interrupted
CLASSES_OF_PREDICTOR = 1000  # ImageNet's, whose accuracy the original's predictors tell


def import_original(
    path: Path,
    *,
    name: str,
    out: Path,
    data: str | None = None,
    predictor: Path | None = None,
    holdout: float = 0.1,
    limit: int | None = None,
    max_pixels: int | None = None,
    cache_gb: float | None = None,
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    """Make a run directory of the original's weights, on which the other commands work as after a training.

    Args:
        path: the checkpoint; nothing but tensors is ever unpickled.
        name: of the network, see `onceforall.published.NAMES`.
        out: the run directory to make.
        data: images with as many classes as the weights, in the same order; see `onceforall.data.open_data`. Without them only
            `profile`, `report` and `export_original` work.
        predictor: the original's accuracy predictor for these weights, so that `search` works without `predict`.
        holdout: share of the training images that is held out.
        limit: use only so many images of each part.
        max_pixels: larger images are left out; None for 300 megapixels of a JPEG and 89 of any other.
        cache_gb: most that the decoded images may take on the disk; None for 8.
        seed: of the choice of held-out images.
        on_event: gets progress while the data are decoded, and notes.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do; `out` is then no run directory.
    """
    path, out = Path(path), Path(out)
    space = published_space(name)
    about_images = (
        ("limit", limit, None),
        ("max-pixels", max_pixels, None),
        ("cache-gb", cache_gb, None),
        ("holdout", holdout, 0.1),
    )
    for option, value, default in about_images:
        if data is None and value != default:
            raise DataError(f"--{option} {value} is about images, but there are none: give --data too")
    _require_free(out)
    supernet = load_supernet(path, name)
    imported = Imported(path.name, sha256(path), name)
    published = None if predictor is None else AccuracyPredictor.from_published(predictor, space)
    on_event({"event": "note", "text": f"weights: {name}, {supernet.num_classes:,} classes"})
    if published is not None and supernet.num_classes != CLASSES_OF_PREDICTOR:
        classes = f"ImageNet's {CLASSES_OF_PREDICTOR:,} classes"
        text = f"the predictor tells accuracy on {classes}: to fit one for yours, {ofa('predict', out)}"
        on_event({"event": "note", "text": text})
    opened = splits = None
    if data is not None:
        opened, splits = open_images(
            data,
            size=ceil(space.resolutions[-1] / PREPROCESSING.crop_share),
            holdout=holdout,
            seed=seed,
            limit=limit,
            max_pixels=max_pixels,
            cache_gb=CACHE_GB if cache_gb is None else cache_gb,
            on_classes=lambda names: _require_classes(names, supernet, data, path),
            on_event=on_event,
        )
    info = RunInfo(
        space=json.loads(space.to_json()),
        classes=splits.classes if splits else tuple(f"class {i}" for i in range(supernet.num_classes)),
        data=opened,
        images=splits.sizes if splits else {},
        augment=None,
        crop_share=PREPROCESSING.crop_share,
        seed=seed,
        preset=None,
        environment=environment(),
        imported=imported,
    )
    run = Run(out, info)
    with locked(make_folder(out)):
        _require_free(out)
        run.save_supernet(supernet)
        place = out / "accuracy" / PREDICTOR
        with reading_or_writing(place):
            place.unlink(missing_ok=True)  # of an import that was interrupted
        if published is not None:
            make_folder(place.parent)
            replace(published, weights_hash=run.weights_hash()).save(place)
        run.save_info(splits.problems if splits else ())
        with reading_or_writing(out):
            for torn in out.rglob(".*.tmp"):  # of an import that was killed
                torn.unlink()
    return run


def _require_free(out: Path) -> None:
    """Raises a `FileError` unless there is nothing, or what an import leaves that was interrupted before run.json."""
    accuracy = out / "accuracy"
    with reading_or_writing(accuracy):
        ours = all(path.name == PREDICTOR or path.suffix == ".tmp" for path in accuracy.glob("*"))
    Run.require_free(out, LEFTOVERS | {"accuracy"} if ours else LEFTOVERS, advice="choose another --out")


def _require_classes(names: tuple[str, ...], supernet: Supernet, data: str, path: Path) -> None:
    if len(names) != supernet.num_classes:
        raise DataError(
            f"{data} has {len(names):,} classes, the weights in {path} tell {supernet.num_classes:,} apart: give images of those, "
            f"in their order; for others import without --data, then {ofa('train', data, '--from', 'RUN', '--out', 'NEW')}"
        )
