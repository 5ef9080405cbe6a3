"""Three disjoint splits: train; held-out (recalibration, accuracy data, every choice); test (final reports only)."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FileError
from ..files import make_folder
from ..places import cache_folder
from .cache import Problem, Progress, Store, cache_part, expected_bytes, place_of
from .sources import Indices, Part, Source, digest, open_source

__all__ = ["CACHE_GB", "Images", "Splits", "open_data"]

CACHE_GB = 8.0
TEST_SHARE = 0.2
MOST_HELD_OUT = 10_000
LEAST_PER_CLASS = 4


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in the cache: a store and which of its rows belong here.

    Attributes:
        labels: (n,) int64.
    """

    store: Store
    rows: Indices
    part: Part
    labels: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, i: int) -> NDArray[np.uint8]:
        """Image i as (height, width, 3) uint8, a read-only view into the mapped file."""
        _, offset, height, width = self.store.index[self.rows[i]].tolist()
        return self.store.pixels[offset : offset + 3 * height * width].reshape(height, width, 3)

    def name(self, i: int) -> str:
        return self.part.names[int(self.store.index[self.rows[i], 0])]

    @property
    def names(self) -> list[str]:
        return [self.name(i) for i in range(len(self))]

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(n, 2) height and width of each image."""
        return self.store.index[self.rows, 2:]

    @property
    def digests(self) -> NDArray[np.void]:
        """(n,) one 16-byte hash per image, equal for equal pixels."""
        return self.store.digests[self.rows]

    def subset(self, indices: NDArray[np.int64]) -> "Images":
        """The images at these indices, in this order."""
        return Images(self.store, self.rows[indices], self.part, self.labels[indices])

    def sample(self, most: int) -> "Images":
        """All of the images, or if they are more so many of them, of each class its share, in order."""
        n = len(self)
        by_class = np.argsort(self.labels, kind="stable")
        return self if n <= most else self.subset(np.sort(by_class[np.arange(most) * n // most]))


@dataclass(frozen=True, eq=False)
class Splits:
    """Train and held-out images; test images only by `open_test`, which remembers what for.

    Attributes:
        classes: names, in the order of the labels.
        problems: images that were left out.
        duplicates: images dropped because the same pixels are in a split that matters more (test, then held-out).
        fingerprint: changes when any image, label or the division changes.
        test_openings: the purposes the test images were opened for, so far.
    """

    train: Images
    held_out: Images
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    duplicates: int
    fingerprint: str
    _test: Images = field(repr=False)
    test_openings: list[str] = field(default_factory=list)

    @property
    def test_size(self) -> int:
        """How many test images there are."""
        return len(self._test)

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {"train": len(self.train), "held-out": len(self.held_out), "test": self.test_size}

    def among(self, digests: NDArray[np.void]) -> dict[str, int]:
        """How many held-out and test images are among those with these `Images.digests`, of images decoded to the same size."""
        counts = {"held-out": self.held_out, "test": self._test}
        return {name: int(np.isin(images.digests, digests).sum()) for name, images in counts.items()}

    def open_test(self, purpose: str) -> Images:
        """The test images, for a final report and nothing that chooses anything.

        Args:
            purpose: what for; kept in `test_openings`.

        Raises:
            DataError: no purpose given.
        """
        if not purpose.strip():
            raise DataError("the test images are for final reports only: say what they are opened for")
        self.test_openings.append(purpose.strip())
        return self._test


def open_data(
    source: str,
    *,
    size: int,
    holdout: float = 0.1,
    seed: int = 0,
    cache: Path | None = None,
    limit_gb: float = CACHE_GB,
    limit: int | None = None,
    on_classes: Callable[[tuple[str, ...]], None] = lambda names: None,
    on_progress: Progress | None = None,
) -> Splits:
    """Open what `source` names (see `open_source`), decode it once into the cache, and divide it.

    Args:
        size: images are kept with a short side of at most this; use the largest resolution / 0.875.
        holdout: share of the training images that is held out, where the data bring no third part; at most 10,000 images.
        seed: of the choice of held-out images. The test part never depends on it.
        cache: folder for decoded images; None for the user's cache folder.
        limit_gb: most that the decoded images may take on the disk.
        limit: use only the first n images of each part, stratified; for quick tries.
        on_classes: called with the names of the classes before anything is decoded; may raise an error.
        on_progress: called with images done and images in all while decoding.

    Raises:
        DataError: see the message.
        FileError: the cache cannot be written.
    """
    _check_arguments(size, holdout, seed, limit)
    found = open_source(source)
    _check_classes(found)
    on_classes(found.classes)
    parts = _divide_parts(found)
    if limit is not None:
        parts = _limited(parts, limit, len(found.classes))
    for name, part in parts.items():
        _check_counts(found, part.labels, LEAST_PER_CLASS if name == "train" else 1, name)
    cache = cache or cache_folder([place_of(part, size, Path()).name for part in parts.values()])
    stores = _stores(parts, size, cache, limit_gb, on_progress)
    images = {name: _all_images(stores[name], part) for name, part in parts.items()}
    train, test = images["train"], images["test"]
    held_out = images.get("held-out")
    if held_out is None:
        share = min(holdout, MOST_HELD_OUT / len(train))
        chosen = stratified(train.labels, share, np.random.default_rng([seed, 0x4E1D]))
        held_out = train.subset(chosen)
        train = train.subset(np.setdiff1d(np.arange(len(train)), chosen))
    before = len(train) + len(held_out)
    held_out = _without(held_out, test)
    train = _without(_without(train, test), held_out)
    for name, split in (("train", train), ("held-out", held_out), ("test", test)):
        _check_counts(found, split.labels, 1, name)
    return Splits(
        train=train,
        held_out=held_out,
        classes=found.classes,
        problems=tuple(problem for store in stores.values() for problem in store.problems),
        duplicates=before - len(train) - len(held_out),
        fingerprint=_fingerprint(found.classes, train, held_out, test),
        _test=test,
    )


def stratified(labels: Indices, share: float, rng: np.random.Generator | None = None, *, least: int = 1) -> Indices:
    """Ascending positions of about this share of every class, at least `least` each: random ones, or the first without `rng`."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if rng is not None:
            members = rng.permutation(members)
        chosen.append(members[: max(least, round(share * len(members)))])
    return np.sort(np.concatenate(chosen))


