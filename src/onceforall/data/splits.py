"""Three disjoint splits: train; held-out (recalibration, accuracy data, every choice); test (final reports only)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.arguments import takes
from ..common.files import reading_or_writing
from ..common.places import cache_folder
from ..common.readable import plural
from ..errors import DataError
from ..resolutions import Resolution
from .alike import MOST, MOST_KNOWN, alike
from .cache import OnProgress, Problem, Store, facts_of, place_of
from .classes import doubtful_names, masks_among
from .divide import LEAST_PER_CLASS, limited, some
from .fitted import Keep, fitted_batches
from .formats.scan import left_out_line
from .labels import Labels, codes, having, images_of, in_words
from .originals import Indices, Part, Source, digest, remarks_on, small
from .preparation import Preprocessing
from .sources import open_source
from .stores import DataOptions, open_stores

TEST_SHARE = 0.2
MOST_HELD_OUT = 10_000
SPLITS = ("train", "held-out", "test")
FEWER = " (--few allows fewer, --classes merges or leaves out some)"
MANY = 10  # with more classes of too few images, numbers as names may be measurements
MEASURES = "; if these numbers are measurements (there is no regression), divide them into ranges, and name these in a column"
IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")  # Pillow modes that PNG preserves
MOST_LISTED = 1000  # lines per reason in problems.jsonl: a million images may each have a text file


@dataclass(frozen=True, eq=False)
class Images:
    """Labeled images: some rows of a store of images, or of facts about them.

    Attributes:
        labels: (n,) int64, or multi-label (n, classes) float32 of 0 and 1.
        keep: where pixels for evaluation are kept.
    """

    store: Store
    rows: Indices
    part: Part
    labels: Labels
    keep: Keep = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def decoded(self) -> bool:
        """Whether decoded pixels are cached."""
        return self.store.pixels is not None

    def pixels(self, i: int) -> NDArray[np.uint8]:
        """Image i for training, (height, width, channels) uint8: a read-only view of the memory-mapped cache, or decoded now.

        Raises:
            DataError: the original of an image decoded now can no longer be read.
        """
        position, offset, height, width = self.store.index[self.rows[i]].tolist()
        if self.store.pixels is None:
            (load,) = self.part.singles(np.array([position]))
            return small(load, self.store.size, self.part.how)
        size = self.part.how.channels
        return self.store.pixels[offset : offset + size * height * width].reshape(height, width, size)

    def fitted(self, groups: Sequence[Indices], resolution: Resolution, steps: Preprocessing) -> Iterator[NDArray[np.uint8]]:
        """For each group of indices, its images for evaluation, (n, height, width, channels), made from the originals.

        Raises:
            DataError: an original can no longer be read.
            FileError: the cache cannot be written, or the disk is full.
        """
        positions = self.positions
        return fitted_batches(self.part, [positions[group] for group in groups], resolution, steps, self.keep)

    def files(self, folder: Path) -> list[Path]:
        """Each image's original as a file; originals that are not files, such as in Parquet, are written into the folder.

        Raises:
            FileError: the folder cannot be written.
        """
        positions = self.positions
        ascending = np.unique(positions)
        files: dict[int, Path] = {}
        for position, load in zip(ascending.tolist(), self.part.read(ascending), strict=True):
            path = folder / f"{position}.png"
            with reading_or_writing(folder):
                original = load.taken()
                if isinstance(original, Path):
                    path = original
                elif isinstance(original, bytes):
                    path.write_bytes(original)
                else:
                    (original if original.mode in IN_PNG else load()).save(path, compress_level=1)
            files[position] = path
        return [files[position] for position in positions.tolist()]

    @property
    def positions(self) -> Indices:
        """(n,) position of each image in its part."""
        return np.asarray(self.store.index[self.rows, 0])

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
    def groups(self) -> tuple[str, ...] | None:
        """The group of each image; None if there are no groups."""
        return None if self.part.groups is None else tuple(self.part.groups[i] for i in self.positions)

    @property
    def thumbnails(self) -> NDArray[np.float32]:
        """(n, 256), see `alike.thumbnails`."""
        return self.store.thumbnails()[self.rows]

    @property
    def digests(self) -> NDArray[np.void]:
        """(n,) one 16-byte hash per image, equal for equal pixels."""
        return self.store.digests[self.rows]

    def subset(self, indices: NDArray[np.int64]) -> "Images":
        """The images at these indices, in this order."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def sample(self, most: int) -> "Images":
        """At most `most` of the images, stratified by class, in order."""
        n = len(self)
        by_class = np.argsort(codes(self.labels), kind="stable")
        return self if n <= most else self.subset(np.sort(by_class[np.arange(most) * n // most]))


@dataclass(frozen=True, eq=False)
class Splits:
    """Train and held-out images; test images only through `open_test`, which records the purpose.

    Attributes:
        classes: names, in the order of the labels.
        problems: the lines of problems.jsonl: unreadable images, other files left out, equal pixels under two labels.
        unreadable: how many of them are unreadable images.
        remarks: lines for the user on how the data were read, and what was left out.
        duplicates: images dropped because the same pixels are in a more important split (test, then held-out).
        gray: no training image shows any color.
        fingerprint: changes when any image, label or the division changes.
        test_openings: the purposes for which the test images were opened so far.
        files: the files that they were read from, see `Source.files`.
    """

    train: Images
    held_out: Images
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    unreadable: int
    remarks: tuple[str, ...]
    duplicates: int
    gray: bool
    fingerprint: str
    _test: Images = field(repr=False)
    test_openings: list[str] = field(default_factory=list)
    files: Sequence[str] = field(default=(), repr=False)

    @property
    def test_size(self) -> int:
        """How many test images there are."""
        return len(self._test)

    @property
    def cache(self) -> str:
        """How training images are kept: "decoded" or "none"."""
        return "decoded" if self.train.decoded else "none"

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {"train": len(self.train), "held-out": len(self.held_out), "test": self.test_size}

    def among(self, digests: NDArray[np.void]) -> dict[str, int]:
        """Number of held-out and test images whose `Images.digests` are among these, for images decoded to the same size."""
        counts = {"held-out": self.held_out, "test": self._test}
        return {name: int(np.isin(images.digests, digests).sum()) for name, images in counts.items()}

    def open_test(self, purpose: str) -> Images:
        """The test images, for a final report, never for choosing anything.

        Args:
            purpose: what they are opened for; recorded in `test_openings`.

        Raises:
            DataError: no purpose is given.
        """
        if not purpose.strip():
            raise DataError("the test images are for final reports only: say what they are opened for")
        self.test_openings.append(purpose.strip())
        return self._test


@takes(DataOptions)
def open_data(
    options: DataOptions,
    *,
    compare: bool = False,
    on_classes: Callable[[tuple[str, ...]], None] = lambda names: None,
    on_progress: OnProgress = lambda done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Splits:
    """Open data (see `open_source`), decode every image once, into the cache or only for facts about it, and split the data.

    Args:
        options: see `DataOptions`, or its fields as keyword arguments.
        compare: look for near duplicates across splits; takes a while for very many images.
        on_classes: called with the names of the classes before anything is decoded; may raise an error.
        on_progress: called with images done and the total while decoding.
        on_note: called with a line when images are downloaded, or later, when preparing them for evaluation takes long.

    Raises:
        DataError: the data cannot be used; the message says why.
        FileError: the cache cannot be written.
    """
    found, few = open_source(options.source, options.reading, on_note), options.reading.few
    _check_classes(found)
    on_classes(found.classes)
    parts = _parts(found, options)
    least = {name: 1 if name == "train" else 0 for name in SPLITS} if few else {"train": LEAST_PER_CLASS}
    for name, part in parts.items():
        _check_counts(found, part.labels, least.get(name, 1), name)
    stores, images = _stored(parts, options, on_progress, on_note)
    all_of = _with_held_out(images, options)
    held_out = _without(all_of["held-out"], all_of["test"])
    train = _without(_without(all_of["train"], all_of["test"]), held_out)
    kept = {"train": train, "held-out": held_out, "test": all_of["test"]}
    for name, split in kept.items():
        own = name if name in parts else "train"
        lost = partial(_lost, name, all_of, kept, parts[own], stores[own])
        _check_counts(found, split.labels, min(1, least.get(name, 1)), name, lost)
    unreadable = [problem for store in stores.values() for problem in store.problems]
    contradictions, contradiction = _contradictions(all_of, kept, found.classes)
    copies, copied = _copies(kept) if compare else ([], "")
    left_out = left_out_line(found.left_out)
    remarks = [*doubtful_names(found.classes), *masks_among(parts.values()), *([f"left out: {left_out}"] if left_out else [])]
    remarks += remarks_on([(store.seen, len(store.index)) for store in stores.values()], options.how)
    remarks += filter(None, (contradiction, copied, _on_both_sides(kept), _without_images(found.classes, kept)))
    return Splits(
        train=train,
        held_out=held_out,
        classes=found.classes,
        problems=(*unreadable, *_listed(found.left_out), *contradictions, *copies),
        unreadable=len(unreadable),
        remarks=(*found.remarks, *remarks),
        duplicates=sum(map(len, all_of.values())) - sum(map(len, kept.values())),
        gray=stores["train"].seen is not None and stores["train"].seen.gray,
        fingerprint=_fingerprint(found.classes, train, held_out, all_of["test"]),
        _test=all_of["test"],
        files=found.files,
    )


def _parts(found: Source, options: DataOptions) -> dict[str, Part]:
    """Train, test, and held-out if the data have it; not decoded yet."""
    parts = {name: part.read_as(options.how) for name, part in _divide_parts(found, options.reading.few).items()}
    for name, part in parts.items():
        if not len(part):
            raise DataError(f"{found.name}: no {name} images of these classes: leave that split out, or choose other classes")
    return parts if options.limit is None else limited(parts, options.limit, len(found.classes), exact=options.exact)


def _stored(
    parts: Mapping[str, Part], o: DataOptions, on_progress: OnProgress, on_note: Callable[[str], None]
) -> tuple[dict[str, Store], dict[str, Images]]:
    """The images of each part, decoded."""
    place = facts_of if o.caching == "none" else place_of
    cache = o.cache or cache_folder([place(part, o.size, Path()).name for part in parts.values()])
    stores = open_stores(parts, o, cache, on_progress, on_note)
    keep = Keep(cache, int(o.limit_gb * 1e9), on_note, cache_folder if o.cache is None else None)
    images = {}
    for name, part in parts.items():
        index = stores[name].index
        images[name] = Images(stores[name], np.arange(len(index)), part, part.labels[index[:, 0]], keep)
    return stores, images


def _with_held_out(images: Mapping[str, Images], options: DataOptions) -> dict[str, Images]:
    """All three splits; held-out images are drawn from the training images if the data have none."""
    train, held_out = images["train"], images.get("held-out")
    if held_out is None:
        share = min(options.holdout, MOST_HELD_OUT / len(train))
        chosen = some(train.labels, train.groups, share, np.random.default_rng([options.seed, 0x4E1D]), options.reading.few)
        held_out = train.subset(chosen)
        train = train.subset(np.setdiff1d(np.arange(len(train)), chosen))
    return {"train": train, "held-out": held_out, "test": images["test"]}


def _check_classes(source: Source) -> None:
    if len(source.classes) < 2:
        found = f"one class ({source.classes[0]})" if source.classes else "no classes"
        how = source.hint or "give a folder with one folder per class"
        raise DataError(f"{source.name} has {found}, and at least 2 are needed: {how}{_also(source)}")
    for part in (source.train, source.test, source.held_out):
        if part is None or part.labels.ndim == 2:
            continue
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= len(source.classes)))
        if len(wrong):
            raise DataError(
                f"{source.name}: the label of {part.names[wrong[0]]} is {part.labels[wrong[0]]}, out of range: with "
                f"{len(source.classes)} classes labels go from 0 to {len(source.classes) - 1}; leave rows without a label out"
            )


def _check_counts(source: Source, labels: Labels, least: int, name: str, lost: Callable[[Indices], str] = lambda few: "") -> None:
    """Raise an error if classes have too few images; `lost` says where their other images went."""
    counts = images_of(labels, len(source.classes))
    few = np.flatnonzero(counts < least)
    if len(few):
        what = ", ".join(f"{source.classes[i]} ({counts[i]})" for i in few[:5]) + (", …" if len(few) > 5 else "")
        raise DataError(
            f"{source.name}: too few usable {name} images in {len(few)} of {len(counts)} classes: {what}; each needs {least}"
            f"{FEWER if least > (name == 'train') or name != 'train' else ''}{lost(few)}{_also(source)}"
            f"{MEASURES if len(few) > MANY and all(map(str.isdecimal, source.classes)) else ''}"
        )


def _also(source: Source) -> str:
    left_out = left_out_line(source.left_out)
    return f"; left out: {left_out}" if left_out else ""


def _lost(
    name: str, all_of: Mapping[str, Images], kept: Mapping[str, Images], part: Part, store: Store, classes: NDArray[np.int64]
) -> str:
    """Text on why images of these classes are missing from a split."""
    unreadable = int(having(np.delete(part.labels, store.index[:, 0], axis=0), classes).sum())
    texts = [f"; {plural(unreadable, 'image')} of these classes cannot be read"] if unreadable else []
    images = all_of[name]
    dropped = np.flatnonzero(having(images.labels, classes) & ~np.isin(images.rows, kept[name].rows))
    if len(dropped):
        first = images.digests[dropped[0]]
        twin = next(other.name(int(i)) for other in list(kept.values())[::-1] for i in np.flatnonzero(other.digests == first)[:1])
        texts.append(
            f"; {plural(len(dropped), 'image')} of these classes were dropped, because a more important split has the same pixels "
            f"({images.name(int(dropped[0]))} is {twin})"
        )
    return "".join(texts)


def _contradictions(
    all_of: Mapping[str, Images], kept: Mapping[str, Images], classes: tuple[str, ...]
) -> tuple[list[Problem], str]:
    """Images with the same pixels under two labels, and a line on them. They are kept: it is unknown which label is right."""
    everything = list(all_of.values())
    all_labels = np.concatenate([images.labels for images in everything])
    labels = codes(all_labels)
    halves = np.concatenate([images.digests for images in everything]).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((labels, halves[:, 1], halves[:, 0]))
    new = np.r_[True, (halves[order[1:]] != halves[order[:-1]]).any(axis=1)]
    group = np.cumsum(new)
    conflict = ~new[1:] & (labels[order[1:]] != labels[order[:-1]])
    members = np.flatnonzero(np.isin(group, group[1:][conflict]))
    if not len(members):
        return [], ""
    starts = np.cumsum([0, *map(len, everything)])
    in_use = np.concatenate([np.isin(images.rows, kept[name].rows) for name, images in all_of.items()])

    def name_of(i: int) -> str:
        split = int(np.searchsorted(starts, i, side="right")) - 1
        return everything[split].name(i - int(starts[split]))

    problems, twins = [], []
    for place in members[:MOST_LISTED]:
        i = int(order[place])
        same = order[np.searchsorted(group, group[place]) : np.searchsorted(group, group[place], side="right")]
        other = int(same[labels[same] != labels[i]][0])
        what = "kept" if in_use[i] else "dropped as a duplicate"
        twins.append(f"{name_of(i)} and {name_of(other)}")
        about = (
            f"of {in_words(all_labels[i], classes)}, with the pixels of {name_of(other)} of {in_words(all_labels[other], classes)}"
        )
        problems.append(Problem(name_of(i), f"{what}: {about}", doubtful=True))
    if len(members) > MOST_LISTED:
        more = len(members) - MOST_LISTED
        about = "of one class, with the pixels of an image of another"
        problems.append(Problem(f"{more:,} more", about, doubtful=True, count=more))
    return problems, (
        f"{len(members):,} images have the same pixels as one of another class ({twins[0]}"
        f"{', …' if len(members) > 2 else ''}): where both are in one split they are kept under both labels; remove the wrong ones"
    )


def _copies(kept: Mapping[str, Images]) -> tuple[list[Problem], str]:
    """Held-out and test images nearly the same as a training image, and a line on them. They are kept: they may well differ."""
    train = kept["train"]
    if len(train) > MOST_KNOWN:
        return [], f"near duplicates across splits were not looked for: there are more than {MOST_KNOWN:,} training images"
    known = train.thumbnails
    problems, counts, example = list[Problem](), [], ""
    for name in ("held-out", "test"):
        images = kept[name].sample(MOST)
        pairs = alike(images.thumbnails, known)
        for i, j in pairs[:MOST_LISTED]:
            example = example or f"{images.name(i)} and {train.name(j)}"
            about = f"kept: a {name} image nearly the same as the training image {train.name(j)}"
            problems.append(Problem(images.name(i), about, doubtful=True, alike=True))
        if len(pairs) > MOST_LISTED:
            more, about = len(pairs) - MOST_LISTED, f"kept: {name} images nearly the same as a training image"
            problems.append(Problem(f"{more:,} more", about, doubtful=True, count=more, alike=True))
        if pairs:
            counts.append(f"{len(pairs):,} of {len(images):,} {name} images")
    if not counts:
        return [], ""
    return problems, (
        f"{' and '.join(counts)} are nearly the same as a training image ({example}): accuracy may look better than it is; "
        f"{'another ' if train.groups else ''}--group keeps images that belong together in one split"
    )


def _without_images(classes: Sequence[str], kept: Mapping[str, Images]) -> str:
    """A line on classes without images in a split; this needs `Reading.few`."""
    lacking = [
        (name, i) for name, images in kept.items() for i in np.flatnonzero(images_of(images.labels, len(classes)) == 0).tolist()
    ]
    shown = ", ".join(f"{classes[i]} ({name})" for name, i in lacking[:6])
    return f"classes without images in a split: {shown}{', …' if len(lacking) > 6 else ''}" if lacking else ""


def _on_both_sides(kept: Mapping[str, Images]) -> str:
    """A line on groups that the data's own splits divide."""
    groups = {name: set(images.groups) for name, images in kept.items() if images.groups is not None}
    texts = []
    for a, b in combinations(groups, 2):
        if shared := groups[a] & groups[b]:
            texts.append(f"{len(shared):,} in {a} and {b} ({min(shared)}{', …' if len(shared) > 1 else ''})")
    return f"groups that the data's own splits divide: {'; '.join(texts)}" if texts else ""


def _listed(left_out: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    for reason, names in left_out.items():
        for name in sorted(names)[:MOST_LISTED]:
            yield Problem(name, f"left out: {reason}")
        if len(names) > MOST_LISTED:
            more = len(names) - MOST_LISTED
            yield Problem(f"{more:,} more", f"left out: {reason}", count=more)


def _divide_parts(source: Source, few: bool) -> dict[str, Part]:
    """Train, test and perhaps held-out; test images are drawn from train if the data have none."""
    train, test = source.train, source.test
    if test is None:
        _check_counts(source, train.labels, 1 if few else LEAST_PER_CLASS + 1, "train")
        chosen = some(train.labels, train.groups, TEST_SHARE, np.random.default_rng(0), few)
        test = train.subset(chosen)
        train = train.subset(np.setdiff1d(np.arange(len(train)), chosen))
    parts = {"train": train, "test": test}
    return parts if source.held_out is None else {**parts, "held-out": source.held_out}


def _without(images: Images, others: Images) -> Images:
    """The images whose pixels are not among the others'."""
    return images.subset(np.flatnonzero(~np.isin(images.digests, others.digests)))


def _fingerprint(classes: tuple[str, ...], *splits: Images) -> str:
    texts = [text for split in splits for text in (split.digests.tobytes().hex(), split.labels.tobytes().hex())]
    return digest([*classes, *texts])[:16]
