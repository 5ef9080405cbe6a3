"""`ofa import`: from weights that were trained elsewhere to a run directory, without training.

They are those of the Once-for-All authors (`import_original`), or of a network that someone brings (`import_own`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from ..accuracy import AccuracyPredictor
from ..advice import ofa
from ..data import CACHE_GB, PREPROCESSING, Preprocessing
from ..errors import CheckpointError, DataError, ModelError
from ..files import locked, make_folder, reading_or_writing, sha256
from ..models import RANDOM
from ..published import NAMES, load_supernet, published_space
from ..supernet import Supernet
from .environment import environment
from .images import open_images
from .info import BroughtInfo, DataInfo, Imported, RunInfo
from .own import bring_own, require_logits
from .run import Run

__all__ = ["import_original", "import_own"]

Event = dict[str, Any]
PREDICTOR = "predictor.safetensors"
LEFTOVERS = frozenset({".lock", "problems.jsonl", "supernet.safetensors"})  # of an import that was interrupted
CLASSES_OF_PREDICTOR = 1000  # ImageNet's, whose accuracy the original's predictors tell


def import_original(
    path: Path,
    *,
    name: str | None = None,
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
        on_event: gets progress of a download and while the data are decoded, and notes.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do; `out` is then no run directory.
    """
    path, out = Path(path), Path(out)
    if name is None:
        raise CheckpointError(f"{path}: which network's weights are these? Give --name, one of {', '.join(NAMES)}")
    space = published_space(name)
    images = _Images(data, holdout, limit, max_pixels, cache_gb, seed)
    images.check()
    _require_free(out)
    supernet = load_supernet(path, name)
    imported = Imported(path.name, sha256(path), name)
    published = None if predictor is None else AccuracyPredictor.from_published(predictor, space)
    on_event({"event": "note", "text": f"weights: {name}, {supernet.num_classes:,} classes"})
    if published is not None and supernet.num_classes != CLASSES_OF_PREDICTOR:
        classes = f"ImageNet's {CLASSES_OF_PREDICTOR:,} classes"
        text = f"the predictor tells accuracy on {classes}: to fit one for yours, {ofa('predict', out)}"
        on_event({"event": "note", "text": text})
    return _made(out, supernet, imported, images, published=published, on_event=on_event)


def import_own(
    source: str,
    *,
    out: Path,
    data: str | None = None,
    weights: Path | None = None,
    space: Mapping[str, Any] | None = None,
    holdout: float = 0.1,
    limit: int | None = None,
    max_pixels: int | None = None,
    cache_gb: float | None = None,
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    """Make a run directory of a trained network of one's own: the largest sub-network is that network.

    Args:
        source: see `onceforall.models.bring`.
        out: the run directory to make.
        data: images of its classes, in the same order; without them only `profile` and `report` work.
        weights: a file of its state dict.
        space: its choices: resolutions, widths, heads, depths, kernels and stage_widths.

    The other arguments are those of `import_original`.

    Raises:
        OnceForAllError: with one line on what is wrong and what to do; `out` is then no run directory.
    """
    out = Path(out)
    images = _Images(data, holdout, limit, max_pixels, cache_gb, seed)
    images.check()
    _require_free(out)
    own = bring_own(source, weights=weights, choices=space, seed=seed, on_event=on_event)
    require_logits(own)
    found = own.brought.weights
    if found.random:
        raise ModelError(
            f"{own.brought.source} has random weights, and importing trains nothing: give those of a file, or leave "
            f"--weights {RANDOM} out; to train it, {ofa('train', data or 'DATA', '--from', source, '--out', 'NEW')}"
        )
    if own.brought.unfilled:
        raise ModelError(
            f"the weights of {own.brought.source} have another number of classes: {'; '.join(own.brought.unfilled.values())}"
        )
    imported = Imported(found.file or own.brought.source, found.sha256 or "", own.brought.source)
    on_event({"event": "note", "text": f"weights: {imported.name}, {own.supernet.num_classes:,} classes"})
    return _made(
        out, own.supernet, imported, images,
        brought=own.info(classifier=True), preprocessing=own.preprocessing, on_event=on_event,
    )  # fmt: skip


@dataclass(frozen=True)
class _Images:
    """What was said about images."""

    data: str | None
    holdout: float
    limit: int | None
    max_pixels: int | None
    cache_gb: float | None
    seed: int

    def check(self) -> None:
        """Raises a `DataError` if something is said about images that are not there."""
        options = (("limit", self.limit, None), ("max-pixels", self.max_pixels, None), ("cache-gb", self.cache_gb, None))
        for option, value, default in (*options, ("holdout", self.holdout, 0.1)):
            if self.data is None and value != default:
                raise DataError(f"--{option} {value} is about images, but there are none: give --data too")


def _made(
    out: Path,
    supernet: Supernet,
    imported: Imported,
    images: _Images,
    *,
    published: AccuracyPredictor | None = None,
    brought: BroughtInfo | None = None,
    preprocessing: Preprocessing = PREPROCESSING,
    on_event: Callable[[Event], None],
) -> Run:
    """The run directory. run.json is written last, so that what has it is whole."""
    space, data, opened, splits = supernet.space, images.data, None, None
    if data is not None:
        size, gb = ceil(space.resolutions[-1] / preprocessing.crop_share), CACHE_GB if images.cache_gb is None else images.cache_gb
        opened, splits = open_images(
            DataInfo(data, size, images.holdout, images.seed, images.limit, "", gb, images.max_pixels),
            on_classes=lambda names: _require_classes(names, supernet, data, imported.file),
            on_event=on_event,
        )
    info = RunInfo(
        space=json.loads(space.to_json()),
        classes=splits.classes if splits else tuple(f"class {i}" for i in range(supernet.num_classes)),
        data=opened,
        images=splits.sizes if splits else {},
        augment=None,
        crop_share=preprocessing.crop_share,
        seed=images.seed,
        preset=None,
        environment=environment(),
        imported=imported,
        brought=brought,
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
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


def _require_classes(names: tuple[str, ...], supernet: Supernet, data: str, path: str) -> None:
    if len(names) != supernet.num_classes:
        raise DataError(
            f"{data} has {len(names):,} classes, the weights in {path} tell {supernet.num_classes:,} apart: give images of those, "
            f"in their order; for others import without --data, then {ofa('train', data, '--from', 'RUN', '--out', 'NEW')}"
        )
