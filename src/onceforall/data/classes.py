"""`--classes`: which classes are used, in which order, and which are merged."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.readable import plural
from ..errors import DataError
from .formats.scan import listed, same_name, shown
from .originals import Indices, Part, Source
from .reading import Classes

# How programs and people write a missing value.
MISSING = frozenset(
    ["nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "undefined", "-1", "-1.0", "?", "-", "unlabeled", "unlabelled"]
)
MASK = re.compile(r"[ _.-](mask|seg|segmentation|gt|groundtruth|annotation)s?([ _-]?\d+)?$", re.IGNORECASE)


def chosen_classes(source: Source, classes: Classes) -> Source:
    """The data with only these classes, in this order, merged as requested.

    Raises:
        DataError: the data have no such class.
    """
    numbers: dict[str, list[int]] = {}  # several, where the data give several classes one name
    for number, name in enumerate(source.classes):
        numbers.setdefault(same_name(name), []).append(number)
    for name in (part for _, parts in classes for part in parts):
        if name not in numbers:
            near = difflib.get_close_matches(name, numbers, 3) or list(numbers)[:6]
            raise DataError(f"{source.name}: --classes names {name}, which is not a class there: did you mean {listed(near, 6)}?")
    number_of = np.full(len(source.classes), -1, np.int64)
    for number, (_, parts) in enumerate(classes):
        number_of[[i for part in parts for i in numbers[part]]] = number
    before = (source.train, source.test, source.held_out)
    train, test, held_out = after = [part and _relabelled(part, number_of) for part in before]
    assert train is not None
    remarks = source.remarks
    if dropped := [source.classes[i] for i in np.flatnonzero(number_of < 0)]:
        images = sum(len(part) for part in before if part) - sum(len(part) for part in after if part)
        count = f" ({plural(images, 'image')})" if train.labels.ndim == 1 else ""
        remarks = (*remarks, f"--classes leaves out {listed(dropped, 6)}{count}")
    names = tuple(name for name, _ in classes)
    files = _without_others(source, number_of)
    return replace(source, classes=names, train=train, test=test, held_out=held_out, remarks=remarks, files=files)


def doubtful_names(classes: Sequence[str]) -> Iterator[str]:
    """Lines on class names that are probably mistakes: duplicates, names that hardly differ, words for a missing label."""
    groups: dict[object, list[str]] = {}
    for name in classes:
        groups.setdefault(_folded(name), []).append(name)
    alike = [names for names in groups.values() if len(names) > 1]
    if alike:
        some = "; ".join(listed(names) for names in alike[:3]) + ("; …" if len(alike) > 3 else "")
        first = next((names for names in alike if len(set(names)) == len(names)), None)
        what = "occur twice or hardly differ" if any(len(set(names)) < len(names) for names in alike) else "hardly differ"
        how = f", --classes {first[0]}={'+'.join(first)},… merges them" if first else ": give each its own name"
        yield f"class names that {what}: {some}: each is a class of its own; if that is not intended{how}"
    if missing := [shown(name) for name in classes if name.strip().casefold() in MISSING]:
        yield f"used as a class: {', '.join(missing)}; if that means a missing label, name only the other classes with --classes"


def masks_among(parts: Iterable[Part]) -> Iterator[str]:
    """A line on images that are named like masks of other images, as in data sets for segmentation."""
    stems = [os.path.splitext(name)[0] for part in parts for name in part.names]
    there = set(stems)
    if masks := [stem for stem in stems if (found := MASK.search(stem)) and stem[: found.start()] in there]:
        what = f"{len(masks):,} of {plural(len(stems), 'image')} are named like masks of others ({masks[0]})"
        yield f"{what}: they are used as photographs of their class; if they are masks, move them away"


def _folded(name: str) -> object:
    """Equal for names that differ only in case, in spaces, hyphens and underscores, or in how a number is written."""
    try:
        return float(name)
    except ValueError:
        return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


def _without_others(source: Source, number_of: Indices) -> Sequence[str]:
    """The files, without images of unused classes."""
    unused = set[str]()
    for part in (source.train, source.test, source.held_out):
        if part is not None and part.labels.ndim == 1 and source.files:
            loads = part.singles(np.flatnonzero(number_of[part.labels] < 0))
            unused.update(str(load.original) for load in loads if isinstance(load.original, Path))
    return [file for file in source.files if file not in unused]


def _relabelled(part: Part, number_of: Indices) -> Part:
    """The part with new labels, without images of unused classes; images keep their identity in the cache.

    Multi-label images are all kept.
    """
    if part.labels.ndim == 2:
        labels: NDArray[np.float32] = np.zeros((len(part), int(number_of.max()) + 1), np.float32)
        for old, new in enumerate(number_of):
            if new >= 0:
                labels[:, new] = np.maximum(labels[:, new], part.labels[:, old])
        return replace(part, labels=labels)
    labels = np.where((part.labels >= 0) & (part.labels < len(number_of)), part.labels, -1)
    if (labels < 0).any():
        raise DataError(f"{part.names[int(np.argmin(labels))]} and others have no label: leave them out")
    kept = np.flatnonzero(number_of[labels] >= 0)
    chosen = part if len(kept) == len(part) else part.subset(kept)
    return replace(chosen, labels=number_of[chosen.labels])