def _check_arguments(size: int, holdout: float, seed: int, limit: int | None) -> None:
    if size < 8:
        raise DataError(f"images of size {size} are too small to keep: use 8 or more")
    if not 0 < holdout <= 0.5:
        raise DataError(f"the held-out share is {holdout}: it must be above 0 and at most 0.5")
    if seed < 0:
        raise DataError(f"the seed is {seed}: use 0 or more")
    if limit is not None and limit < 1:
        raise DataError(f"the limit is {limit} images: use 1 or more, or none")


def _check_classes(source: Source) -> None:
    if len(source.classes) < 2:
        found = f"one class ({source.classes[0]})" if source.classes else "no classes"
        raise DataError(f"{source.name} has {found}, at least 2 are needed: give a folder with one folder per class")
    for part in (source.train, source.test, source.held_out):
        if part is None:
            continue
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= len(source.classes)))
        if len(wrong):
            raise DataError(
                f"{source.name}: the label of {part.names[wrong[0]]} is {part.labels[wrong[0]]}, out of range: with "
                f"{len(source.classes)} classes labels go from 0 to {len(source.classes) - 1}"
            )


def _limited(parts: dict[str, Part], limit: int, classes: int) -> dict[str, Part]:
    if limit < LEAST_PER_CLASS * classes:
        raise DataError(
            f"the limit of {limit} images leaves fewer than {LEAST_PER_CLASS} for each of {classes} classes: "
            f"use {LEAST_PER_CLASS * classes} or more"
        )
    return {
        name: part.subset(stratified(part.labels, min(1.0, limit / len(part)), least=LEAST_PER_CLASS))
        for name, part in parts.items()
    }


def _check_counts(source: Source, labels: Indices, least: int, name: str) -> None:
    counts = np.bincount(labels, minlength=len(source.classes))
    few = np.flatnonzero(counts < least)
    if len(few):
        what = ", ".join(f"{source.classes[i]} ({counts[i]})" for i in few[:5]) + (", …" if len(few) > 5 else "")
        raise DataError(
            f"{source.name}: too few usable {name} images in {len(few)} of {len(counts)} classes: {what}; each needs {least}"
        )


def _divide_parts(source: Source) -> dict[str, Part]:
    """Train, test and perhaps held-out; a test part is taken from train where the data bring none."""
    train, test = source.train, source.test
    if test is None:
        _check_counts(source, train.labels, LEAST_PER_CLASS + 1, "train")
        chosen = stratified(train.labels, TEST_SHARE, np.random.default_rng(0))
        test = train.subset(chosen)
        train = train.subset(np.setdiff1d(np.arange(len(train)), chosen))
    parts = {"train": train, "test": test}
    return parts if source.held_out is None else {**parts, "held-out": source.held_out}


def _stores(parts: dict[str, Part], size: int, folder: Path, limit_gb: float, on_progress: Progress | None) -> dict[str, Store]:
    expected = [expected_bytes(part, size=size, folder=folder) for part in parts.values()]
    total, missing = sum(found for found, _ in expected), sum(found for found, cached in expected if not cached)
    images, left = sum(map(len, parts.values())), int(limit_gb * 1e9)
    if total > left:
        raise DataError(
            f"{images:,} images of size {size} would take about {total / 1e9:.1f} GB in {folder}, the limit is {limit_gb} GB: "
            "raise it with --cache-gb, lower the size, or use fewer images"
        )
    if missing:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        if missing > free:
            raise FileError(
                f"{folder}: the decoded images need about {missing / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
                "free some space, choose another cache folder, lower the size, or use fewer images"
            )
    stores: dict[str, Store] = {}
    done = 0
    for name, part in parts.items():

        def report(part_done: int, part_images: int, before: int = done) -> None:
            if on_progress is not None:
                on_progress(before + part_done, images)

        stores[name] = cache_part(part, size=size, folder=folder, limit_bytes=left, on_progress=report)
        left -= stores[name].pixels.size
        done += len(part)
    return stores


def _all_images(store: Store, part: Part) -> Images:
    return Images(store, np.arange(len(store.index)), part, part.labels[store.index[:, 0]])


def _without(images: Images, others: Images) -> Images:
    """The images whose pixels are not among the others'."""
    return images.subset(np.flatnonzero(~np.isin(images.digests, others.digests)))


def _fingerprint(classes: tuple[str, ...], *splits: Images) -> str:
    texts = [text for split in splits for text in (split.digests.tobytes().hex(), split.labels.tobytes().hex())]
    return digest([*classes, *texts])[:16]
